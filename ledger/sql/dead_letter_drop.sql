-- Marks open dead letters as dropped. What waits for a decision of its shard's owner is left alone, unless it is the drop
-- that was asked for just now.
update ledger.dead_letters d
   set state = 'dropped', changed_at = clock_timestamp(), changed_by = %(requested_by)s, note = %(note)s
  from unnest(%(record_id)s::bigint[], %(table_version)s::text[]) as g(record_id, table_version)
 where d.record_id = g.record_id
   and d.table_version = g.table_version
   and d.state = 'open'
   and not exists (
       select from ledger.corrections c
         join ledger.dead_letter_records r on r.record_id = d.record_id
         join ledger.table_versions v on v.table_version = d.table_version
         join ledger.positions p
           on p.table_version = v.table_version and p.topic = r.topic and p.partition = r.partition
        where c.topic = r.topic and c.partition = r.partition and c."offset" = r."offset"
          and c.table_name = v.table_name and c.topic_id = p.topic_id and c.seq > p.correction_seq
          and c.action = 'replay')
returning d.record_id, d.table_version
