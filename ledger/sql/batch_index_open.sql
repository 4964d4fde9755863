insert into ledger.batch_index
    (table_version, shard, topic, partition, from_offset, to_offset, records, applied, min_event, max_event, watermark_before, days,
     skipped, lookup_vector)
values (%(table_version)s, %(shard)s, %(topic)s, %(partition)s, %(from_offset)s, %(to_offset)s, %(consumed)s, %(applied)s,
        %(min_event)s, %(max_event)s, %(watermark_before)s, %(days)s, %(skipped)s,
        %(lookup_vector)s::jsonb)
