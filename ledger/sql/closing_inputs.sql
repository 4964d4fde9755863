select partition, watermark, ended, moved, idle
  from ledger.inputs
 where table_version = %(table_version)s
 order by partition
