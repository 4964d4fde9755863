-- Records by reason and by what became of them; a record counts once for each. Lines of files apart.
select d.table_version = 'ingest' as line, d.reason, count(distinct d.record_id),
       count(distinct d.record_id) filter (where d.state = 'open'),
       count(distinct d.record_id) filter (where d.state = 'replayed'),
       count(distinct d.record_id) filter (where d.state = 'dropped')
  from ledger.dead_letters d
 where d.reason not in ('late', 'duplicate')  -- see left_out_counted
 group by 1, 2
 order by 1, 2
