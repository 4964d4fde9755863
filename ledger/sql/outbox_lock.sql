-- In the transaction of a batch that sends something: after its positions, before its numbers.
select outbox_seq, published_seq
  from ledger.outboxes
 where writer = %(writer)s
   and shard = %(shard)s
   and epoch = %(epoch)s
   for update
