-- First statement of a commit: lock the shard's row and compare its epoch, then move the position if it stands where
-- the batch begins. No row comes back when another worker owns the shard or has moved it.
with owned as (
    select table_version, shard
      from ledger.shards
     where table_version = %(table_version)s and shard = %(shard)s and epoch = %(epoch)s
       for update
)
update ledger.positions p
   set next_offset = %(to_offset)s,
       leader_epoch = greatest(p.leader_epoch, %(leader_epoch)s),
       gaps = p.gaps + %(gaps)s,
       consumed = p.consumed + %(consumed)s,
       applied = p.applied + %(applied)s,
       late = p.late + %(late)s,
       duplicate = p.duplicate + %(duplicate)s,
       dead_lettered = p.dead_lettered + %(dead_lettered)s,
       filtered = p.filtered + %(filtered)s,
       control = p.control + %(control)s,
       late_applied = p.late_applied + %(late_applied)s,
       watermark = %(watermark)s,
       ended = %(ended)s,
       min_event = least(p.min_event, %(min_event)s),
       max_event = greatest(p.max_event, %(max_event)s),
       level_at = case when %(level)s then clock_timestamp() else p.level_at end
  from owned
 where p.table_version = owned.table_version
   and p.shard = owned.shard
   and p.topic = %(topic)s
   and p.partition = %(partition)s
   and p.next_offset = %(from_offset)s
returning p.next_offset
