insert into ledger.correction_index
    (table_version, shard, topic, partition, to_seq, from_offset, to_offset, min_event, max_event, days, lookup_vector)
values (%(table_version)s, %(shard)s, %(topic)s, %(partition)s, %(to_seq)s, %(from_offset)s, %(to_offset)s, %(min_event)s,
        %(max_event)s, %(days)s, %(lookup_vector)s::jsonb)
