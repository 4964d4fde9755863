select l.pipeline, l.desired, l.changed_at, l.override, l.override_until, coalesce(r.failures, 0) as failures, r.last_error
  from ledger.pipelines l
  left join lateral (
        select failures, last_error
          from ledger.restarts r
         where r.pipeline = l.pipeline
         order by failures desc
         limit 1) r on true
 order by l.pipeline
