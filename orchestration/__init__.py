"""When things happen, and lineage: Dagster definitions built from the catalog. The only room that imports dagster.

`dg dev` and `dagster dev` load `orchestration.definitions` (the `[tool.dg.project]` block of `pyproject.toml`).
"""
