"""Durations written as text: "15 minutes", "1 hour", "5s"."""

from __future__ import annotations

import re

from headrace.errors import DeclarationError

_MICROS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_NAMES = {
    "microsecond": "us",
    "millisecond": "ms",
    "second": "s",
    "sec": "s",
    "minute": "m",
    "min": "m",
    "hour": "h",
    "day": "d",
}
_TEXT = re.compile(r"\s*(\d+)\s*([a-z]+)\s*")


def micros(text: str) -> int:
    """Microseconds of a duration such as "15 minutes"; raises `DeclarationError` for anything else."""
    match = _TEXT.fullmatch(text.lower())
    if match:
        unit = match[2] if match[2] in _MICROS else _NAMES.get(match[2].removesuffix("s"))
        if unit:
            return int(match[1]) * _MICROS[unit]
    raise DeclarationError(f'"{text}" is not a duration; write a number and a unit, such as "15 minutes" or "1 hour"')
