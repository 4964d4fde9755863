-- A correction's rows depend on what it was given by lookups, as a batch's do: the batch index has had this column.
alter table ledger.correction_index add column lookup_vector jsonb;
