-- Every partition of these tables, as they live: counts, how far it is, how far the log is, when it last moved.
select v.table_name as "table", v.table_version, v.pipeline, v.created_at, p.shard, p.topic, p.partition, p.first_offset, p.next_offset,
       p.gaps, p.consumed, p.applied, p.late, p.duplicate, p.dead_lettered, p.filtered, p.control, p.late_applied, p.replayed, p.level_at,
       e.end_offset, e.next_timestamp, e.seen_at, s.error, s.claimed_at, b.ended_at as committed_at
  from ledger.positions p
  join ledger.table_versions v using (table_version)
  join ledger.shards s using (table_version, shard)
  left join ledger.ends e on e.pipeline = v.pipeline and e.topic = p.topic and e.partition = p.partition
  left join lateral (
        select ended_at
          from ledger.batch_index b
         where b.table_version = p.table_version
           and b.shard = p.shard
           and b.topic = p.topic
           and b.partition = p.partition
         order by b.from_offset desc
         limit 1) b on true
 where v.role = 'live' and v.table_name = any(%(tables)s)
 order by v.table_name, p.topic, p.partition
