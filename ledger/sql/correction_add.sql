-- Corrections of dead letters that are in one of the states given and have no replay that is still to be decided (a drop
-- that is may be taken back by a replay: the last word counts). The caller holds the lock of the log, so that numbers
-- become visible in their order.
with given as (
    select * from unnest(%(record_id)s::bigint[], %(table_version)s::text[], %(payload)s::bytea[])
        as g(record_id, table_version, payload)
), free as (
    select g.record_id, g.table_version, g.payload, r.topic, r.partition, r."offset", p.topic_id, v.table_name,
           r.payload as record, r.key, r.headers, r.kafka_timestamp
      from given g
      join ledger.dead_letters d using (record_id, table_version)
      join ledger.dead_letter_records r using (record_id)
      join ledger.table_versions v using (table_version)
      join ledger.positions p
        on p.table_version = g.table_version and p.topic = r.topic and p.partition = r.partition
     where d.state = any(%(states)s)
       and not v.definition ? 'archive'
       and not exists (
           select from ledger.corrections c
            where c.topic = r.topic and c.partition = r.partition and c."offset" = r."offset"
              and c.table_name = v.table_name and c.topic_id = p.topic_id and c.seq > p.correction_seq
              and c.action = 'replay')
), added as (
    insert into ledger.corrections
        (topic, partition, seq, topic_id, "offset", table_name, action, payload, requested_by, note, record, key,
         headers, kafka_timestamp)
    select f.topic, f.partition,
           coalesce((select max(c.seq) from ledger.corrections c where c.topic = f.topic and c.partition = f.partition), 0)
           + row_number() over (partition by f.topic, f.partition order by f."offset", f.table_name),
           f.topic_id, f."offset", f.table_name, %(action)s, f.payload, %(requested_by)s, %(note)s,
           f.record, f.key, f.headers, f.kafka_timestamp
      from free f
)
select record_id, table_version from free order by record_id, table_version
