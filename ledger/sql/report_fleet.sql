select instance, ticked_at, greatest(0, extract(epoch from clock_timestamp() - ticked_at))::float8 as silent_s
  from ledger.fleet
