-- Where the lag of a table that has never run begins: the first offset that the partition still keeps.
alter table ledger.ends add column low_offset bigint;
