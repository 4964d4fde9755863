select pipeline, slot, failures, next_start, last_error
  from ledger.restarts
 where failures > 0
 order by pipeline, slot
