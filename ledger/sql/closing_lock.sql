-- First statement of a closer's commit: lock its row if its epoch is still ours.
select closed_through, ended_mark, outbox_seq, published_seq
  from ledger.closings
 where table_version = %(table_version)s
   and epoch = %(epoch)s
   for update
