select r.record_id, r.topic, r.partition, r."offset", r.file_hash, r.file_name, r.line, r.payload, r.key, r.headers,
       r.kafka_timestamp, r.recorded_at,
       (select jsonb_object_agg(d.table_version, d.reason || case when d.detail = '' then '' else ': ' || d.detail end)
          from ledger.dead_letters d where d.record_id = r.record_id) as reasons
  from ledger.dead_letter_records r
 where r.record_id = :record_id
