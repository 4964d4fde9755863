-- With the claim of a shard, in the same transaction: it waits for a commit in flight and fences every later one.
insert into ledger.outboxes as o (pipeline, writer, shard, epoch, owner)
values (%(pipeline)s, %(writer)s, %(shard)s, nextval('ledger.epochs'), %(worker)s)
    on conflict (writer, shard) do update
   set epoch = excluded.epoch, owner = excluded.owner, error = null
returning o.epoch, o.born::text, o.outbox_seq, o.published_seq, o.announced
