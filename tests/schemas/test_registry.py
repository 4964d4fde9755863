"""The registry in front of a real Apicurio."""

from __future__ import annotations

import json
import socket

import pytest

from headrace.errors import SchemaIncompatible, SchemaNotFound, ServiceUnavailable
from schemas import AvroSchema, parse
from schemas.registry import Registry, subject_of


def record(*fields: object) -> AvroSchema:
    return parse(json.dumps({"type": "record", "name": "Order", "fields": fields}))


ID = {"name": "id", "type": "string"}
AMOUNT = {"name": "amount", "type": "int"}
FIRST = record(ID, AMOUNT)


@pytest.fixture
def registry(stack: object) -> Registry:
    return Registry(stack.registry_url)  # type: ignore[attr-defined]  # Services lives in conftest, imported by nobody


def test_a_schema_is_registered_once_and_found_by_its_id(registry: Registry, topic_name: str) -> None:
    subject = subject_of(topic_name)
    schema_id = registry.register(subject, FIRST)
    assert registry.register(subject, FIRST) == schema_id
    assert [f.name for f in registry.schema(schema_id).fields] == ["id", "amount"]
    assert registry.compatibility(subject) == "BACKWARD"


def test_an_added_field_with_default_is_a_new_version(registry: Registry, topic_name: str) -> None:
    subject = subject_of(topic_name)
    first = registry.register(subject, FIRST)
    second = registry.register(
        subject, record(ID, AMOUNT, {"name": "note", "type": ["null", "string"], "default": None})
    )
    assert second != first


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (record(ID, AMOUNT, {"name": "region", "type": "string"}), "region"),
        (record(ID, {"name": "amount", "type": "string"}), "amount"),
    ],
)
def test_a_schema_that_cannot_read_old_records_is_refused_before_it_is_registered(
    registry: Registry, topic_name: str, schema: AvroSchema, names: str
) -> None:
    subject = subject_of(topic_name)
    first = registry.register(subject, FIRST)
    with pytest.raises(SchemaIncompatible, match=names) as caught:
        registry.register(subject, schema)
    assert "Nothing was registered" in str(caught.value)
    assert registry.register(subject, FIRST) == first


def test_an_unknown_id_is_not_a_service_error(registry: Registry) -> None:
    with pytest.raises(SchemaNotFound, match="987654321"):
        registry.schema(987654321)


def test_no_registry_is_a_transient_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    registry = Registry(f"http://127.0.0.1:{port}", {"max.retries": 0})
    with pytest.raises(ServiceUnavailable, match="headrace doctor"):
        registry.schema(1)
    registry = Registry(f"http://me:geheim@127.0.0.1:{port}", {"max.retries": 0})
    with pytest.raises(ServiceUnavailable) as caught:
        registry.schema(1)
    assert "geheim" not in str(caught.value)
