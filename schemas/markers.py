"""How an end-of-input marker looks on the wire: no value, and these headers. Ingestion writes it, workers read it."""

from __future__ import annotations

MARKER_HEADER = "headrace-marker"
END_OF_INPUT = b"end-of-input"
EVENT_TIME_HEADER = "event-time"  # microseconds since 1970-01-01 UTC, as text
