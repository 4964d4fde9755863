insert into ledger.ends as e (pipeline, topic, partition, end_offset, next_timestamp, low_offset, seen_at)
values (%(pipeline)s, %(topic)s, %(partition)s, %(end_offset)s, %(next_timestamp)s, %(low_offset)s,
        clock_timestamp() - make_interval(secs => %(seen_ago)s))
on conflict (pipeline, topic, partition) do update
   set end_offset = excluded.end_offset, next_timestamp = excluded.next_timestamp,
       low_offset = coalesce(excluded.low_offset, e.low_offset), seen_at = excluded.seen_at
