select v.pipeline, p.topic, p.partition, min(p.next_offset) as next_offset, max(e.end_offset) as end_offset,
       greatest(0, max(e.end_offset) - min(p.next_offset)) as records,
       case when max(e.end_offset) > min(p.next_offset) and max(e.next_timestamp) is not null
            then greatest(0, extract(epoch from clock_timestamp() - max(e.next_timestamp)))::float8 end as seconds,
       max(e.seen_at) as seen_at
  from ledger.positions p
  join ledger.table_versions v using (table_version)
  left join ledger.ends e on e.pipeline = v.pipeline and e.topic = p.topic and e.partition = p.partition
 where v.role = 'live'
 group by v.pipeline, p.topic, p.partition
 order by v.pipeline, p.topic, p.partition
