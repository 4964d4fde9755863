-- How far every partition has come that the table reads.
select partition, watermark, ended, next_offset + correction_seq as moved
  from ledger.positions
 where table_version = %(table_version)s
 order by partition
