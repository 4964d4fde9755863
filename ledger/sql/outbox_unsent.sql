select seq, key, payload, headers
  from ledger.outbox
 where writer = %(writer)s
   and shard = %(shard)s
   and seq > %(after)s
 order by seq
 limit %(most)s
