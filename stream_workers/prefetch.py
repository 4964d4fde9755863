"""The thread that reads and decodes the next batches while the last one is committed.

Polling and decoding carry no state over batches, so that they may run ahead; everything that does (watermark, position)
happens after the queue, in the loop. A batch whose source is no longer the shard's is stale and thrown away there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, Full, Queue

from stream_workers.batch import Batch
from stream_workers.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A decoded batch, or why a source could not deliver one."""

    source: Source
    batch: Batch | None = None
    error: Exception | None = None


class Prefetch:
    """Reads all added sources in turn; `next` hands out what they delivered."""

    def __init__(self, decode: Callable[[Batch], Batch], records: int, seconds: float) -> None:
        self.decode, self._records, self._seconds = decode, records, seconds
        self._lock = threading.Lock()
        self._sources: dict[Source, int] = {}  # value: the offset to tell the group
        self._leaving: list[tuple[Source, int]] = []
        self._queue: Queue[Fetched] = Queue(1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def add(self, source: Source) -> None:
        """Begin to read a source."""
        with self._lock:
            self._sources[source] = -1

    def drop(self, source: Source, *, ours: bool = True) -> None:
        """Stop reading a source; the thread closes it, telling the group its offset only while the shard is ours."""
        with self._lock:
            committed = self._sources.pop(source, None)
            if committed is not None:
                self._leaving.append((source, committed if ours else -1))

    def committed(self, source: Source, next_offset: int) -> None:
        """The ledger stands at `next_offset`; the thread passes it on to Kafka's group."""
        with self._lock:
            if source in self._sources:
                self._sources[source] = next_offset

    def next(self, seconds: float) -> Fetched | None:
        """The next batch or error, None when nothing came within `seconds`."""
        try:
            return self._queue.get(timeout=seconds)
        except Empty:
            return None

    def close(self) -> None:
        """End the thread and close every source."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                leaving, self._leaving = self._leaving, []
                sources = list(self._sources.items())
            for source, committed in leaving:
                _close(source, committed)
            if not sources:
                self._stop.wait(0.02)
            for source, committed in sources:
                if not self._stop.is_set():
                    self._read(source, committed, self._seconds / len(sources))
        with self._lock:
            closing = [*self._leaving, *self._sources.items()]
        for source, committed in closing:
            _close(source, committed)

    def _read(self, source: Source, committed: int, seconds: float) -> None:
        try:
            if committed >= 0:
                source.commit(committed)
            batch = source.poll(self._records, seconds)
            found = Fetched(source, self.decode(batch)) if batch is not None else None
        except Exception as error:  # handed to the loop, which knows what to do about it
            found = Fetched(source, error=error)
            self.drop(source)
        while found is not None and not self._stop.is_set():
            try:
                self._queue.put(found, timeout=0.1)
                return
            except Full:
                continue


def _close(source: Source, committed: int) -> None:
    try:
        source.close(committed)
    except Exception:  # nothing depends on it, and the other sources have to be read
        log.exception("closing %s[%s] failed", source.topic, source.partition)
