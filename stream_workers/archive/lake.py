"""Where a lake's files lie: a local folder or an S3-compatible bucket, through pyarrow."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as arrow_fs
import pyarrow.parquet as parquet

from headrace.errors import ServiceUnavailable
from headrace.settings import Settings

_S3 = "s3://"
_ROW_GROUP = 250_000  # rows that a reader can skip by their statistics
_CONNECT_SECONDS, _REQUEST_SECONDS = 10.0, 60.0
_SECRET = "the keys of S3 are in HEADRACE_S3_ACCESS_KEY and HEADRACE_S3_SECRET_KEY"


@dataclass(frozen=True)
class Written:
    """A file as it was written: its address (a path, or `s3://bucket/key`), size and hash."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Found:
    """A file as it lies there."""

    file: str
    bytes: int
    changed_at: datetime


class Lake:
    """Files below one address, `file:///folder` or `s3://bucket/prefix`; every failure is `ServiceUnavailable`."""

    def __init__(self, address: str, settings: Settings) -> None:
        self.address = address.rstrip("/")
        self._remote = address.startswith(_S3)
        self._files = _s3(settings) if self._remote else arrow_fs.LocalFileSystem()
        self._root = self.address.removeprefix(_S3) if self._remote else unquote(self.address.removeprefix("file://"))

    def write(self, path: str, table: pa.Table, about: dict[str, str]) -> Written:
        """Write a file whole: a reader finds the old content or the new one. `about` is kept as its metadata.

        The same rows make the same bytes, however they were cut into batches.
        """
        table = table.replace_schema_metadata(about).combine_chunks()
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink, row_group_size=_ROW_GROUP, compression="zstd", compression_level=1)
        content = sink.getvalue()
        target = f"{self._root}/{path}"
        with self._explained(f"write {path}"):
            if self._remote:
                with self._files.open_output_stream(target) as out:
                    out.write(content)
            else:
                _put(Path(target), memoryview(content))
        return Written(self._name(target), content.size, hashlib.sha256(content).hexdigest())

    def found(self, folder: str) -> list[Found]:
        """Every file below a folder, by name."""
        with self._explained(f"list {folder}"):
            wanted = arrow_fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True, recursive=True)
            infos = [info for info in self._files.get_file_info(wanted) if info.type == arrow_fs.FileType.File]
        return sorted((Found(self._name(i.path), i.size, i.mtime) for i in infos), key=lambda one: one.file)

    def read(self, file: str) -> bytes:
        """The content of a file by its address."""
        with self._explained(f"read {file}"), self._files.open_input_stream(_path(file)) as source:
            content: bytes = source.read()
            return content

    def delete(self, file: str) -> None:
        """Delete a file by its address; one that is gone is no error."""
        with self._explained(f"delete {file}"):
            if self._files.get_file_info(_path(file)).type != arrow_fs.FileType.NotFound:
                self._files.delete_file(_path(file))

    def _name(self, path: str) -> str:
        return f"{_S3}{path}" if self._remote else path

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            remedy = f"; {_SECRET}" if self._remote else ""
            raise ServiceUnavailable(
                f"lake {self.address}: cannot {what}: {str(error).strip()}; nothing was lost, it is tried again{remedy}"
            ) from error


def _path(file: str) -> str:
    return file.removeprefix(_S3)


def _put(target: Path, content: memoryview) -> None:
    """Into a file of another name, on disk, then renamed: the ledger must not list what a power cut can take away."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        with draft.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _s3(settings: Settings) -> Any:
    endpoint = settings.s3_endpoint or ""
    scheme, _, host = endpoint.partition("://") if "://" in endpoint else ("https", "", endpoint)
    secret = settings.s3_secret_key
    return arrow_fs.S3FileSystem(
        access_key=settings.s3_access_key,
        secret_key=secret.get_secret_value() if secret else None,
        region=settings.s3_region or ("us-east-1" if endpoint else None),
        endpoint_override=host or None,
        scheme=scheme,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        retry_strategy=arrow_fs.AwsStandardS3RetryStrategy(max_attempts=3),
    )
