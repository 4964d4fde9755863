-- A replay holds the record it is about: a table that is built anew decides it again, and what was late or a duplicate is
-- nowhere else in the ledger by then.
alter table ledger.corrections
    add column record bytea,                     -- the record's own payload
    add column key bytea,
    add column headers jsonb,
    add column kafka_timestamp timestamptz;
update ledger.corrections c
   set record = r.payload, key = r.key, headers = r.headers, kafka_timestamp = r.kafka_timestamp
  from ledger.dead_letter_records r
 where c.action = 'replay'
   and r.topic = c.topic
   and r.partition = c.partition
   and r."offset" = c."offset"
   and r.file_hash is null
   and r.line is null;
