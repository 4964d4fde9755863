"""Records of the dead-letter topic fit into Kafka, and say what was left out of them."""

from __future__ import annotations

import numpy as np
import pytest

from stream_workers.batch import Batch, Envelope
from stream_workers.refused import PAYLOAD_BYTES, refused


@pytest.mark.parametrize(
    ("payload", "key", "header", "left_out"),
    [
        (10, 10, 10, set()),
        (PAYLOAD_BYTES + 1, 10, 10, {"payload"}),
        (PAYLOAD_BYTES - 10, 20, 10, {"payload"}),
        (10, PAYLOAD_BYTES // 2, PAYLOAD_BYTES // 2, {"payload", "headers"}),
        (10, PAYLOAD_BYTES + 1, 10, {"payload", "headers", "key"}),
    ],
)
def test_what_kafka_would_not_take_is_left_out(payload: int, key: int, header: int, left_out: set[str]) -> None:
    batch = Batch(
        0, "orders", 0, 4, 5, 0, False, [b"x" * payload], np.array([4]), np.array([5]),
        lambda _: Envelope(b"k" * key, {"h": "v" * header}),
    )  # fmt: skip
    found = refused(batch, 0, "orders", "undecodable", "d" * 5_000, "totals@1")
    heads = dict(found.headers)
    assert {name for name in ("payload", "headers", "key") if f"headrace-{name}-bytes" in heads} == left_out
    assert (found.payload is None, found.key is None, "h" not in heads) == tuple(
        name in left_out for name in ("payload", "key", "headers")
    )
    assert (heads["headrace-offset"], heads["headrace-pipeline"], len(heads["headrace-detail"])) == (
        "4",
        "orders",
        1000,
    )
    size = len(found.payload or b"") + len(found.key or b"") + sum(len(n) + len(v) for n, v in found.headers)
    assert size < 1_000_000
