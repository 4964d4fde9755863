"""Loading definitions needs no service, imports no driver and costs little beyond `import dagster`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = (
    "great_expectations",
    "confluent_kafka",
    "psycopg",
    "psycopg2",
    "pandas",
    "dagster_dbt",
    "nicegui",
    "sqlalchemy",
)
PROBE = f"""
import json, sys, time
import dagster
began = time.process_time()
from orchestration.definitions import defs
repository = defs.get_repository_def()
seconds = time.process_time() - began
print(json.dumps({{"seconds": seconds, "heavy": [name for name in {HEAVY} if name in sys.modules],
                  "keys": sorted("/".join(key.path) for key in repository.asset_graph.get_all_asset_keys())}}))
"""


def probe() -> dict[str, object]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
    env |= {"HEADRACE_HOME": "/nonexistent/headrace", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROBE], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    print(f"definitions: {found['seconds']} s of processor time beyond `import dagster`")
    return found


def test_loads_without_services_and_without_drivers() -> None:
    found = probe()
    assert found["heavy"] == []
    assert found["keys"] == [
        "files/orders_csv",
        "files/orders_json",
        "kafka/order-created-events",
        "postgres/customer_order_totals",
        "postgres/product_sales",
    ]


def test_dg_and_dagster_dev_find_the_module() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert project["root_module"] == "orchestration"
    assert not (ROOT / "dagster.yaml").exists(), "a dagster.yaml in the root would be ignored with a warning"
