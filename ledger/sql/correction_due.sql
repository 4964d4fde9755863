-- Corrections after the last one decided, oldest first. ours: of this table and of the topic that its position belongs to.
-- state is null for a record that is no dead letter of this table version; latest: nothing was decided on it since.
select c.seq, c."offset", c.table_name = %(table)s and c.topic_id = p.topic_id as ours, c.action,
       coalesce(c.payload, c.record, r.payload) as payload, coalesce(c.key, r.key) as key,
       coalesce(c.headers, r.headers, '{}') as headers, coalesce(c.kafka_timestamp, r.kafka_timestamp) as kafka_timestamp,
       d.state,
       not exists (
           select from ledger.corrections n
            where n.topic = c.topic and n.partition = c.partition and n."offset" = c."offset"
              and n.table_name = c.table_name and n.topic_id = c.topic_id and n.seq > c.seq) as latest,
       coalesce(c.record, r.payload) as record
  from ledger.positions p
  join ledger.corrections c on c.topic = p.topic and c.partition = p.partition
  left join ledger.dead_letter_records r
    on r.topic = c.topic and r.partition = c.partition and r."offset" = c."offset" and r.file_hash is null and r.line is null
  left join ledger.dead_letters d on d.record_id = r.record_id and d.table_version = p.table_version
 where p.table_version = %(table_version)s
   and p.shard = %(shard)s
   and p.topic = %(topic)s
   and p.partition = %(partition)s
   and c.seq > %(seq)s
 order by c.seq
 limit %(limit)s
