select worker, pipeline, state, started_at, heartbeat_at, records_per_s, last_error
  from ledger.workers
 where state in ('starting', 'running', 'draining')
 order by pipeline, worker
