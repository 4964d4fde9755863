-- The ledger: what has been done. All tables of promises 1-5; written by ledger/ alone.
-- Hot rows (positions, leases, workers) are updated several times a second: fillfactor leaves room for HOT updates.
create schema if not exists ledger;
create schema if not exists state;

create table ledger.table_versions (
    table_version text primary key,              -- name@hash of the declaration's semantic part
    table_name text not null,
    pipeline text not null,
    state_table text not null,                   -- qualified name of the state table
    role text not null default 'live' check (role in ('live', 'shadow', 'retired')),
    definition jsonb not null,
    created_at timestamptz not null default now()
);
create unique index table_versions_live on ledger.table_versions (table_name) where role = 'live';

create table ledger.shards (
    table_version text not null references ledger.table_versions on delete cascade,
    shard int not null,
    epoch bigint not null default 0,             -- fencing token: raised by every claim
    owner text,                                  -- worker id of the last claim
    backend_pid int,                             -- the owner's Postgres backend, terminated when it blocks a claim
    backend_start timestamptz,
    outbox_seq bigint not null default 0,        -- last sequence handed to an emitted record
    published_seq bigint not null default 0,     -- mirror of the sequence confirmed by Kafka
    correction_seq bigint not null default 0,    -- last correction applied
    error text,                                  -- why the shard stands still; null while it runs
    claimed_at timestamptz,
    primary key (table_version, shard)
) with (fillfactor = 50);

create table ledger.positions (
    table_version text not null,
    shard int not null,
    topic text not null,
    partition int not null,
    topic_id text not null,
    leader_epoch int not null default -1,        -- leader epoch of the last consumed record
    first_offset bigint not null,
    next_offset bigint not null,
    gaps bigint not null default 0,              -- offsets never delivered: markers of transactions, aborted, compacted
    consumed bigint not null default 0,
    applied bigint not null default 0,
    late bigint not null default 0,
    duplicate bigint not null default 0,
    dead_lettered bigint not null default 0,
    filtered bigint not null default 0,
    control bigint not null default 0,
    late_applied bigint not null default 0,      -- part of applied
    replayed bigint not null default 0,          -- corrections applied, outside the identity
    watermark bigint,                            -- microseconds; largest event time of a valid record or marker
    ended bigint,                                -- event time of the last end-of-input marker, while nothing follows it
    min_event bigint,                            -- of applied records, microseconds
    max_event bigint,
    level_at timestamptz,                        -- when the position last stood at the end of the partition
    primary key (table_version, shard, topic, partition),
    foreign key (table_version, shard) references ledger.shards on delete cascade,
    constraint fates check (consumed = applied + late + duplicate + dead_lettered + filtered + control),
    constraint offsets check (next_offset - first_offset = consumed + gaps)
) with (fillfactor = 50);

create table ledger.batch_index (
    table_version text not null,
    shard int not null,
    topic text not null,
    partition int not null,
    from_offset bigint not null,
    to_offset bigint not null,
    records bigint not null,
    applied bigint not null,
    min_event bigint,                            -- of applied records, microseconds
    max_event bigint,
    watermark_before bigint,
    days int[] not null default '{}',            -- days since 1970-01-01 of the touched windows
    lookup_vector jsonb,
    skipped bytea,                               -- delta-coded offsets of late and duplicate records
    started_at timestamptz not null default now(),
    ended_at timestamptz not null default now(),
    primary key (table_version, shard, topic, partition, from_offset)
) with (fillfactor = 70);

create table ledger.generations (
    table_version text not null references ledger.table_versions on delete cascade,
    day date not null,                           -- UTC day of the window start
    gen int not null,
    primary key (table_version, day)
);

create table ledger.closings (
    table_version text primary key references ledger.table_versions on delete cascade,
    epoch bigint not null default 0,
    owner text,
    backend_pid int,
    backend_start timestamptz,
    closed_through bigint,                       -- microseconds; windows that end at or before are final
    outbox_seq bigint not null default 0,
    published_seq bigint not null default 0
) with (fillfactor = 50);

