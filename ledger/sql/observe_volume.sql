-- Records applied in each of the last eight times 24 hours before %(now)s, by table version; age 0 is the newest.
select table_version, floor(extract(epoch from %(now)s - ended_at) / 86400)::int as age, sum(applied)::bigint as applied
  from ledger.batch_index
 where ended_at > %(now)s - interval '8 days'
   and ended_at <= %(now)s
 group by 1, 2
