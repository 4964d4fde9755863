-- Offsets that were left out and need no further word: replayed, dropped, or with a replay that waits for its worker, be
-- it one of an earlier build of the table, which has no letter in this one yet.
select r.partition, r."offset", d.state
  from ledger.dead_letters d
  join ledger.dead_letter_records r using (record_id)
 where d.table_version = %(table_version)s
   and d.reason = %(reason)s
   and r.topic = %(topic)s
   and d.state <> 'open'
union
select c.partition, c."offset", 'waiting'
  from ledger.table_versions v
  join ledger.positions p using (table_version)
  join ledger.corrections c
    on c.topic = p.topic and c.partition = p.partition and c.table_name = v.table_name and c.topic_id = p.topic_id
   and c.seq > p.correction_seq
 where v.table_version = %(table_version)s
   and p.topic = %(topic)s
   and c.action = 'replay'
 order by 3
