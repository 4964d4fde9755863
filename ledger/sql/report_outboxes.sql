-- What shards send, by what it is: how many records Kafka has not confirmed yet.
select pipeline, writer, count(*)::int as shards, sum(outbox_seq)::bigint as numbered,
       sum(greatest(outbox_seq - published_seq, 0))::bigint as unpublished
  from ledger.outboxes
 group by pipeline, writer
 order by pipeline, writer
