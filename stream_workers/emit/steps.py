"""The steps of closing and publishing, named so that tests can stop or kill a worker between any two of them."""

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
