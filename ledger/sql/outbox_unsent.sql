select seq, key, payload
  from ledger.outbox
 where table_version = %(table_version)s
   and shard = %(shard)s
   and seq > %(after)s
 order by seq
 limit %(most)s
