-- Neighbouring commits share one entry (engine rule E2): ten commits a second would make millions of rows a day.
update ledger.batch_index
   set to_offset = %(to_offset)s,
       records = records + %(consumed)s,
       applied = applied + %(applied)s,
       min_event = least(min_event, %(min_event)s),
       max_event = greatest(max_event, %(max_event)s),
       days = (select coalesce(array_agg(distinct d order by d), '{}') from unnest(days || %(days)s::int[]) as d),
       skipped = coalesce(skipped || %(skipped)s::bytea, skipped, %(skipped)s::bytea),
       ended_at = clock_timestamp()
 where table_version = %(table_version)s
   and shard = %(shard)s
   and topic = %(topic)s
   and partition = %(partition)s
   and from_offset = %(entry)s
   and to_offset = %(from_offset)s
   -- Records that were looked up at other vectors have an entry of their own; a batch without any goes with all.
   and lookup_vector is not distinct from coalesce(%(lookup_vector)s::jsonb, lookup_vector)
returning records, extract(epoch from clock_timestamp() - started_at)::float8
