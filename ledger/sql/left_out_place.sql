-- A live table with a state of its own, and the partitions it reads.
select v.table_version, v.pipeline, p.topic, p.topic_id, p.partition, coalesce(v.definition -> 'window' ? 'count', false)
  from ledger.table_versions v
  join ledger.positions p using (table_version)
 where v.table_name = %(table)s and v.role = 'live'
 order by p.topic, p.partition
