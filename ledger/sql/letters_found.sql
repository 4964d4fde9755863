-- Dead letters as they stand, one row for each table that refused the record. made: what decides on it, if anything does.
-- last: the last word on the record for that table, and what the owner of the shard made of it.
select r.record_id, d.table_version, r.topic, r.partition, r."offset", r.file_name, r.line, d.reason, d.detail,
       case when last.action = 'replay' and last.seq > p.correction_seq then 'waiting'
            when d.state = 'open' and last.outcome = 'refused' then 'refused'
            else d.state end as standing,
       case when d.table_version = 'ingest' then 'line'
            when v.definition ? 'archive' then 'archive'
            when p.table_version is null then 'gone'
            when v.state_table = '' then 'derived'
            else 'table' end as made,
       v.pipeline, r.recorded_at, coalesce(last.requested_by, d.changed_by) as said_by,
       coalesce(last.created_at, case when d.changed_by is not null then d.changed_at end) as said_at,
       coalesce(last.note, d.note) as note,
       case when last.outcome = 'refused'
            then last.reason || case when last.detail = '' then '' else ': ' || last.detail end end as refusal
  from ledger.dead_letters d
  join ledger.dead_letter_records r using (record_id)
  left join ledger.table_versions v using (table_version)
  left join ledger.positions p
    on p.table_version = d.table_version and p.topic = r.topic and p.partition = r.partition
  left join lateral (
        select c.seq, c.action, c.requested_by, c.created_at, c.note, o.outcome, o.reason, o.detail
          from ledger.corrections c
          left join ledger.correction_outcomes o
            on o.table_version = d.table_version and o.topic = c.topic and o.partition = c.partition and o.seq = c.seq
         where c.topic = r.topic and c.partition = r.partition and c."offset" = r."offset"
           and c.table_name = v.table_name and c.topic_id = p.topic_id
         order by c.seq desc
         limit 1) last on true
 where (%(ids)s::bigint[] is null or d.record_id = any(%(ids)s::bigint[]))
   and (%(reason)s::text is null or d.reason = %(reason)s)
   and (%(table)s::text is null or split_part(d.table_version, '@', 1) = %(table)s)
   and (%(topic)s::text is null or r.topic = %(topic)s)
   and (%(partitions)s::int[] is null or r.partition = any(%(partitions)s::int[]))
   and (%(since)s::timestamptz is null or r.recorded_at >= %(since)s)
   and (%(until)s::timestamptz is null or r.recorded_at < %(until)s)
   and (%(standings)s::text[] is null
        or case when last.action = 'replay' and last.seq > p.correction_seq then 'waiting'
                when d.state = 'open' and last.outcome = 'refused' then 'refused'
                else d.state end = any(%(standings)s::text[]))
 order by r.record_id desc, d.table_version
 limit %(limit)s
