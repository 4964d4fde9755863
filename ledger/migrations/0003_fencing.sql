-- Epochs never repeat, also for a table version that was dropped and made again: a worker that slept through a rebuild
-- must not find its old number in force.
create sequence ledger.epochs;

alter table ledger.positions add constraint gaps_not_negative check (gaps >= 0);
