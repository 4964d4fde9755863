-- A claim raises the epoch. It waits for a commit in flight, and fences every later one of the old owner.
update ledger.shards
   set epoch = nextval('ledger.epochs'),
       owner = %(worker)s,
       backend_pid = pg_backend_pid(),
       backend_start = (select backend_start from pg_stat_activity where pid = pg_backend_pid()),
       claimed_at = clock_timestamp()
 where table_version = %(table_version)s
   and shard = %(shard)s
returning epoch
