"""The steps of ingesting one file, in order: where tests kill the process."""

from __future__ import annotations

from enum import Enum


class IngestStep(Enum):
    """Each value is reached after the step it names. `INTENDED` to `MIRRORED` repeat for every Kafka transaction."""

    REGISTERED = "registered"  # the file has its row in the ledger
    INITIALISED = "initialised"  # an older producer of the file is fenced, its open transaction aborted
    RECONCILED = "reconciled"  # Kafka's and the ledger's position agree
    INTENDED = "intended"  # the ledger knows how far the next Kafka transaction goes
    PRODUCED = "produced"  # its records are on their way
    POSITIONED = "positioned"  # the file position is part of the transaction
    COMMITTED = "committed"  # Kafka has them for good
    RECORDED = "recorded"  # rejected lines are written in the ledger's open transaction
    MIRRORED = "mirrored"  # the ledger's transaction is committed
    COMPLETED = "completed"  # the file is never produced again
