-- Ends exactly the backend of the last claim: a pid alone could belong to somebody else by now.
select pg_terminate_backend(a.pid)
  from ledger.closings c
  join pg_stat_activity a on a.pid = c.backend_pid and a.backend_start = c.backend_start
 where c.table_version = %(table_version)s
   and a.pid <> pg_backend_pid()
