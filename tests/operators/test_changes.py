"""Rows as records whenever they change: the last record of each key is what a query over the log gives, or none."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import fastavro
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from stream_workers.emit.steps import ChangeStep
from stream_workers.steps import Step
from tests.operators.bench import CORRECTION_STEPS, STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import MONEY, ORDER, PER_CUSTOMER, topic
from topology import Changes, Count, Hopping, Latest, Session, Tumbling
from topology.program import TableProgram

TOPIC = topic(partitions=2)
MEASURES = {"orders": "count(*)", "total": f"sum({MONEY})", "newest": "last(orderId)"}
VISITS = replace(
    PER_CUSTOMER, name="visits", source=TOPIC, measures=MEASURES, window=Session("10 minutes"), emit=Changes("visits.c")
)
THREES = replace(VISITS, name="threes", window=Count(3), emit=Changes("threes.c"))
QUARTERS = replace(VISITS, name="quarters", by=["productId", "customerId"], window=Tumbling("15 minutes"))
HOPS = replace(VISITS, name="hops", window=Hopping("30 minutes", "20 minutes"), emit=Changes("hops.c"))
DAYS = replace(VISITS, name="days", window=Tumbling("1 day", "Europe/Berlin"), emit=Changes("days.c"))
TOTALS = replace(
    VISITS,
    name="totals",
    window=None,
    measures={**MEASURES, "products": "count(distinct productId)"},
    where="status = 'COMPLETED'",
    emit=Changes("totals.c"),
)
CUSTOMERS = Latest(
    "customers",
    source=TOPIC,
    by=["customerId"],
    columns={"orderId": "orderId", "at": "cast(orderTimestamp as timestamptz)"},
    emit=Changes("customers.c"),
)
TABLES = [VISITS, THREES, replace(QUARTERS, emit=Changes("quarters.c")), HOPS, DAYS, TOTALS, CUSTOMERS]

CRASHES: list[Step | ChangeStep] = [*STEPS, ChangeStep.NUMBERED]
MARK, DELETE = "end of input", "delete"
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # customer, who has one partition
        st.integers(0, 1),  # product
        st.one_of(st.integers(-60, 60).map(lambda five: 300 * five), st.integers(-4_000, 4_000)),  # seconds around 0:00
        st.integers(1, 9_999),  # cents
        st.sampled_from(["COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "invalid", MARK, DELETE]),
    ),
    max_size=40,
)
MIDNIGHT = datetime(2026, 1, 11)

# `done`: what was applied to all tables; `counted`: the same without corrections, which windows of records refuse.
_DONE = """
create table done as select *, epoch_us(orderTimestamp::timestamptz) as micros from (
    select * exclude kafka_millis from log where orderAmount > 0 union all select * exclude kafka_millis from corrected
)
"""
_MEASURES = 'count(*), sum(orderAmount::decimal(18,2)), last(orderId order by micros, partition, "offset")'
_ISO = "strftime(make_timestamp({}), '%Y-%m-%dT%H:%M:%S.%fZ')"
QUERIES = {
    "visits": f"""
        with begun as (
            select distinct customerId as k, micros as start from done t where not exists (
                select 1 from done o
                where o.customerId = t.customerId and o.micros < t.micros and t.micros - o.micros < 600000000)
        ), held as (
            select t.*, start from done t join begun b on b.k = t.customerId and b.start <= t.micros and not exists (
                select 1 from begun n where n.k = b.k and n.start > b.start and n.start <= t.micros)
        )
        select [customerId, {_ISO.format("start")}], customerId, start, max(micros) + 600000000, {_MEASURES}
        from held group by customerId, start""",
    "threes": """
        with t as (
            select *, epoch_us(orderTimestamp::timestamptz) as micros,
                (row_number() over (partition by customerId order by "offset") - 1) // 3 as number
            from log where orderAmount > 0
        )
        select [customerId, number::varchar], customerId, number, count(*), count(*), sum(orderAmount::decimal(18,2)),
            last(orderId order by micros, partition, "offset") from t group by customerId, number""",
    "quarters": f"""
        with t as (select *, micros // 900000000 * 900000000 as start from done)
        select [productId, customerId, {_ISO.format("start")}], productId, customerId, start, start + 900000000,
            {_MEASURES} from t group by productId, customerId, start""",
    "hops": f"""
        with starts as (select unnest(range(1767225600000000, 1769904000000000, 1200000000)) as start),
        t as (select * from done join starts on micros >= start and micros < start + 1800000000)
        select [customerId, {_ISO.format("start")}], customerId, start, start + 1800000000, {_MEASURES}
        from t group by customerId, start""",
    "days": f"""
        with t as (select *, (micros + 3600000000) // 86400000000 * 86400000000 - 3600000000 as start from done)
        select [customerId, {_ISO.format("start")}], customerId, start, start + 86400000000, {_MEASURES}
        from t group by customerId, start""",
    "totals": f"""
        select [customerId], customerId, {_MEASURES}, count(distinct productId) from done where status = 'COMPLETED'
        group by customerId""",
    "customers": """
        with moved as (
            select partition, "offset", epoch_us(orderTimestamp::timestamptz) as t from log where orderAmount > 0
            union all select partition, "offset", marker from nulls where marker is not null
        ), versions as (
            select customerId, orderId, micros as t, partition, "offset" from done
            union all
            select n.key::varchar, null, max(m.t), n.partition, n."offset"
            from nulls n join moved m on m.partition = n.partition and m."offset" < n."offset"
            where n.marker is null group by all
        )
        select [customerId], customerId, orderId, t from (
            select * from versions
            qualify row_number() over (partition by customerId order by t desc, partition desc, "offset" desc) = 1
        ) where orderId is not null""",
}


def order(who: int, product: int, second: int, cents: int, kind: str, name: str) -> dict[str, Any]:
    return {
        **ORDER,
        "orderId": name,
        "customerId": f"c{who}",
        "productId": f"p{product}",
        "orderAmount": (-cents if kind == "invalid" else cents) / 100,
        "orderTimestamp": (MIDNIGHT + timedelta(seconds=second)).isoformat() + "Z",
        "status": "FAILED" if kind == "FAILED" else "COMPLETED",
    }


def compacted(bench: Bench, table: TableProgram) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """The last record of each key in the outboxes, whose numbers have no gaps; without keys whose last one is empty."""
    assert table.changes is not None
    schema = fastavro.parse_schema(json.loads(table.changes.topic.shape.text))
    found: dict[tuple[str, ...], tuple[Any, ...]] = {}
    shards: dict[tuple[str, ...], int] = {}
    numbers: dict[int, int] = {}
    for shard, seq, topic_, key, payload in bench.db.execute(
        "select shard, seq, topic, key, payload from ledger.outbox where writer = %s order by shard, seq",
        (table.version_id,),
    ):
        assert (seq, topic_) == (numbers.get(shard, 0) + 1, table.changes.topic.name)
        numbers[shard] = seq
        text = key.decode()
        name = tuple(json.loads(text)) if text.startswith("[") else (text,)
        assert shards.setdefault(name, shard) == shard
        found.pop(name, None)
        if payload is not None:
            row: Any = fastavro.schemaless_reader(io.BytesIO(payload[5:]), schema)
            found[name] = tuple(_micros(one) if isinstance(one, datetime) else one for one in row.values())
    return found


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_the_last_record_of_each_key_is_the_row(
    db: Connection, records: list[tuple[int, int, int, int, str]], seed: int
) -> None:
    rng = random.Random(seed)
    bench = Bench(db, TOPIC, TABLES)
    db.execute("delete from ledger.corrections")  # of an earlier example: the topic is not the same
    wanted = []
    for number, (who, product, second, cents, kind) in enumerate(records):
        if kind == MARK:
            bench.mark(who % 2, _micros(MIDNIGHT) + second * 1_000_000)
        elif kind == DELETE:
            bench.delete(who % 2, f"c{who}".encode())
        else:
            offset = bench.send(who % 2, order(who, product, second, cents, kind, f"o{number}"))
            if kind == "invalid":
                wanted.append((who % 2, offset, order(who, product, second, cents, "COMPLETED", f"o{number}")))
    corrected = list(wanted)
    while behind := [p for p in bench.logs if bench.position(p) < bench.end(p)]:
        partition = rng.choice(behind)
        to = min(bench.end(partition), bench.position(partition) + rng.choice([1, 2, 5, 40]))
        bench.advance(partition, to, rng.choice(CRASHES) if rng.random() < 0.2 else None)
        if wanted and rng.random() < 0.3:
            ready = [one for one in wanted if one[1] < bench.position(one[0])]
            for one in ready[:1]:
                assert bench.correct(*one)
                wanted.remove(one)
        bench.decide(partition, rng.choice([None, None, ChangeStep.NUMBERED, *CORRECTION_STEPS]))
    for one in wanted:
        assert bench.correct(*one)
    for partition in bench.logs:
        for _ in range(2):
            bench.decide(partition)
    bench.accounting()
    duck = bench.duck()
    duck.execute("create table corrected as select * from log where false")
    names = [row[0] for row in duck.sql("describe corrected").fetchall()]
    for partition, offset, fixed in corrected:
        given = {**fixed, "partition": partition, "offset": offset, "kafka_millis": 0}
        duck.execute(f"insert into corrected values ({', '.join('?' * len(names))})", [given[name] for name in names])
    duck.execute(_DONE)
    for table in bench.program.tables:
        expected = {tuple(key): tuple(row) for key, *row in duck.sql(QUERIES[table.name]).fetchall()}
        assert compacted(bench, table) == expected, table.name
        assert len(bench.rows(table.name)) == len(expected)


def test_dates_that_python_does_not_have_are_rows_as_others(db: Connection) -> None:
    far = replace(CUSTOMERS, name="far", columns={"d": "cast(productId as date)"}, emit=Changes("far.c"))
    most = replace(
        TOTALS, name="most", measures={"d": "max(cast(productId as date))"}, where=None, emit=Changes("most.c")
    )
    bench = Bench(db, TOPIC, [far, most])
    for name in ("12000-01-01", "11999-01-01"):
        bench.send(0, {**order(0, 0, 60, 100, "COMPLETED", name), "productId": name})
    bench.advance(0, 1)
    bench.advance(0, 2)
    for table, expected in zip(bench.program.tables, (date_days("11999-01-01"), date_days("12000-01-01")), strict=True):
        assert table.changes is not None
        found = db.execute(
            "select payload from ledger.outbox where writer = %s order by seq desc", (table.version_id,)
        ).fetchone()
        assert found is not None
        raw = json.loads(table.changes.topic.shape.text)
        raw["fields"] = [{**one, "type": ["null", "int"]} if one["name"] == "d" else one for one in raw["fields"]]
        row: Any = fastavro.schemaless_reader(io.BytesIO(found[0][5:]), fastavro.parse_schema(raw))
        assert row["d"] == expected


def date_days(text: str) -> int:
    return int(duckdb.connect().execute("select cast(? as date) - date '1970-01-01'", [text]).fetchall()[0][0])
