-- What does not fit between positions, cuts and files of an archive: offsets that no cut names, rows that no file has.
with places as (
    select partition, first_offset, next_offset, applied
      from ledger.positions
     where table_version = %(table_version)s
), spans as (
    select partition, from_offset, to_offset from ledger.archive_cuts where table_version = %(table_version)s
    union all
    select partition, next_offset, next_offset from places
), steps as (
    select s.partition, s.from_offset,
           lag(s.to_offset, 1, p.first_offset) over (partition by s.partition order by s.from_offset, s.to_offset) as before
      from spans s
      join places p using (partition)
), counted as (
    select p.partition, p.applied,
           (select coalesce(sum(c.rows), 0) from ledger.archive_cuts c
             where c.table_version = %(table_version)s and c.partition = p.partition) as cut,
           (select coalesce(sum(f.rows), 0) from ledger.archive_files f
             where f.table_version = %(table_version)s and f.partition = p.partition and f.replaced_at is null) as listed
      from places p
)
select format('partition %%s: no cut holds offsets %%s to %%s', partition, before, from_offset - 1)
  from steps where before < from_offset
union all
select format('partition %%s: two cuts hold offsets %%s to %%s', partition, from_offset, before - 1)
  from steps where before > from_offset
union all
select format('partition %%s: %%s records were applied, cuts have %%s rows and files %%s', partition, applied, cut, listed)
  from counted where applied <> cut or applied <> listed
 order by 1
