-- A view may read more tables than one: it goes with the first of them that is built anew.
alter table ledger.views add column further_tables text[] not null default '{}';
