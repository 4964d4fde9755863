"""The steps of a batch, named so that tests can stop or kill a worker between any two of them."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """Places in the loop, in the order a batch passes them."""

    CLAIMED = "claimed"
    POLLED = "polled"
    ROUTED = "routed"
    BEGUN = "begun"
    ADVANCED = "advanced"
    STAGED = "staged"
    MERGED = "merged"
    DEAD_LETTERED = "dead_lettered"
    INDEXED = "indexed"
    COMMITTED = "committed"
    ADOPTED = "adopted"
    OFFSETS_NOTED = "offsets_noted"


class CorrectionStep(Enum):
    """Places between two batches where corrections are decided, in their order."""

    READ = "correction_read"
    ADVANCED = "correction_advanced"
    MERGED = "correction_merged"
    DECIDED = "correction_decided"
    COMMITTED = "correction_committed"
    ADOPTED = "correction_adopted"


class CatchUpStep(Enum):
    """Where a table that was behind goes on with the others."""

    JOINED = "catch_up_joined"
