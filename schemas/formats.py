"""How the records of a topic are written: framed Avro, or JSON objects. One interface for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import pyarrow as pa

from schemas.avro import AvroSchema
from schemas.codec import Decoded, Decoder, Encoder
from schemas.json_codec import JsonDecoder, JsonEncoder

Format = Literal["avro", "json"]


class Encodes(Protocol):
    """Writes records."""

    def encode(self, schema: AvroSchema, schema_id: int, batch: pa.RecordBatch) -> pa.BinaryArray:
        """One record per row; columns in the schema's order. Raises ValueError for a value it cannot hold."""
        ...


class Decodes(Protocol):
    """Reads records."""

    def decode(self, payloads: list[bytes | None]) -> Decoded:
        """All payloads (`None`: a null value) as one frame plus the failures, in order of their index."""
        ...


def encoder(form: Format) -> Encodes:
    """What writes records of a format."""
    return JsonEncoder() if form == "json" else Encoder()


def decoder(form: Format, reader: AvroSchema, lookup: Callable[[int], AvroSchema]) -> Decodes:
    """What reads records of a format; `lookup`: the writer's schema of an id, for Avro."""
    return JsonDecoder(reader) if form == "json" else Decoder(reader, lookup)
