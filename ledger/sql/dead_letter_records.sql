-- The payload once per coordinates; a second table that refuses the same record finds it here.
with given as (
    select * from unnest(%(topic)s::text[], %(partition)s::int[], %(offset)s::bigint[], %(file_hash)s::text[],
                         %(file_name)s::text[], %(line)s::bigint[], %(payload)s::bytea[], %(key)s::bytea[],
                         %(headers)s::text[], %(kafka_timestamp)s::timestamptz[], %(table_version)s::text[],
                         %(reason)s::text[], %(detail)s::text[])
        as g(topic, partition, "offset", file_hash, file_name, line, payload, key, headers, kafka_timestamp,
             table_version, reason, detail)
), once as (
    select distinct on (topic, partition, "offset", file_hash, line) *
      from given
), added as (
    insert into ledger.dead_letter_records
        (topic, partition, "offset", file_hash, file_name, line, payload, key, headers, kafka_timestamp)
    select topic, partition, "offset", file_hash, file_name, line, payload, key, headers::jsonb, kafka_timestamp
      from once
        on conflict on constraint dead_letter_once do update set topic = excluded.topic
    returning record_id, topic, partition, "offset", file_hash, line
)
insert into ledger.dead_letters (record_id, table_version, reason, detail)
select a.record_id, g.table_version, g.reason, g.detail
  from given g
  join added a
    on a.topic = g.topic
   and a.partition is not distinct from g.partition
   and a."offset" is not distinct from g."offset"
   and a.file_hash is not distinct from g.file_hash
   and a.line is not distinct from g.line
    on conflict (record_id, table_version) do nothing
