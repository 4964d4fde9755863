insert into ledger.workers as w (worker, pipeline, host, pid, process_start, state, shards, records, records_per_s, last_error)
values (%(worker)s, %(pipeline)s, %(host)s, %(pid)s, %(process_start)s, %(state)s, %(shards)s, %(records)s, %(records_per_s)s, %(last_error)s)
on conflict (worker) do update
   set state = excluded.state, shards = excluded.shards, records = excluded.records, records_per_s = excluded.records_per_s,
       last_error = excluded.last_error, heartbeat_at = clock_timestamp()
