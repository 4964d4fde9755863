-- How far the rows of each live table that emits are final, what is not sent yet, and the partitions that hold it back.
-- Idle ones, as in closing_inputs.sql, do not.
with places as (
    select p.table_version, p.partition, p.watermark, p.ended,
           coalesce(p.next_offset >= e.end_offset
                    and e.seen_at > clock_timestamp() - interval '60 seconds'
                    and coalesce(b.ended_at, v.created_at)
                        < clock_timestamp() - (v.definition -> 'emit' ->> 2)::bigint * interval '1 microsecond', false) as idle
      from ledger.closings c
      join ledger.table_versions v using (table_version)
      join ledger.positions p using (table_version)
      left join ledger.ends e on e.pipeline = v.pipeline and e.topic = p.topic and e.partition = p.partition
      left join lateral (
            select ended_at
              from ledger.batch_index b
             where b.table_version = p.table_version
               and b.shard = p.shard
               and b.topic = p.topic
               and b.partition = p.partition
             order by b.from_offset desc
             limit 1) b on true
)
select v.pipeline, v.table_name as "table", c.closed_through, c.outbox_seq, c.published_seq, c.error,
       coalesce(array_agg(p.partition order by p.partition)
                filter (where p.partition is not null and p.watermark is null and not p.idle), '{}') as silent,
       (array_agg(p.partition order by p.watermark, p.partition) filter (where p.watermark is not null and not p.idle))[1] as slowest,
       min(p.watermark) filter (where not p.idle) as watermark,
       max(p.watermark) as furthest,
       coalesce(bool_and(p.ended is not null), false) as ended,
       bool_or(v.definition -> 'window' -> 'count' is not null) as by_offset
  from ledger.closings c
  join ledger.table_versions v using (table_version)
  left join places p using (table_version)
 where v.role = 'live'
 group by v.pipeline, v.table_name, c.table_version
 order by v.pipeline, v.table_name
