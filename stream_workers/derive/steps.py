"""The steps of a derived batch, named so that tests can stop or kill a worker between any two of them."""

from __future__ import annotations

from enum import Enum


class DeriveStep(Enum):
    """Places in the order a batch passes them, after `Step.ROUTED` and before `Step.ADOPTED`; then those of others."""

    TAKEN_OVER = "taken_over"
    STARTED = "started"
    BEGUN = "kafka_begun"
    PRODUCED = "kafka_produced"
    DEAD_LETTERED = "kafka_dead_lettered"
    POSITIONED = "kafka_positioned"
    COMMITTED = "kafka_committed"
    MIRRORING = "mirroring"
    MIRRORED = "mirrored"
    MARKED = "kafka_marked"
    MARKS_COMMITTED = "kafka_marks_committed"
    CORRECTIONS_BEGUN = "kafka_corrections_begun"
    CORRECTIONS_PRODUCED = "kafka_corrections_produced"
    CORRECTIONS_COMMITTED = "kafka_corrections_committed"
    CORRECTIONS_MIRRORING = "corrections_mirroring"
    CORRECTIONS_MIRRORED = "corrections_mirrored"
