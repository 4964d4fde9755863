-- Why shards stand still, and why what they have sent does not reach Kafka.
select pipeline, shard, max(error) as error
  from (select v.pipeline, s.shard, s.error
          from ledger.shards s
          join ledger.table_versions v using (table_version)
         where s.error is not null
         union all
        select pipeline, shard, error
          from ledger.outboxes
         where error is not null) found
 group by pipeline, shard
 order by pipeline, shard
