"""The catalog collects declarations, and names the file of every wrong one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assets import catalog
from headrace.errors import DeclarationError
from headrace.settings import ROOT

HEAD = """from topology import Aggregate, EventTime, Expect, FileSource, NotNull, TopK, Topic, Tumbling

orders = Topic(
    "orders", schema="orders/order_created.avsc", key="customerId", event_time=EventTime("orderTimestamp", "iso8601")
)
"""
TABLE = 'totals = Aggregate("totals", orders, by=["customerId"], measures={"orders": "count(*)"})\n'
JOINED = """from topology import Join, Latest
other = Topic(
    "other", schema="orders/order_created.avsc", key="customerId", event_time=EventTime("orderTimestamp", "iso8601")
)
one = Latest("one", orders, ["customerId"], ["orderId"], history=True)
two = Latest("two", other, ["customerId"], {"paymentId": "orderId"}, history=True)
"""
DATED = HEAD.replace('"iso8601")', '"iso8601"), not_before="2026-01-01"')
FINAL = """from topology import Final
hourly = Aggregate("hourly", orders, by=["customerId"], measures={{"n": "count(*)"}}, window=Tumbling("1 hour"),
    emit=Final("{topic}"))
"""
ALERT = """from topology import Alert
alert = Alert("alert", source=hourly, when="n > 5", columns={"customerId": "customerId", "windowEnd": "windowEnd"})
"""
MOVED = """from topology import Alert, Latest
newest = Latest("newest", orders, ["customerId"], ["orderId"])
moved = Alert("moved", source=newest, when="orderId > previous_orderId",
    columns={"customerId": "customerId", "at": "valid_from"})
