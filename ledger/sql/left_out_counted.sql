-- Records that live tables left out as late or as duplicates, and what became of those that somebody asked for.
select v.table_name, g.reason, g.records, coalesce(l.replayed, 0), coalesce(l.dropped, 0)
  from ledger.table_versions v
  join (select table_version, f.reason, sum(f.records)::bigint as records
          from ledger.positions
         cross join lateral (values ('late', late), ('duplicate', duplicate)) as f(reason, records)
         group by 1, 2) g using (table_version)
  left join (select d.table_version, d.reason,
                    count(*) filter (where d.state = 'replayed') as replayed,
                    count(*) filter (where d.state = 'dropped') as dropped
               from ledger.dead_letters d
              where d.reason in ('late', 'duplicate')
              group by 1, 2) l using (table_version, reason)
 where v.role = 'live' and g.records > 0
 order by 1, 2
