-- First statement of a commit of corrections: as for a batch, lock the shard's row and compare its epoch, then move the
-- position's correction_seq if it stands where these corrections begin. The offset stays where it is.
with owned as (
    select table_version, shard
      from ledger.shards
     where table_version = %(table_version)s and shard = %(shard)s and epoch = %(epoch)s
       for update
)
update ledger.positions p
   set correction_seq = %(to_seq)s,
       replayed = p.replayed + %(replayed)s,
       min_event = least(p.min_event, %(min_event)s),
       max_event = greatest(p.max_event, %(max_event)s)
  from owned
 where p.table_version = owned.table_version
   and p.shard = owned.shard
   and p.topic = %(topic)s
   and p.partition = %(partition)s
   and p.next_offset = %(next_offset)s
   and p.correction_seq = %(from_seq)s
returning p.correction_seq
