select topic, partition, topic_id, leader_epoch, first_offset, next_offset, watermark, ended, correction_seq
  from ledger.positions
 where table_version = %(table_version)s
   and shard = %(shard)s
   for update
