from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys
from headrace import lean
lean.without_pandas()
import duckdb, numpy as np, pyarrow as pa
frame = pa.table({"a": pa.array(np.arange(3)), "b": pa.array(["x", None, "z"])})
con = duckdb.connect()
con.register("frame", frame)
assert con.sql("select sum(a) as s from frame").fetchnumpy()["s"][0] == 3
assert frame.column("a").to_pylist() == [0, 1, 2]
assert "pandas" not in sys.modules
"""


def test_arrow_and_duckdb_work_without_pandas() -> None:
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True)
