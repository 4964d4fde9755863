-- A file is in one topic and not in another of the same name; rows from before get the id of the topic they are seen in.
alter table ledger.files
    add column topic_id text,
    add column intended_at timestamptz;          -- when next_position was written; started_at for rows from before
