-- Lakes of Parquet files: which cuts of a partition they hold, and which files readers go through.

-- The cut that is being written. A retry makes the same one, so that its files overwrite themselves.
create table ledger.archive_intents (
    table_version text not null,
    shard int not null,
    from_offset bigint not null,
    to_offset bigint not null,
    intended_at timestamptz not null default now(),
    primary key (table_version, shard),
    foreign key (table_version, shard) references ledger.shards on delete cascade
) with (fillfactor = 50);

-- Every offset of [from_offset, to_offset) is a row of a file, or in one of the three sets.
create table ledger.archive_cuts (
    table_version text not null references ledger.table_versions on delete cascade,
    partition int not null,
    from_offset bigint not null,
    to_offset bigint not null,
    rows bigint not null,
    refused int8multirange not null,             -- dead letters
    control int8multirange not null,             -- end-of-input markers
    absent int8multirange not null,              -- never delivered: Kafka's own markers, aborted, compacted
    written_at timestamptz not null default now(),
    primary key (table_version, partition, from_offset)
);

create table ledger.archive_files (
    file text primary key,                       -- a path, or s3://bucket/key
    table_version text not null references ledger.table_versions on delete cascade,
    date date not null,                          -- UTC day of the event times in it
    partition int not null,
    from_offset bigint not null,
    to_offset bigint not null,
    rows bigint not null,
    bytes bigint not null,
    sha256 text not null,
    written_at timestamptz not null default now(),
    replaced_at timestamptz                      -- when compaction made another of it; deleted a while later
);
create index archive_files_by_date on ledger.archive_files (table_version, date, partition) where replaced_at is null;
