-- One statement is one snapshot: positions and batch index of the same moment. The tail is asked for only where a
-- table began before the floor; entries of one table and partition follow each other without a hole.
with given as (
    select * from unnest(%(partitions)s::int[], %(floors)s::bigint[]) as g(partition, floor)
)
select v.table_name, p.table_version, p.topic_id, p.partition, p.first_offset, p.next_offset, p.consumed, p.control, p.gaps,
       t.from_offset, t.to_offset, t.records
  from ledger.positions p
  join ledger.table_versions v using (table_version)
  left join given g on g.partition = p.partition and g.floor > p.first_offset
  left join lateral (
      select min(b.from_offset) as from_offset, max(b.to_offset) as to_offset, sum(b.records)::bigint as records
        from ledger.batch_index b
       where b.table_version = p.table_version and b.shard = p.shard and b.topic = p.topic
         and b.partition = p.partition and b.from_offset >= g.floor
  ) t on g.partition is not null
 where v.role = 'live' and p.topic = %(topic)s and v.table_name = any(%(tables)s)
 order by v.table_name, p.partition
