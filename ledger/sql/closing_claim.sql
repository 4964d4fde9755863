-- A claim raises the epoch. It waits for a commit in flight, and fences every later one of the old owner.
update ledger.closings c
   set epoch = nextval('ledger.epochs'),
       owner = %(worker)s,
       backend_pid = pg_backend_pid(),
       backend_start = (select backend_start from pg_stat_activity where pid = pg_backend_pid())
  from ledger.table_versions v
 where c.table_version = %(table_version)s
   and v.table_version = c.table_version
returning c.epoch, v.created_at::text, c.outbox_seq, c.published_seq, c.announced
