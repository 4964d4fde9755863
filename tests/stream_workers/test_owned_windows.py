"""Sessions and windows of records through real workers that are killed between steps, two at a time at the end."""

from __future__ import annotations

import signal

import duckdb
import pyarrow as pa

from stream_workers.steps import Step
from tests.stream_workers.harness import Rig

_OWNED = {"HEADRACE_CATALOG": "tests.catalogs_owned", "HEADRACE_BATCH_RECORDS": "200"}
_SESSIONS = """
    with timed as (
        select *, epoch_us(cast(orderTimestamp as timestamptz)) as at_us from sent
    ), begun as (
        select distinct customerId, at_us as start from timed t
         where not exists (select 1 from timed o where o.customerId = t.customerId and o.at_us < t.at_us
                                                   and t.at_us - o.at_us < 21600000000)
    )
    select t.customerId, start, max(at_us) + 21600000000, count(*), sum(cast(orderAmount as decimal(18,2))),
           list(orderId order by at_us, number)[-1]
      from timed t asof join begun b on t.customerId = b.customerId and t.at_us >= b.start
     group by all
"""
_THREES = """
    with numbered as (
        select *, row_number() over (partition by customerId order by number) - 1 as nth,
               epoch_us(cast(orderTimestamp as timestamptz)) as at_us
          from sent
    )
    select customerId, nth // 3, count(*), count(*), sum(cast(orderAmount as decimal(18,2))),
           list(orderId order by at_us, number)[-1]
      from numbered group by all
"""


def test_killed_between_steps(rig: Rig, seed: int) -> None:
    rig.produce(seed, 4000, ["negative", "truncated", "bad_time"])
    for step in (Step.STAGED, Step.MERGED, Step.COMMITTED):
        doomed = rig.start(HEADRACE_FAILPOINTS=f"{step.value}:kill:5", **_OWNED)
        rig.wait(lambda worker=doomed: worker.poll() is not None, alive=False)  # type: ignore[misc]
        assert doomed.returncode == -signal.SIGKILL, rig.logs()
    for _ in range(2):
        rig.start(**_OWNED)
    rig.wait(rig.done)
    rig.verify_identities()

    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    sent = pa.Table.from_pylist([{**order, "number": n} for n, order in enumerate(rig.sent.good)])
    con.register("sent", sent)
    micros = "(extract(epoch from {}) * 1000000)::bigint"
    start, end = (micros.format(f'"{name}"') for name in ("windowStart", "windowEnd"))
    visits = rig.query(f'select "customerId", {start}, {end}, orders, amount, latest from visits')
    threes = rig.query('select "customerId", "windowNumber", "windowRecords", orders, amount, latest from by_threes')
    for found, query in ((visits, _SESSIONS), (threes, _THREES)):
        assert len(set(found)) == len(found)
        assert set(found) == set(con.sql(query).fetchall())
