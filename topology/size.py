"""Sizes written as text: "64 MB", "500 KB", "1 GB"; units of 1,000 as of disks, of 1,024 with an i ("64 MiB")."""

from __future__ import annotations

import re

from headrace.errors import DeclarationError

_BYTES = {"kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_TEXT = re.compile(r"\s*(\d+)\s*([a-z]+)\s*")


def size_bytes(text: str) -> int:
    """Bytes of a size such as "64 MB"; raises `DeclarationError` for anything else."""
    match = _TEXT.fullmatch(text.lower())
    if match and match[2] in _BYTES:
        return int(match[1]) * _BYTES[match[2]]
    raise DeclarationError(f'"{text}" is not a size; write a number and KB, MB or GB, such as "64 MB"')
