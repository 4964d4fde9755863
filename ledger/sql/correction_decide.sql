-- Outcomes, and the state of the dead letters they concern: one that was replayed once is never touched again.
with given as (
    select *
      from unnest(%(seq)s::bigint[], %(offset)s::bigint[], %(outcome)s::text[], %(reason)s::text[], %(detail)s::text[])
        as g(seq, "offset", outcome, reason, detail)
), noted as (
    insert into ledger.correction_outcomes (table_version, topic, partition, seq, "offset", outcome, reason, detail)
    select %(table_version)s, %(topic)s, %(partition)s, seq, "offset", outcome, reason, detail
      from given
), moved as (
    update ledger.dead_letters d
       set state = case g.outcome when 'refused' then 'open' else g.outcome end,
           changed_at = clock_timestamp(),
           changed_by = c.requested_by,
           note = c.note
      from given g
      join ledger.corrections c on c.topic = %(topic)s and c.partition = %(partition)s and c.seq = g.seq
      join ledger.dead_letter_records r
        on r.topic = c.topic and r.partition = c.partition and r."offset" = c."offset"
       and r.file_hash is null and r.line is null
     where d.record_id = r.record_id
       and d.table_version = %(table_version)s
       and d.state <> 'replayed'
       and g.outcome <> 'needless'
    returning 1
)
select count(*) from moved
