select count(*)
  from ledger.workers
 where pipeline = %(pipeline)s
   and state in ('starting', 'running')
   and heartbeat_at > clock_timestamp() - make_interval(secs => %(seconds)s)
