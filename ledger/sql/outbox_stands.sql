select outbox_seq, published_seq, announced
  from ledger.outboxes
 where pipeline = %(pipeline)s
   and shard = %(shard)s
   and epoch = %(epoch)s
