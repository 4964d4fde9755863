-- Rows that were changed after they were final stand beside the table's state, in columns of the key's own types.
drop table ledger.touched_closed;

alter table ledger.closings
    add column ended_mark bigint,                -- sum of the inputs' positions when end-of-input markers closed rows
    add column announced boolean not null default false,  -- Kafka has an offset of this build; a missing one is an error
    add column error text;                       -- why final rows stand still; null while they run
