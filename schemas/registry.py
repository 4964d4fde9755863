"""The schema registry (Confluent's API): schemas by id, and registration that never breaks what is already written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from headrace.errors import DeclarationError, SchemaIncompatible, SchemaNotFound, ServiceUnavailable
from headrace.logging import redact
from headrace.proxy import spare_loopback
from schemas.avro import AvroSchema, parse
from schemas.resolve import align

# The caller retries with backoff; the client's own retries only bridge a dropped connection.
_DEFAULTS = {"timeout": 10, "max.retries": 2, "retries.wait.ms": 100, "retries.max.wait.ms": 1000}
_BACKWARD = "BACKWARD"
_T = TypeVar("_T")


def subject_of(topic: str) -> str:
    """The subject of a topic's values."""
    return f"{topic}-value"


@dataclass(frozen=True)
class Registered:
    """A schema as the registry has it under a subject."""

    version: int
    schema: AvroSchema


class Registry:
    """A registry at a URL; `config`: options of the Confluent client (basic auth, TLS, timeouts)."""

    def __init__(self, url: str, config: Mapping[str, Any] | None = None) -> None:
        self._url = redact(url)  # for messages: basic auth may be part of it
        spare_loopback()
        self._client = SchemaRegistryClient({"url": url, **_DEFAULTS, **(config or {})})
        self._known: dict[int, AvroSchema] = {}

    def schema(self, schema_id: int) -> AvroSchema:
        """The schema with an id, asked for once.

        Raises `SchemaNotFound` for an unknown id, `SchemaIncompatible` for a schema that is not a supported Avro
        record, `ServiceUnavailable` when the registry does not answer.
        """
        found = self._known.get(schema_id)
        if found is None:
            answer = self._ask(lambda: self._client.get_schema(schema_id))
            if answer is None:
                raise SchemaNotFound(f"schema id {schema_id} is unknown to the registry")
            found = self._known[schema_id] = _avro(answer, f"schema id {schema_id}")
        return found

    def register(self, subject: str, schema: AvroSchema) -> int:
        """The schema's id under a subject, registered if it is new.

        The subject's compatibility is BACKWARD from then on, and a new version is compared with all that is registered
        before it gets there: `SchemaIncompatible` says which field cannot be read and what to do.
        """
        wanted = Schema(schema.text, "AVRO")
        known = self._ask(lambda: self._client.lookup_schema(subject, wanted))
        if known is not None and known.schema_id is not None:
            self._set_backward(subject)
            return known.schema_id
        latest = self._ask(lambda: self._client.get_latest_version(subject))
        if latest is not None:
            self._set_backward(subject)
            self._check(subject, schema, wanted, _avro(latest.schema, f"{subject} version {latest.version}"))
        try:
            schema_id = self._must(lambda: self._client.register_schema(subject, wanted))
        except SchemaRegistryError as error:
            if error.http_status_code != 409:
                raise ServiceUnavailable(f"registry {self._url} refused {subject}: {error}") from error
            raise SchemaIncompatible(_refusal(subject, str(error.error_message))) from error
        self._set_backward(subject)
        return schema_id

    def latest(self, subject: str) -> Registered | None:
        """The newest version of a subject, None when there is none; only looks.

        Raises `SchemaIncompatible` for a version that is not a supported Avro record.
        """
        found = self._ask(lambda: self._client.get_latest_version(subject))
        if found is None:
            return None
        version = found.version or 0
        return Registered(version, _avro(found.schema, f"{subject} version {version}"))

    def need_schemas(self) -> None:
        """`SchemaNotFound` when the registry holds no schema at all: every record would be of an unknown one."""
        if not self._must(self._client.get_subjects):
            raise SchemaNotFound(
                f"the registry {self._url} holds no schema; nothing was read; check HEADRACE_REGISTRY_URL,"
                " or run `headrace provision`"
            )

    def compatibility(self, subject: str) -> str | None:
        """The subject's compatibility rule, None while it has none of its own."""
        found = self._ask(lambda: self._client.get_compatibility(subject))
        return None if found is None else str(found)

    def _set_backward(self, subject: str) -> None:
        if self.compatibility(subject) != _BACKWARD:
            self._ask(lambda: self._client.set_compatibility(subject, _BACKWARD))

    def _check(self, subject: str, schema: AvroSchema, wanted: Schema, latest: AvroSchema) -> None:
        try:
            align(latest, schema)
        except SchemaIncompatible as error:
            raise SchemaIncompatible(_refusal(subject, str(error))) from error
        if not self._ask(lambda: self._client.test_compatibility(subject, wanted)):
            raise SchemaIncompatible(_refusal(subject, "the registry finds it incompatible with the latest version"))

    def _ask(self, call: Callable[[], _T]) -> _T | None:
        """The answer; None for "not found"."""
        try:
            return self._must(call)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise ServiceUnavailable(f"registry {self._url} answers with an error: {error}") from error

    def _must(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except SchemaRegistryError as error:
            if error.http_status_code >= 500 or error.http_status_code in (408, 429):
                raise ServiceUnavailable(f"registry {self._url} answers with an error: {error}") from error
            raise
        except Exception as error:  # the HTTP client's errors, whichever of its two implementations is installed
            why = f"{type(error).__name__}: {redact(str(error))}"
            raise ServiceUnavailable(f"registry {self._url} does not answer ({why}); run `headrace doctor`") from error


def _avro(found: Schema, place: str) -> AvroSchema:
    if found.schema_type not in (None, "AVRO"):
        raise SchemaIncompatible(f"{place} is {found.schema_type}; only Avro is read")
    try:
        return parse(str(found.schema_str), place)
    except DeclarationError as error:
        raise SchemaIncompatible(str(error)) from error


def _refusal(subject: str, why: str) -> str:
    return (
        f"{subject}: the new schema cannot read the records already written: {why}. Nothing was registered; "
        "give added fields a default and keep the types of the others, or use a new topic"
    )
