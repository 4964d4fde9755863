-- Days that commits have touched since the given offsets, with the offsets of those commits. A table without windows has
-- one row with no day. Entries are contiguous, so that the one holding `since` is the last that begins at or before it.
select b.table_version, b.partition, d.day, min(greatest(b.from_offset, g.since)) as from_offset, max(b.to_offset) as to_offset
  from unnest(%(versions)s::text[], %(shards)s::int[], %(topics)s::text[], %(partitions)s::int[], %(since)s::bigint[])
       as g(table_version, shard, topic, partition, since)
  join ledger.batch_index b using (table_version, shard, topic, partition)
  left join lateral unnest(b.days) as d(day) on true
 where b.to_offset > g.since
   and b.applied > 0
   and b.from_offset >= coalesce((
        select max(c.from_offset)
          from ledger.batch_index c
         where c.table_version = g.table_version
           and c.shard = g.shard
           and c.topic = g.topic
           and c.partition = g.partition
           and c.from_offset <= g.since), 0)
 group by b.table_version, b.partition, d.day
 order by b.table_version, d.day, b.partition
