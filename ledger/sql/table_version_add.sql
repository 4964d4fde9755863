insert into ledger.table_versions (table_version, table_name, pipeline, state_table, definition)
values (%(table_version)s, %(table_name)s, %(pipeline)s, %(state_table)s, %(definition)s::jsonb)
on conflict (table_version) do nothing
