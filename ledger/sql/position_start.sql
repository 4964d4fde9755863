insert into ledger.positions (table_version, shard, topic, partition, topic_id, first_offset, next_offset)
values (%(table_version)s, %(shard)s, %(topic)s, %(partition)s, %(topic_id)s, %(first_offset)s, %(first_offset)s)
on conflict do nothing
