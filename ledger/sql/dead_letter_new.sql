-- Of these offsets those that no table of the pipeline has refused before: one that is behind the others comes later.
select g."offset"
  from unnest(%(offset)s::bigint[]) as g("offset")
 where not exists (
        select
          from ledger.dead_letter_records r
          join ledger.dead_letters d using (record_id)
          join ledger.table_versions v on v.table_version = d.table_version
         where r.topic = %(topic)s
           and r.partition = %(partition)s
           and r."offset" = g."offset"
           and r.file_hash is null
           and r.line is null
           and d.reason not in ('late', 'duplicate')  -- was left out, replayed, and never sent
           and v.pipeline = %(pipeline)s)
