"""A refused record as a record of the dead-letter topic, whoever sends it there: as it was, and why it was refused."""

from __future__ import annotations

import hashlib

from ledger.outbox import Headers, Record
from stream_workers.batch import Batch

PAYLOAD_BYTES = 900_000  # of payload, key and headers; Kafka's clients send no more than 1,000,000 in one record
_DETAIL = 1_000


def refused(batch: Batch, index: int, pipeline: str, reason: str, detail: str, versions: str) -> Record:
    """Key, payload and headers of record number `index`, after headers that say why, for whom, and where it stands.

    What Kafka would not take together is left out: first the payload, which is named by its size and SHA-256, then the
    headers, then the key. The source has the whole record, and where a ledger decided, the ledger too.
    """
    envelope, payload = batch.envelope(index), batch.payloads[index]
    headers: list[tuple[str, str]] = [
        ("headrace-reason", reason),
        ("headrace-detail", detail[:_DETAIL]),
        ("headrace-pipeline", pipeline),
        ("headrace-for", versions),
        ("headrace-topic", batch.topic),
        ("headrace-partition", str(batch.partition)),
        ("headrace-offset", str(int(batch.offsets[index]))),
        ("headrace-timestamp", str(int(batch.timestamps[index]))),
    ]
    key, carried = envelope.key, tuple(envelope.headers.items())
    room = PAYLOAD_BYTES - _bytes(carried) - len(key or b"")
    if payload is not None and len(payload) > room:
        headers.append(("headrace-payload-bytes", str(len(payload))))
        headers.append(("headrace-payload-sha256", hashlib.sha256(payload).hexdigest()))
        payload = None
    if room < 0:
        headers.append(("headrace-headers-bytes", str(_bytes(carried))))
        carried = ()
    if len(key or b"") > PAYLOAD_BYTES:
        headers.append(("headrace-key-bytes", str(len(key or b""))))
        key = None
    return Record(key, payload, (*headers, *carried))


def _bytes(headers: Headers) -> int:
    return sum(len(name) + len(value.encode("utf-8", "replace")) for name, value in headers)
