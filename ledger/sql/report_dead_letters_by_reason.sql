select reason, count(distinct record_id)
  from ledger.dead_letters
 where table_version <> 'ingest' and reason not in ('late', 'duplicate')  -- these were counted, and replayed since
 group by reason
 order by reason
