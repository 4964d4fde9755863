-- Follow-on views as they were made: what is declared otherwise is made anew, what is declared no more is dropped.
create table ledger.views (
    view_name text primary key,
    table_name text not null,
    ddl text not null,
    made_at timestamptz not null default now()
);