"""
LETTERS = FINAL.replace('"{topic}"', '"f", dead_letters="failed-f"')

Package = Callable[..., str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Writes a package of declaration files into the current folder and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    name = "declared_" + tmp_path.name.replace("-", "_")

    def write(**files: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        for file, text in files.items():
            (folder / f"{file}.py").write_text(text)
        return name

    yield write
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def refused(package: str) -> str:
    with pytest.raises(DeclarationError) as caught:
        catalog.load(package)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(package, "mine")


def test_the_orders_system_is_declared() -> None:
    found = catalog.load()
    topic = found.topics["order-created-events"]
    assert list(found.tables) == ["customer_order_totals", "product_sales"]
    assert [source.name for source in found.sources_of(topic)] == ["orders_csv", "orders_json"]
    assert [table.name for table in found.pipelines["orders"].tables] == list(found.tables)
    assert found.place(topic) == "assets/orders.py"
    assert found.system(found.tables["product_sales"].table) == "orders"
    assert list(found.expectations) == list(found.tables)
    assert found.tables["product_sales"].lineage["salesAmount"] == ("orderAmount",)


def test_a_package_of_ones_own_is_found_in_the_current_folder(package: Package) -> None:
    name = package(shop=HEAD + TABLE)
    found = catalog.load(name)
    assert list(found.tables) == ["totals"]
    assert list(found.pipelines) == ["orders"]


def test_a_topic_may_be_used_in_another_file_than_its_own(package: Package) -> None:
    name = package(
        b_topics=HEAD,
        a_tables=f"from {{0}}.b_topics import orders\nfrom topology import Aggregate\n{TABLE}".replace(
            "{0}", "PACKAGE"
        ),
    )
    folder = Path(name)
    file = folder / "a_tables.py"
    file.write_text(file.read_text().replace("PACKAGE", name))
    found = catalog.load(name)
    assert found.place(found.topics["orders"]).endswith("b_topics.py")
    assert found.place(found.tables["totals"].table).endswith("a_tables.py")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + TABLE.replace("customerId", "customer"), 'mine/shop.py: totals.by: column "customer" does not exist'),
        (HEAD + TABLE + TABLE.replace("totals =", "others ="), 'table "totals" is declared in mine/shop.py already'),
        (
            HEAD + HEAD.replace("orders =", "others =").replace('"orders"', '"or.ders"').replace("or.ders", "Orders"),
            "too much alike",
        ),
        ("orders = Topc()\n", "mine/shop.py:1: NameError"),
        (HEAD + 'x = Tumbling("quarter hour")\n', "is not a duration"),
        (HEAD.replace("key=", "kee="), "mine/shop.py:3: TypeError"),
        ("orders = (\n", "mine/shop.py:1: SyntaxError"),
        (HEAD + 'x = FileSource("x", orders, "/etc/*.csv", "csv")\n', "must lie inside the landing folder"),
        (HEAD + 'x = FileSource("x", orders, "a/../../*.csv", "csv")\n', "must lie inside the landing folder"),
        (HEAD + 'x = FileSource("x", orders, "a.csv", "xml")\n', "use csv or json"),
        (HEAD + 'x = FileSource("x y", orders, "a.csv", "csv")\n', "source name does not fit"),
        (HEAD + 'x = FileSource("x", orders, "a.csv", "csv", {"amount": "a"})\n', 'column "amount" does not exist'),
        (
            HEAD + 'x = FileSource("x", orders, "a", "csv")\ny = FileSource("y", orders, "a", "json")\n',
            'by source "x" already',
        ),
        (
            HEAD + HEAD.replace("orders =", "others =").replace('"orders"', '"others", pipeline="orders"'),
            "reads topic orders already",
        ),
        (
            HEAD.replace('"orders", schema', '"orders", pipeline="a-b", schema')
            + HEAD.replace("orders =", "others =").replace('"orders"', '"others", pipeline="A.b"'),
            'pipeline: "A.b" as "a-b", which is too much alike, reads topic orders already',
        ),
        (
            HEAD.replace("orders =", "topics =") + TABLE.replace(", orders,", ", topics,") + "topics = None\n",
            "is not declared by a name",
        ),
        (
            HEAD + TABLE + 'e = Expect(totals, critical={"known": NotNull("order")})\n',
            'mine/shop.py: Expect(totals).critical.known: column "order" does not exist in table totals; did you mean',
        ),
        (
            HEAD + TABLE + 'Expect(totals, critical={"known": NotNull("orders")})\n',
            "mine/shop.py:7: Expect(...) has no name, so nothing finds it; give it one",
        ),
        (
            HEAD + TABLE + 'e = Expect(None, critical={"known": NotNull("orders")})\n',
            'mine/shop.py: Expect: its table "None" is not declared by a name of its own',
        ),
        (
            HEAD + TABLE + 'v = TopK("Totals", totals, 3, "orders")\n',
            'view "Totals" is declared in',
        ),
        (HEAD + TABLE + 'v = TopK("orders", totals, 3, "orders")\n', 'view "orders" has the name of a topic'),
        (
            HEAD + TABLE + 'v = TopK("best", totals, 3, "order")\n',
            'shop.py: best.by: column "order" does not exist',
        ),
        (
            HEAD + TABLE + 'v = TopK("best", Aggregate("x", orders, [], {}), 3, "orders")\n',
            'mine/shop.py: best: its table "x" is not declared by a name of its own at the top of a file',
        ),
        (
            HEAD
            + JOINED
            + 'x = [Latest("x", orders, ["customerId"], ["orderId"])]\n'
            + 'j = Join("both", x[0], two, {"customerId": "customerId"}, ("0s", "1s"))\n',
            'mine/shop.py: both: its table "x" is not declared by a name of its own at the top of a file',
        ),
        (
            HEAD + JOINED + 'Join("both", one, two, {"customerId": "customerId"}, ("0s", "1s"))\n',
            "Join(...) has no name, so nothing finds it; give it one",
        ),
        (
            HEAD + JOINED + 'j = Join("orders", one, two, {"customerId": "customerId"}, ("0s", "1s"))\n',
            'join "orders" has the name of a',
        ),
        (
            HEAD + JOINED + 'j = Join("One", one, two, {"customerId": "customerId"}, ("0s", "1s"))\n',
            'join "One" is declared in',
        ),
        (HEAD + TABLE + 'TopK("best", totals, 3, "orders")\n', "mine/shop.py:7: TopK(...) has no name"),
        (
            HEAD.replace('"iso8601")', '"iso8601"), dead_letters="Orders"') + TABLE,
            'orders.dead_letters: "Orders" is, or is too much like, topic orders of',
        ),
        (
            DATED + LETTERS.replace("failed-f", "Orders").format(),
            'hourly.emit.dead_letters: "Orders" is, or is too much like, topic orders of',
        ),
        (DATED + FINAL.format(topic="Orders"), 'hourly.emit.topic: "Orders" is, or is too much like, topic orders of'),
        (
            DATED + FINAL.format(topic="f") + FINAL.replace("hourly", "daily").format(topic="f"),
            '"f" is, or is too much like, the topic of table hourly',
        ),
        (
            DATED + FINAL.format(topic="f") + TABLE.replace('"totals"', '"hourly_final"'),
            'its final rows are shown as the view "hourly_final", and hourly_final is declared',
        ),
        (DATED + FINAL.format(topic="f") + ALERT, "mine/shop.py: alert: its source f has no dead_letters"),
        (
            DATED + TABLE.replace("totals =", "hourly =") + ALERT,
            "mine/shop.py:8: totals emits no final rows; declare a topic for them in the table, as in emit=",
        ),
        (
            DATED + LETTERS.format() + "one, hourly = [hourly], None\n" + ALERT.replace("hourly", "one[0]"),
            'mine/shop.py: alert: its table "hourly" is not declared by a name of its own at the top of a file',
        ),
        (
            DATED + FINAL.format(topic="f") + TABLE.replace("orders, by", "hourly.final, by"),
            "mine/shop.py: totals: neither table hourly nor its final rows are a topic for it; declare a Derived of",
        ),
        (
            DATED + FINAL.format(topic="f") + TABLE.replace("orders, by", "hourly, by"),
            "mine/shop.py: totals: neither table hourly nor its final rows are a topic for it; declare a Derived of",
        ),
        (
            DATED + FINAL.format(topic="f") + 'files = FileSource("files", hourly.final, "*.csv", "csv")\n',
            "files: neither table hourly nor its final rows are a topic for it; ingest into a Topic",
        ),
        (
            DATED
            + MOVED.replace("newest = L", "one = [L")
            .replace('["orderId"])', '["orderId"])]')
            .replace("=newest", "=one[0]"),
            'mine/shop.py: moved: its table "newest" is not declared by a name of its own at the top of a file',
        ),
        (DATED + MOVED.replace("> previous", "> before"), "mine/shop.py: moved.when: column"),
        (DATED + MOVED.replace('["orderId"])', '["orderID"])'), "mine/shop.py: newest.columns.orderID: column"),
        (
            DATED + MOVED + TABLE.replace("orders, by", "newest.transitions, by"),
            "mine/shop.py: totals: neither table newest nor its final rows are a topic for it",
        ),
        (
            DATED + LETTERS.format() + FINAL.replace("hourly", "daily").format(topic="failed-f"),
            '"failed-f" is, or is too much like, the dead-letter topic of f',
        ),
    ],
)
def test_a_wrong_declaration_names_its_file(package: Package, text: str, says: str) -> None:
    assert says in refused(package(shop=text))


def test_a_package_that_is_not_there_says_how_to_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "HEADRACE_CATALOG" in refused("no_such_declarations")


def test_loading_the_catalog_imports_no_heavy_library() -> None:
    heavy = [
        "confluent_kafka",
        "psycopg",
        "pandas",
        "great_expectations",
        "pyarrow",
        "numpy",
        "fastavro",
        "pyruhvro",
        "dagster",
    ]
    code = f"import sys\nfrom assets import catalog\ncatalog.load()\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_wrong_table_is_named_and_not_the_alert_on_its_rows(package: Package) -> None:
    tables = DATED + LETTERS.format().replace("count(*)", "sum(quantty)")
    alerts = ALERT.replace("\nalert", "\nfrom {package}.b_tables import hourly\nalert")
    assert "b_tables.py: hourly.measures.n: column" in refused(
        package(a_alerts=alerts.replace("{package}", "declared_" + Path.cwd().name.replace("-", "_")), b_tables=tables)
    )
