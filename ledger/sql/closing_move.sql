update ledger.closings
   set closed_through = %(closed_through)s,
       ended_mark = %(ended_mark)s,
       outbox_seq = %(outbox_seq)s
 where table_version = %(table_version)s
