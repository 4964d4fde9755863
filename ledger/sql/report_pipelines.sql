select pipeline, desired, case when override_until > clock_timestamp() then override end as override, override_until
  from ledger.pipelines
 order by pipeline
