"""Errors that tell a person what happened, what state things are in, and the next command to type.

Every error a user can cause or meet derives from `HeadraceError`; the command line prints its one line and never a
traceback. `Terminal` errors need a person, `Transient` ones are retried with backoff.
"""

from __future__ import annotations


class HeadraceError(Exception):
    """Something went wrong in Headrace. Run `headrace doctor` for the state of the services."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])


class Terminal(HeadraceError):
    """A person has to decide: retrying cannot help."""


class Transient(HeadraceError):
    """A service is not answering; nothing was lost, the step is retried with backoff."""


class SettingsError(Terminal):
    """A setting has a value that cannot be used."""


class DeclarationError(Terminal):
    """A declaration is wrong. The message names file, declaration, column and remedy."""


class UsageError(Terminal):
    """A command was called with arguments that do not fit."""


class SchemaIncompatible(Terminal):
    """A new schema cannot read the records already in the topic."""


class SchemaNotFound(Terminal):
    """The registry does not know the schema."""


class OffsetError(Terminal):
    """The log and the ledger disagree about offsets. Nothing was reset."""


class TopicRecreated(OffsetError):
    """The topic was deleted and created again; the ledger's positions belong to the old one."""


class RetentionPassed(OffsetError):
    """Records that were not consumed yet have been deleted by the topic's retention."""


class LogTruncated(OffsetError):
    """The log ends before the position that the ledger holds."""


class LedgerBehindKafka(OffsetError):
    """Kafka has seen work that the ledger does not know: Postgres was restored to an older state."""


class PartitionsChanged(OffsetError):
    """The topic's partition count is not the one the table was started with."""


class DefinitionChanged(Terminal):
    """The table's declaration differs from the one its rows were made with."""


class Fenced(HeadraceError):
    """Another worker owns the shard now; this one drops its memory of it."""


class ServiceUnavailable(Transient):
    """A service does not answer."""


class ServiceFailed(Terminal):
    """A local service ended or did not get ready. The message carries its last log lines."""
