select v.table_name as table, p.table_version, p.topic, p.partition, p.consumed, p.applied, p.late, p.duplicate, p.dead_lettered,
       p.filtered, p.control, p.late_applied, p.gaps, p.first_offset, p.next_offset
  from ledger.positions p
  join ledger.table_versions v using (table_version)
 where v.role = 'live'
 order by v.table_name, p.topic, p.partition
