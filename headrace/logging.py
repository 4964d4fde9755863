"""Plain log lines on standard error: time, level, logger, message, then `key=value` fields. Secrets never get here."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

_SECRET = re.compile(
    r"(?i)((?:password|secret|token|sasl\.password|basic\.auth[\w.]*)[\"']?\s*[=:]\s*[\"']?)[^\s\"',}&]+"
)
_URL_PASSWORD = re.compile(r"(\w+://[^:/\s@]+:)[^@\s]+@")


def redact(text: str) -> str:
    """`text` with passwords in URLs and `password=...` pairs replaced by stars."""
    return _URL_PASSWORD.sub(r"\1***@", _SECRET.sub(r"\1***", text))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(level: str = "INFO") -> None:
    """Send log lines of every room to standard error, once per process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def fields(**values: Any) -> str:
    """`key=value` pairs for the end of a log line, in the order given."""
    return " ".join(f"{key}={value}" for key, value in values.items())
