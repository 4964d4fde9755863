-- How far every partition has come that a table reads, and whether it is idle: for so long as the table declares its
-- position has not moved and was the end, as far as somebody has seen a moment ago. Closers and reports read the same.
create view ledger.inputs as
select p.table_version, p.partition, p.watermark, p.ended, p.next_offset + p.correction_seq as moved,
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
         limit 1) b on true;
