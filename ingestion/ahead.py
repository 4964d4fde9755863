"""Make the next item in a thread while this one's commit waits for Kafka and Postgres.

Only while it waits: beside the loop that hands records to the producer, the two threads would pass the interpreter lock
to each other every 5 ms, and each of a batch's hundred small calls would wait that long.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T], AbstractContextManager["Ahead[T]"]):
    """An iterator whose next item is made in the background once `start` is called."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._next: Future[T | None] | None = None

    def start(self) -> None:
        """Begin with the next item."""
        if self._next is None:
            self._next = self._pool.submit(next, self._items, None)

    def take(self) -> T | None:
        """The next item, waiting for it; None when there is none. What went wrong while making it is raised here."""
        self.start()
        assert self._next is not None
        item, self._next = self._next.result(), None
        return item

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
