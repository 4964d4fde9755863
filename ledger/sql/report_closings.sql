-- How far the rows of each live table that emits are final, what is not sent yet, and the partitions that hold it back.
-- Idle ones do not.
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
  left join ledger.inputs p using (table_version)
 where v.role = 'live'
 group by v.pipeline, v.table_name, c.table_version
 order by v.pipeline, v.table_name
