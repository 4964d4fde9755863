-- A shard of a pipeline has one outbox, whatever the number of its tables: what they send together is numbered here, in
-- a row that the transaction of a batch locks last, and only when it has something to send.
create table ledger.outboxes (
    pipeline text not null,
    shard int not null,
    born timestamptz not null default clock_timestamp(),  -- which build: the pipeline's tables are dropped with it
    epoch bigint not null,                       -- raised by every claim of the shard
    owner text not null,
    outbox_seq bigint not null default 0,        -- number of the last record handed to the outbox
    published_seq bigint not null default 0,     -- mirror of the number confirmed by Kafka
    announced boolean not null default false,    -- Kafka has an offset of this build; a missing one is an error
    error text,                                  -- why nothing is published; null while all is well
    primary key (pipeline, shard)
) with (fillfactor = 50);

alter table ledger.shards drop column outbox_seq, drop column published_seq;

-- Who writes: a table version (its closer, shard -1) or a pipeline. Headers are pairs of name and text.
alter table ledger.outbox rename column table_version to writer;
alter table ledger.outbox alter column headers set default '[]';
update ledger.outbox set headers = '[]';
