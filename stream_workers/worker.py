"""A worker process: sets the loop up, connects it again when Postgres went away, drains on SIGTERM."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import uuid
from contextlib import suppress
from types import FrameType

import psutil
import psycopg

from headrace.clock import SYSTEM_CLOCK
from headrace.errors import Terminal, Transient
from headrace.failpoint import Failpoints
from headrace.settings import Settings
from ledger import Connection, connect, workers
from ledger.connection import WORKER_SESSION
from schemas import formats
from schemas.registry import Registry, subject_of
from stream_workers import faults
from stream_workers.archive.loop import ArchiveLoop
from stream_workers.claims import Claims
from stream_workers.decoding import decoding
from stream_workers.derive.loop import DeriveLoop
from stream_workers.emit.closer import Closer
from stream_workers.emit.sender import Sender
from stream_workers.heartbeat import Heartbeat
from stream_workers.log import LogAdmin
from stream_workers.loop import Loop
from stream_workers.meter import Meter
from stream_workers.prefetch import Prefetch
from stream_workers.versions import register
from stream_workers.watch import Watch
from topology.program import PipelineProgram
from topology.topic import Topic

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 0.5


class Worker:
    """One process of a pipeline's worker group."""

    def __init__(self, program: PipelineProgram, settings: Settings, name: str) -> None:
        self.program, self.settings, self.name = program, settings, name
        self.holder = f"{name}/{uuid.uuid4().hex[:8]}"  # of leases: two processes of one name must not share them
        self.clock = SYSTEM_CLOCK
        self.failpoints = Failpoints(settings.failpoints)
        self.state: workers.State = "starting"
        self.registry = Registry(settings.need_registry(), settings.registry_config)
        decoder = formats.decoder(program.topic.format, program.schema, self.registry.schema)
        kafka = LogAdmin(settings)
        prefetch = Prefetch(decoding(decoder), settings.batch_records, settings.poll_seconds)
        parts = (program, settings, name, self.clock, self.failpoints, kafka, prefetch, Meter(), self._schema_id)
        if program.derives:
            self.loop: Loop = DeriveLoop(*parts)
        else:
            self.loop = ArchiveLoop(*parts) if program.archives else Loop(*parts, sender=self._sender(kafka))
        self.watch = Watch(kafka, program, settings.check_seconds, self.loop.positions)
        self.heartbeat = Heartbeat(
            settings.need_postgres(),
            self.holder,
            settings.lease_seconds,
            self.describe,
            lambda: self.loop.ends(self.watch),
        )
        self.closer = Closer(
            program, settings, self.holder, self.heartbeat, self.failpoints, kafka, self.clock, self._schema_id
        )

    def run(self) -> None:
        """Register the tables, then loop until told to stop; a lost connection costs the memory, never a row."""
        url, claims, said = self.settings.need_postgres(), None, False
        gc.collect()
        gc.freeze()
        gc.disable()  # batches are freed by reference counts; collecting between them would only look at live columns
        self.heartbeat.start()  # not before SIGTERM is handled: who is known has to say goodbye
        while not self.loop.stopping.is_set():
            try:
                with connect(url, options=WORKER_SESSION, application=f"headrace {self.name}") as db:
                    self.failpoints.on("cut", lambda: faults.cut_at_commit(db))
                    self.failpoints.on("cut-now", lambda: faults.cut(db))
                    workers.beat(db, self.describe())
                    self._register(db)
                    self.closer.start()
                    claims = claims or Claims(
                        self.program.name,
                        self.program.topic.partitions,
                        self.holder,
                        self.settings.lease_seconds,
                        self.heartbeat,
                    )
                    self.state = "running"
                    self.loop.run(db, claims, self.watch)
                    self._goodbye(db)
                    said = True
            except (psycopg.OperationalError, psycopg.InterfaceError, Transient) as error:
                self.loop.last_error = str(error).strip()
                log.warning("%s; memory dropped, connecting again", self.loop.last_error)
                self.loop.drop_all()
                self.loop.stopping.wait(_RECONNECT_SECONDS)
        if not said:  # told to stop before it was connected, or while it had no connection
            with suppress(psycopg.OperationalError, psycopg.InterfaceError, Transient), connect(url) as db:
                self._goodbye(db)

    def _goodbye(self, db: Connection) -> None:
        self.state = "stopped"
        workers.beat(db, self.describe())

    def _sender(self, kafka: LogAdmin) -> Sender | None:
        if not self.program.outlets:
            return None
        return Sender(self.settings, kafka, self.clock, self.failpoints.hit, self.holder)

    def _schema_id(self, topic: Topic) -> int:
        return self.registry.register(subject_of(topic.name), topic.shape) if topic.format == "avro" else 0

    def _register(self, db: Connection) -> None:
        try:
            if self.program.topic.format == "avro":
                self.registry.need_schemas()
            register(db, self.program)
        except Terminal as error:
            self.state, self.loop.last_error = "failed", str(error)
            workers.beat(db, self.describe())
            raise

    def close(self) -> None:
        """End the threads."""
        for part in (self.closer, self.loop.sender, self.heartbeat, self.watch, self.loop.prefetch):
            if part is not None:
                part.close()

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM: finish the batch, commit, give the shards back."""
        self.state = "draining"
        self.loop.stopping.set()

    def describe(self) -> workers.Beat:
        """This worker's row in the ledger."""
        meter = self.loop.meter
        return workers.Beat(
            worker=self.name,
            pipeline=self.program.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            process_start=psutil.Process().create_time(),
            state=self.state,
            shards=self.loop.shards(),
            records=meter.records,
            records_per_s=meter.rate(self.clock.monotonic()),
            last_error=self.loop.last_error,
        )


def run(program: PipelineProgram, settings: Settings, worker: str | None = None) -> int:
    """Run a worker of `program` until SIGTERM or SIGINT; returns the exit code."""
    process = Worker(program, settings, worker or f"{program.name}-{uuid.uuid4().hex[:8]}")
    signal.signal(signal.SIGTERM, process.stop)
    signal.signal(signal.SIGINT, process.stop)
    try:
        process.run()
    finally:
        process.close()
    return 0
