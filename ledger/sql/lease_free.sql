-- Of the given names, those that nobody holds.
select name
  from unnest(%(names)s::text[]) as name
 where not exists (select from ledger.leases l where l.name = name.name and l.expires_at >= clock_timestamp())
