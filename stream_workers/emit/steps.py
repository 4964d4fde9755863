"""The steps of closing, sending and publishing, named so that tests can stop or kill a worker between any two."""

from __future__ import annotations

from enum import Enum


class EmitStep(Enum):
    """Places in the order in which a closer passes them."""

    CLAIMED = "closer_claimed"
    TAKEN_OVER = "outbox_taken_over"
    ANNOUNCED = "outbox_announced"
    LOCKED = "closer_locked"
    STAGED = "closer_staged"
    KEPT = "closer_kept"
    OUTBOXED = "closer_outboxed"
    CLOSED = "closer_closed"
    BEGUN = "outbox_begun"
    PRODUCED = "outbox_produced"
    POSITIONED = "outbox_positioned"
    COMMITTED = "outbox_committed"
    MIRRORED = "outbox_mirrored"


class LetterStep(Enum):
    """Where a batch has put dead letters into the outbox; from there they go through the `outbox` steps above."""

    NUMBERED = "letters_numbered"


class ChangeStep(Enum):
    """Where a batch or a correction has put changed rows into the outbox; from there they go the same way."""

    NUMBERED = "changes_numbered"


class AlertStep(Enum):
    """Where a batch has put alerts on transitions into the outbox."""

    NUMBERED = "alerts_numbered"
