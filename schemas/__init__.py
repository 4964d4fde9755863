"""The shape of each message: `.avsc` files per system, the Avro <-> Arrow codec, resolution of older schemas."""

from schemas.avro import AvroSchema, Field, load, parse

__all__ = ["AvroSchema", "Field", "load", "parse"]