create table ledger.touched_closed (
    table_version text not null references ledger.table_versions on delete cascade,
    window_start bigint not null,
    key jsonb not null,
    primary key (table_version, window_start, key)
);

create table ledger.dead_letter_records (
    record_id bigint generated always as identity primary key,
    topic text not null,
    partition int,
    "offset" bigint,
    file_hash text,
    file_name text,
    line bigint,
    payload bytea,
    key bytea,
    headers jsonb not null default '{}',
    kafka_timestamp timestamptz,
    recorded_at timestamptz not null default now(),
    constraint coordinates check ((partition is not null and "offset" is not null) or (file_hash is not null and line is not null)),
    constraint dead_letter_once unique nulls not distinct (topic, partition, "offset", file_hash, line)
);

create table ledger.dead_letters (
    record_id bigint not null references ledger.dead_letter_records on delete cascade,
    table_version text not null,                 -- 'ingest' for lines that never reached the topic
    reason text not null,
    detail text not null default '',
    state text not null default 'open' check (state in ('open', 'replayed', 'dropped')),
    changed_at timestamptz not null default now(),
    primary key (record_id, table_version)
);
create index dead_letters_by_reason on ledger.dead_letters (table_version, reason);

create table ledger.corrections (
    table_version text not null,
    shard int not null,
    seq bigint not null,
    record_id bigint not null references ledger.dead_letter_records,
    payload bytea not null,
    created_at timestamptz not null default now(),
    primary key (table_version, shard, seq),
    unique (table_version, record_id)
);

create table ledger.outbox (
    table_version text not null,
    shard int not null,                          -- -1: the closer
    seq bigint not null,
    topic text not null,
    key bytea,
    payload bytea,
    headers jsonb not null default '{}',
    primary key (table_version, shard, seq)
);

create table ledger.leases (
    name text primary key,                       -- shard:PIPELINE:N, supervisor:HOST, fleet
    holder text not null,
    expires_at timestamptz not null
) with (fillfactor = 50);

create table ledger.pipelines (
    pipeline text primary key,
    desired text not null default 'on' check (desired in ('on', 'off')),
    override text check (override in ('on', 'off')),
    override_until timestamptz,
    changed_at timestamptz not null default now()
);

create table ledger.workers (
    worker text primary key,
    pipeline text not null,
    host text not null,
    pid int not null,
    process_start double precision not null,     -- seconds since 1970: with pid names one process
    state text not null check (state in ('starting', 'running', 'draining', 'stopped', 'failed', 'lost')),
    started_at timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    shards int[] not null default '{}',
    records bigint not null default 0,           -- since the worker started
    records_per_s double precision not null default 0,
    last_error text
) with (fillfactor = 50);

create table ledger.ends (                       -- end offsets as last seen, for lag without a look at Kafka
    pipeline text not null,
    topic text not null,
    partition int not null,
    end_offset bigint not null,
    next_timestamp timestamptz,                  -- Kafka timestamp of the next unread record, null when level
    seen_at timestamptz not null default now(),
    primary key (pipeline, topic, partition)
) with (fillfactor = 50);

create table ledger.restarts (
    pipeline text not null,
    slot int not null,
    failures int not null default 0,
    next_start timestamptz,
    last_error text,
    primary key (pipeline, slot)
);

create table ledger.commands (
    id bigint generated always as identity primary key,
    action text not null,
    arguments jsonb not null default '{}',
    requested_by text not null,
    requested_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    outcome text
);

create table ledger.files (
    content_hash text not null,
    topic text not null,
    name text not null,
    size bigint not null,
    transactional_id text not null,
    group_id text not null,
    position bigint not null default 0,          -- rows done, mirror of the offset in Kafka
    next_position bigint not null default 0,     -- rows done once the transaction in flight has committed
    produced bigint not null default 0,
    rejected bigint not null default 0,
    state text not null default 'started' check (state in ('started', 'completed')),
    started_at timestamptz not null default now(),
    completed_at timestamptz,
    primary key (content_hash, topic)
);
