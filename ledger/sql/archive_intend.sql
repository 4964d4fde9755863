-- Before a file is written: which cut it is of. No row comes back when another worker owns the shard, or when an intent
-- of another cut stands, which has to be honoured.
with owned as (
    select table_version, shard
      from ledger.shards
     where table_version = %(table_version)s and shard = %(shard)s and epoch = %(epoch)s
       for update
)
insert into ledger.archive_intents as i (table_version, shard, from_offset, to_offset)
select o.table_version, o.shard, %(from_offset)s, %(to_offset)s
  from owned o
  join ledger.positions p using (table_version, shard)
 where p.topic = %(topic)s and p.partition = %(partition)s and p.next_offset = %(from_offset)s
on conflict (table_version, shard) do update
   set intended_at = now()
 where i.from_offset = excluded.from_offset and i.to_offset = excluded.to_offset
returning 1
