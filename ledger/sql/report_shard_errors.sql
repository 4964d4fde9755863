select v.pipeline, s.shard, max(s.error) as error
  from ledger.shards s
  join ledger.table_versions v using (table_version)
 where s.error is not null
 group by v.pipeline, s.shard
 order by v.pipeline, s.shard
