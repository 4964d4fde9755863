-- What people decided about dead letters: an append-only log per partition. A correction belongs to coordinates and to a
-- table's name, not to one version of the table: a table that is built anew applies the same corrections again.
drop table ledger.corrections;
create table ledger.corrections (
    topic text not null,
    partition int not null,
    seq bigint not null,                         -- 1, 2, 3, ... within the partition
    topic_id text not null,                      -- a topic that was made again has other records at the same offsets
    "offset" bigint not null,
    table_name text not null,
    action text not null check (action in ('replay', 'drop')),
    payload bytea,                               -- in place of the record's own; null: as it is
    requested_by text not null,
    note text not null default '',
    created_at timestamptz not null default now(),
    primary key (topic, partition, seq)
);
create index corrections_of_a_record on ledger.corrections (topic, partition, "offset", table_name);

create table ledger.correction_outcomes (
    table_version text not null references ledger.table_versions on delete cascade,
    topic text not null,
    partition int not null,
    seq bigint not null,
    "offset" bigint not null,
    outcome text not null check (outcome in ('replayed', 'refused', 'dropped', 'needless')),
    reason text not null default '',
    detail text not null default '',
    decided_at timestamptz not null default now(),
    primary key (table_version, topic, partition, seq)
);
create unique index replayed_once on ledger.correction_outcomes (table_version, topic, partition, "offset")
    where outcome = 'replayed';

create table ledger.correction_index (           -- like the batch index: what one commit of corrections touched
    table_version text not null references ledger.table_versions on delete cascade,
    shard int not null,
    topic text not null,
    partition int not null,
    to_seq bigint not null,
    from_offset bigint not null,                 -- of the records that were applied
    to_offset bigint not null,
    min_event bigint,
    max_event bigint,
    days int[] not null default '{}',
    ended_at timestamptz not null default now(),
    primary key (table_version, topic, partition, to_seq)
);

alter table ledger.positions add column correction_seq bigint not null default 0;  -- of the last correction decided
alter table ledger.shards drop column correction_seq;
alter table ledger.dead_letters
    add column changed_by text,                  -- who asked for the state it is in
    add column note text not null default '';
