update ledger.leases
   set expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
 where holder = %(holder)s
   and name = any(%(names)s)
returning name
