-- How far the rows of each live table that emits are final, what is not sent yet, and the partitions that hold it back.
select v.pipeline, v.table_name as "table", c.closed_through, c.outbox_seq, c.published_seq, c.error,
       coalesce(array_agg(p.partition order by p.partition) filter (where p.partition is not null and p.watermark is null), '{}')
           as silent,
       (array_agg(p.partition order by p.watermark, p.partition) filter (where p.watermark is not null))[1] as slowest,
       min(p.watermark) as watermark,
       max(p.watermark) as furthest,
       coalesce(bool_and(p.ended is not null), false) as ended,
       bool_or(v.definition -> 'window' -> 'count' is not null) as by_offset
  from ledger.closings c
  join ledger.table_versions v using (table_version)
  left join ledger.positions p using (table_version)
 where v.role = 'live'
 group by v.pipeline, v.table_name, c.table_version
 order by v.pipeline, v.table_name
