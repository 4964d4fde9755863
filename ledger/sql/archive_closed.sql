-- Files of days that the watermark of their partition has passed, more than one of which can become one.
select f.file, f.date, f.partition, f.from_offset, f.to_offset, f.rows, f.bytes, f.sha256
  from ledger.archive_files f
  join ledger.positions p using (table_version, partition)
 where f.table_version = %(table_version)s and f.replaced_at is null
   and p.watermark >= extract(epoch from f.date + 1) * 1000000
 order by f.date, f.partition, f.from_offset
