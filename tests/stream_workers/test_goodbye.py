"""A worker's last word in the ledger, whenever it was told to end."""

from __future__ import annotations

import subprocess
import sys

from headrace.settings import ROOT
from ledger import connect, workers
from tests.stream_workers.harness import Rig

_EARLY = """
import signal
from cli.catalog import load
from headrace.settings import settings
from stream_workers.worker import Worker

worker = Worker(load().pipelines["orders"], settings(), "early")
worker.stop(signal.SIGTERM, None)
worker.run()
worker.close()
"""


def test_told_to_stop_before_it_was_connected(rig: Rig) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _EARLY], cwd=ROOT, env=rig.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert rig.query("select worker, state from ledger.workers") == [("early", "stopped")]


def test_what_a_worker_says_while_it_is_looked_for_stands(rig: Rig) -> None:
    worker = rig.start()
    rig.wait(lambda: rig.query("select state from ledger.workers") == [("running",)])
    ((name,),) = rig.query("select worker from ledger.workers")
    assert rig.stop(worker) == 0
    with connect(rig.database) as db:
        workers.lost(db, name)
        assert workers.state(db, name) == "stopped"
        db.execute("update ledger.workers set state = 'running'")
        workers.lost(db, name)
        assert workers.state(db, name) == "lost"
