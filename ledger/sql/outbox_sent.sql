-- Mirror of what Kafka has confirmed; the outbox keeps nothing of it.
with mine as (
    update ledger.outboxes
       set published_seq = greatest(published_seq, %(seq)s), announced = true, error = null
     where writer = %(writer)s
       and shard = %(shard)s
       and epoch = %(epoch)s
    returning published_seq
), gone as (
    delete from ledger.outbox o
     using mine
     where o.writer = %(writer)s
       and o.shard = %(shard)s
       and o.seq <= mine.published_seq
)
select published_seq from mine
