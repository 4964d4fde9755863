-- Of one topic, per partition: where the slowest live table of the pipeline stands, null where none has read yet; the date
-- (seconds since 1970) of the oldest unread record as it was last known; whether a worker that lives reads it.
with live as (
    select p.partition, min(p.next_offset) as next_offset
      from ledger.positions p
      join ledger.table_versions v using (table_version)
     where v.role = 'live' and v.pipeline = %(pipeline)s and p.topic = %(topic)s
     group by p.partition
), seen as (
    select partition, extract(epoch from next_timestamp)::float8 as waiting_since
      from ledger.ends
     where pipeline = %(pipeline)s and topic = %(topic)s
)
select partition, live.next_offset, seen.waiting_since,
       exists (select from ledger.workers w
                where w.pipeline = %(pipeline)s and partition = any(w.shards)
                  and w.state in ('starting', 'running', 'draining')
                  and w.heartbeat_at > clock_timestamp() - make_interval(secs => %(seconds)s)) as is_read
  from generate_series(0, %(partitions)s - 1) as partition
  left join live using (partition)
  left join seen using (partition)
 order by partition
