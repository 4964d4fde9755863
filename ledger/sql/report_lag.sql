-- From the position of the slowest live table on; from the first kept offset where no table has read the partition yet.
with live as (
    select v.pipeline, p.topic, p.partition, min(p.next_offset) as next_offset
      from ledger.positions p
      join ledger.table_versions v using (table_version)
     where v.role = 'live'
     group by v.pipeline, p.topic, p.partition
), found as (
    select pipeline, topic, partition, coalesce(l.next_offset, e.low_offset) as next_offset, e.end_offset, e.next_timestamp,
           e.seen_at
      from live l
      full join ledger.ends e using (pipeline, topic, partition)
)
select pipeline, topic, partition, next_offset, end_offset,
       case when end_offset is not null then greatest(0, end_offset - next_offset) end as records,  -- greatest() skips nulls
       case when end_offset > next_offset and next_timestamp is not null
            then greatest(0, extract(epoch from clock_timestamp() - next_timestamp))::float8 end as seconds,
       seen_at
  from found
 where next_offset is not null
 order by pipeline, topic, partition
