"""Where files lie: a folder and an S3-compatible store behave alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as arrow_fs
import pyarrow.parquet as parquet
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from headrace.errors import ServiceUnavailable
from headrace.settings import Settings
from stream_workers.archive.lake import Lake

ROWS = pa.table({"a": list(range(1000))})


@pytest.fixture(scope="module")
def s3() -> Iterator[Settings]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    store = arrow_fs.S3FileSystem(
        endpoint_override=f"{host}:{port}",
        scheme="http",
        access_key="someone",
        secret_key="secret",
        allow_bucket_creation=True,
    )
    store.create_dir("lakes")
    yield Settings(s3_endpoint=f"http://{host}:{port}", s3_access_key="someone", s3_secret_key=SecretStr("secret"))
    server.stop()


@pytest.fixture(params=["file", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "file":
        return Lake((tmp_path / "a lake").as_uri(), Settings())
    settings = request.getfixturevalue("s3")
    return Lake("s3://lakes/below/here", settings)


def test_what_is_written_is_found_read_and_deleted(lake: Lake) -> None:
    about = {"headrace.topic": "orders"}
    first = lake.write("one/date=2026-01-01/orders-0-0-9.parquet", ROWS, about)
    again = lake.write("one/date=2026-01-01/orders-0-0-9.parquet", ROWS.slice(0, 10), about)
    other = lake.write("two/orders.parquet", ROWS, about)
    assert first.file == again.file and first.sha256 != again.sha256
    assert [(f.file, f.bytes) for f in lake.found("one")] == [(again.file, again.bytes)]
    content = lake.read(again.file)
    assert hashlib.sha256(content).hexdigest() == again.sha256
    read = parquet.read_table(pa.BufferReader(content))
    assert read.num_rows == 10 and (read.schema.metadata or {})[b"headrace.topic"] == b"orders"
    lake.delete(again.file)
    lake.delete(again.file)
    assert lake.found("one") == [] and len(lake.found("two")) == 1
    assert other.sha256 == first.sha256
    lake.delete(other.file)


def test_batches_make_no_difference_to_the_bytes(lake: Lake) -> None:
    cut = pa.concat_tables([ROWS.slice(0, 300), ROWS.slice(300)])
    assert cut.column("a").num_chunks == 2
    assert lake.write("x.parquet", cut, {}).sha256 == lake.write("x.parquet", ROWS, {}).sha256


def test_a_store_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    settings = Settings(s3_endpoint="http://127.0.0.1:9", s3_access_key="a", s3_secret_key=SecretStr("b"))
    with pytest.raises(ServiceUnavailable) as caught:
        Lake("s3://lakes", settings).write("x.parquet", ROWS, {})
    message = str(caught.value)
    assert message.startswith("lake s3://lakes: cannot write x.parquet: ") and "\n" not in message
    assert "nothing was lost" in message and "HEADRACE_S3_ACCESS_KEY" in message
    (tmp_path / "lake").write_text("a file where a folder is needed")
    with pytest.raises(ServiceUnavailable, match="cannot write"):
        Lake((tmp_path / "lake").as_uri(), Settings()).write("x.parquet", ROWS, {})
