-- Takes a lease that is free, expired or already ours; the database's clock decides, not the worker's.
insert into ledger.leases as l (name, holder, expires_at)
values (%(name)s, %(holder)s, clock_timestamp() + make_interval(secs => %(seconds)s))
on conflict (name) do update
   set holder = excluded.holder, expires_at = excluded.expires_at
 where l.holder = excluded.holder or l.expires_at < clock_timestamp()
returning name
