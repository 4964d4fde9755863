-- How far live tables are, as one statement sees it; a table that no worker has begun to fill has one row of nulls.
select v.table_version, p.partition, p.next_offset, p.correction_seq
  from ledger.table_versions v
  left join ledger.positions p using (table_version)
 where v.role = 'live'
   and v.table_version = any(%(table_versions)s)
 order by v.table_version, p.partition
