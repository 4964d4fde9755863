select outbox_seq, published_seq, announced
  from ledger.outboxes
 where writer = %(writer)s
   and shard = %(shard)s
   and epoch = %(epoch)s
