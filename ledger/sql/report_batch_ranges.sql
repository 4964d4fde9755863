-- Which offsets a row of a table can come from: neighbouring batches as one range, last_offset included.
-- Of a windowed table only batches that touched the window's day and whose events reach into the window.
with touched as (
    select shard, topic, partition, from_offset, to_offset, records,
           lag(to_offset) over (partition by shard, topic, partition order by from_offset) as before
      from ledger.batch_index
     where table_version = :table_version
       and shard = any(:shards)
       and (cast(:day as int) is null or cast(:day as int) = any(days))
       and (cast(:from_event as bigint) is null or max_event >= cast(:from_event as bigint))
       and (cast(:to_event as bigint) is null or min_event < cast(:to_event as bigint))
), numbered as (
    select *, count(*) filter (where from_offset is distinct from before)
              over (partition by shard, topic, partition order by from_offset) as range
      from touched
)
select shard, topic, partition, min(from_offset) as first_offset, max(to_offset) - 1 as last_offset
  from numbered
 group by shard, topic, partition, range
 order by shard, topic, partition, first_offset
