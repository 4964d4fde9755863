-- Whose toggles count: the Dagster instance whose fleet sensor copies them into ledger.pipelines. One row at most.
create table ledger.fleet (
    one boolean primary key default true check (one),
    instance text not null,                      -- id of the instance's run storage
    ticked_at timestamptz not null               -- of its last tick
) with (fillfactor = 50);
