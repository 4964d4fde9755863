insert into ledger.ends (pipeline, topic, partition, end_offset, next_timestamp)
values (%(pipeline)s, %(topic)s, %(partition)s, %(end_offset)s, %(next_timestamp)s)
on conflict (pipeline, topic, partition) do update
   set end_offset = excluded.end_offset, next_timestamp = excluded.next_timestamp, seen_at = clock_timestamp()
