"""Avro record schemas and their Arrow columns.

Supported: records of string, int, long, float, double, boolean, bytes, enum, the logical types timestamp-millis,
timestamp-micros, date and decimal (on bytes), and each of them in a union with null. Anything nested is refused when
the schema is read, with the place and the remedy.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import DeclarationError

if TYPE_CHECKING:  # imported on use: the catalog reads schemas without it
    import pyarrow as pa

HERE = Path(__file__).resolve().parent

_PLAIN = ("string", "int", "long", "float", "double", "boolean", "bytes")
_LOGICAL = (("long", "timestamp-millis"), ("long", "timestamp-micros"), ("int", "date"))
_MISSING = object()


@dataclass(frozen=True)
class Field:
    """One field. kind: its Avro primitive, `enum`, or its logical type. null_at: index of null in its union."""

    name: str
    kind: str
    null_at: int | None = None
    precision: int = 0
    scale: int = 0
    symbols: tuple[str, ...] = ()
    symbol_default: str | None = None
    aliases: tuple[str, ...] = ()
    doc: str = ""
    default: Any = _MISSING

    @cached_property
    def arrow(self) -> pa.DataType:
        """The type of its column."""
        import pyarrow as pa

        types = {
            "string": pa.string(),
            "enum": pa.string(),
            "int": pa.int32(),
            "long": pa.int64(),
            "float": pa.float32(),
            "double": pa.float64(),
            "boolean": pa.bool_(),
            "bytes": pa.binary(),
            "timestamp-millis": pa.timestamp("ms", "UTC"),
            "timestamp-micros": pa.timestamp("us", "UTC"),
            "date": pa.date32(),
        }
        return types[self.kind] if self.kind in types else pa.decimal128(self.precision, self.scale)

    @property
    def nullable(self) -> bool:
        """Whether a value may be null."""
        return self.null_at is not None

    @property
    def has_default(self) -> bool:
        """Whether a record written without the field can be read."""
        return self.default is not _MISSING


@dataclass(frozen=True)
class AvroSchema:
    """A record schema: its JSON text (equal texts are equal schemas) and its fields, in order."""

    text: str
    fields: tuple[Field, ...] = field(compare=False)

    @cached_property
    def parsed(self) -> dict[str, Any]:
        """The schema as a JSON object."""
        found: dict[str, Any] = json.loads(self.text)
        return found

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of decoded records, one column per field."""
        import pyarrow as pa

        return pa.schema([pa.field(f.name, f.arrow, nullable=f.nullable) for f in self.fields])

    @cached_property
    def by_name(self) -> dict[str, Field]:
        """The fields by name."""
        return {f.name: f for f in self.fields}


def load(path: str) -> AvroSchema:
    """The schema in `schemas/<path>` (of the checkout, else of the current folder); raises `DeclarationError`."""
    for root in (HERE, Path.cwd() / "schemas"):
        file = root / path
        if file.is_file():
            return _load(file, path)
    known = sorted(str(found.relative_to(HERE)) for found in HERE.rglob("*.avsc"))
    raise DeclarationError(f'schema file "schemas/{path}" does not exist{did_you_mean(path, known)}')


def did_you_mean(name: str, known: list[str] | tuple[str, ...]) -> str:
    """The end of an error message: the nearest known name, or all of them."""
    near = [other for other in known if other.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; there are: {', '.join(known)}" if known else ""


@cache
def _load(file: Path, path: str) -> AvroSchema:
    return parse(file.read_text(encoding="utf-8"), f"schemas/{path}")


def parse(text: str, place: str = "schema") -> AvroSchema:
    """The schema written in `text`; `place` names it in a `DeclarationError`."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DeclarationError(f"{place}: this is not JSON ({error})") from error
    if not isinstance(found, dict) or found.get("type") != "record" or not found.get("fields"):
        raise DeclarationError(f"{place}: a message is an Avro record with fields; this is not one")
    fields = tuple(_field(item, place) for item in found["fields"])
    names = [item.name for item in fields]
    for name in names:
        if names.count(name) > 1:
            raise DeclarationError(f'{place}: field "{name}" is there twice; field names are unique')
    return AvroSchema(json.dumps(found, separators=(",", ":")), fields)


def _field(item: dict[str, Any], place: str) -> Field:
    name = str(item.get("name"))
    declared = item.get("type")
    branches = declared if isinstance(declared, list) else [declared]
    others = [branch for branch in branches if branch != "null"]
    if len(others) != 1 or len(branches) > 2:
        raise DeclarationError(f'{place}: field "{name}": only unions of null and one other type are supported')
    inner: dict[str, Any] = others[0] if isinstance(others[0], dict) else {"type": others[0]}
    kind = _kind(inner, f'{place}: field "{name}"')
    return Field(
        name=name,
        kind=kind,
        null_at=branches.index("null") if len(branches) == 2 else None,
        precision=inner["precision"] if kind == "decimal" else 0,
        scale=inner.get("scale", 0) if kind == "decimal" else 0,
        symbols=tuple(inner["symbols"]) if kind == "enum" else (),
        symbol_default=inner.get("default") if kind == "enum" else None,
        aliases=tuple(item.get("aliases", ())),
        doc=str(item.get("doc", "")),
        default=item.get("default", _MISSING),
    )


def _kind(inner: dict[str, Any], place: str) -> str:
    base, logical = str(inner.get("type")), str(inner.get("logicalType"))
    if base == "enum":
        if not inner.get("symbols"):
            raise DeclarationError(f"{place}: an enum needs symbols")
        return base
    if base == "bytes" and logical == "decimal":
        precision, scale = inner.get("precision"), inner.get("scale", 0)
        if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision <= 38:
            raise DeclarationError(f"{place}: a decimal needs 0 <= scale <= precision <= 38")
        return logical
    if (base, logical) in _LOGICAL:
        return logical
    if base in _PLAIN:  # an unknown logical type is ignored, as the Avro specification asks
        return base
    supported = ", ".join([*_PLAIN, "enum", "timestamp-millis", "timestamp-micros", "date", "decimal on bytes"])
    raise DeclarationError(f'{place}: type "{base}" is not supported; use one of {supported}')
