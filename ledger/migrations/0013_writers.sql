-- A shard has an outbox for each thing that it sends: dead letters (the writer is the pipeline), rows of a table that
-- emits its changes (the writer is the table version). Each goes to a topic of its own, at a pace of its own.
alter table ledger.outboxes add column writer text;
update ledger.outboxes set writer = pipeline;
alter table ledger.outboxes
    alter column writer set not null,
    drop constraint outboxes_pkey,
    add primary key (writer, shard);
