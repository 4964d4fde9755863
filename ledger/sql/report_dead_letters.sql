select r.record_id, r.topic, r.partition, r."offset", r.file_name, r.line, d.table_version, d.reason, d.detail, d.state, r.recorded_at
  from ledger.dead_letters d
  join ledger.dead_letter_records r using (record_id)
 where (cast(:reason as text) is null or d.reason = :reason)
   and (cast(:table as text) is null or split_part(d.table_version, '@', 1) = :table)
 order by r.record_id desc, d.table_version
 limit :limit
