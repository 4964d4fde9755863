select reason, count(distinct record_id)
  from ledger.dead_letters
 where table_version <> 'ingest'
 group by reason
 order by reason
