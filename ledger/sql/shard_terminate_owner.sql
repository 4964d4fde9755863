-- Ends exactly the backend of the last claim: a pid alone could belong to somebody else by now.
select pg_terminate_backend(a.pid)
  from ledger.shards s
  join pg_stat_activity a on a.pid = s.backend_pid and a.backend_start = s.backend_start
 where s.table_version = %(table_version)s
   and s.shard = %(shard)s
   and a.pid <> pg_backend_pid()
