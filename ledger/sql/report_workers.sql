select worker, pipeline, host, pid,
       case when state in ('starting', 'running', 'draining') and heartbeat_at < clock_timestamp() - interval '15 seconds' then 'silent'
            else state end as state,
       shards, started_at, heartbeat_at,
       extract(epoch from clock_timestamp() - heartbeat_at)::float8 as silent_s, records, records_per_s, last_error
  from ledger.workers w
 where state in ('starting', 'running', 'draining')
    or (state in ('failed', 'lost') and not exists (
        select from ledger.workers n where n.pipeline = w.pipeline and n.started_at > w.started_at))
 order by pipeline, worker
