"""Table versions: their rows in the ledger, their state tables and the views people read."""

from __future__ import annotations

import json

from headrace.errors import DefinitionChanged
from ledger import Connection, table_versions, views
from topology.program import PipelineProgram

_LOCK = 0x48454154


def register(db: Connection, program: PipelineProgram) -> None:
    """Create what the pipeline's tables need, once, and their follow-on views as declared.

    `DefinitionChanged` when a table lives under another definition.
    """
    with db.transaction():
        db.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        for table in program.tables:
            live = table_versions.live(db, table.table.name)
            if live is not None and live != table.version_id:
                if table.derived:
                    raise DefinitionChanged(
                        f"{table.name} was made as {live}, the declaration is now {table.version_id}; the topic was"
                        " left as it is, and nothing is added to it; undo the change, or give the new declaration"
                        f" another name, or delete the topic and run `headrace pipeline rebuild {program.name}`"
                    )
                if table.archive:
                    raise DefinitionChanged(
                        f"{table.name} is written as {live}, the declaration is now {table.version_id}; its files were"
                        " left as they are, and none is added; undo the change, or give the new declaration another"
                        " name: what is in the lake stays readable under the old one"
                    )
                raise DefinitionChanged(
                    f"{table.table.name} lives as {live}, the declaration is now {table.version_id};"
                    f" its rows were left as they are; undo the change,"
                    f" or run `headrace pipeline rebuild {program.name}` to build it anew"
                )
            if live is None:
                made = [part.state_ddl for part in table.parts] + ([table.ids.state_ddl] if table.ids else [])
                for ddl in filter(None, made):
                    db.execute(ddl.encode())
                for statement in table.final.ddl if table.final else ():
                    db.execute(statement.encode())
                table_versions.add(
                    db,
                    {
                        "table_version": table.version_id,
                        "table_name": table.table.name,
                        "pipeline": program.name,
                        "state_table": table.state_table,
                        "definition": json.dumps(table.definition),
                    },
                )
                if table.view_ddl:
                    db.execute(table.view_ddl.encode())
        declared = {view.name: views.Made(view.table, view.ddl) for view in program.views}
        finals = [(table.name, table.final) for table in program.tables if table.final]
        declared |= {final.view: views.Made(name, final.view_ddl) for name, final in finals}
        views.follow(db, [table.name for table in program.tables], declared)
