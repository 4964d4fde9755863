"""Errors of whole files."""

from __future__ import annotations

from headrace.errors import Terminal


class FileError(Terminal):
    """A file cannot be ingested as a whole. Nothing of it that is not yet in the topic was produced."""
