select pipeline, desired, case when override_until > clock_timestamp() then override end as override,
       case when override_until > clock_timestamp() and override is not null then override_until end as override_until, changed_at
  from ledger.pipelines
 order by pipeline
