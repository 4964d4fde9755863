"""The thread that looks at the log while a worker runs: is it still the same topic, is the position still there?"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from headrace.errors import PartitionsChanged, Terminal, Transient
from ledger.shards import Position
from stream_workers.log import LogAdmin, LogState
from stream_workers.opening import compare
from topology.program import PipelineProgram

log = logging.getLogger(__name__)


class Watch:
    """Describes the pipeline's topic every `seconds` and compares the positions of the owned shards with it."""

    def __init__(
        self,
        kafka: LogAdmin,
        program: PipelineProgram,
        seconds: float,
        positions: Callable[[], Mapping[int, list[Position]]],
    ) -> None:
        self._kafka, self._program, self._seconds, self._positions = kafka, program, seconds, positions
        self._lock = threading.Lock()
        self._problems: dict[int, Terminal] = {}
        self._seen: tuple[LogState, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def problems(self) -> dict[int, Terminal]:
        """What is wrong, by shard, since the last call."""
        with self._lock:
            found, self._problems = self._problems, {}
            return found

    @property
    def seen(self) -> tuple[LogState, float] | None:
        """The log as it was last seen, and the monotonic time at which Kafka was asked."""
        return self._seen

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            before = (
                self._positions()
            )  # read first: the log only grows, so a position read before is never beyond its end
            asked = time.monotonic()
            try:
                state = self._kafka.describe(self._program.topic.name)
            except Transient as error:
                log.warning("%s", error)
                continue
            except Terminal as error:
                self._tell(dict.fromkeys(before, error))
                continue
            except Exception:
                log.exception("the look at %s failed; looking again", self._program.topic.name)
                continue
            self._seen = state, asked
            self._tell(self._judge(before, state))

    def _judge(self, before: Mapping[int, list[Position]], state: LogState) -> dict[int, Terminal]:
        if state.partitions != self._program.topic.partitions:
            changed = PartitionsChanged(
                f"{state.topic} has {state.partitions} partitions,"
                f" the declaration says {self._program.topic.partitions};"
                f" declare partitions={state.partitions} and run `headrace pipeline rebuild {self._program.name}`"
            )
            return dict.fromkeys(before, changed)
        problems: dict[int, Terminal] = {}
        for shard, positions in before.items():
            for position in positions:
                try:
                    compare(position, state, self._program.name)
                except Terminal as error:
                    problems[shard] = error
        return problems

    def _tell(self, problems: dict[int, Terminal]) -> None:
        with self._lock:
            self._problems.update(problems)
