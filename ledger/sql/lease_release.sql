delete from ledger.leases where holder = %(holder)s and name = any(%(names)s)
