"""The schema: append-only for everybody, versioned, and lenient to newer fields."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from base.core import JsonValue
from watchdog.judgement.commands import RowKind
from watchdog.record.pruning import Retention, prune_step, used_bytes
from watchdog.record.rows import BadRow, Stamp, table_row
from watchdog.record.schema import RECORD_APPEND_ONLY, SCHEMA_VERSION, NewerSchema, connect_writer, schema_version
from watchdog.record.store import Store

STAMP = Stamp("A", "boot-1", 3, 1_700_000_000_000_000_000, 5_000_000_000)


def insert_one_of_each(db: Database) -> None:
    for kind in RowKind:
        row = table_row(kind.value, {}, STAMP)
        db.table(row.table).insert(row.columns)
    stamp = STAMP.columns()
    db.table("packets").insert({**stamp, "incident": "", "interface": "e", "direction": "in", "link_type": 1, "at_ns": 1, "data": b"x"})
    db.table("journals").insert({**stamp, "incident": "", "core": "w", "part": 0, "lines": "", "extra": ""})
    db.table("maintenance").insert({**stamp, "what": "x", "detail": "", "extra": ""})
    db.table("deliveries").insert({"alert_id": 1, "receiver": "r", "state": "pending", "attempts": 0, "detail": "", "changed_wall_ns": 1})
    db.table("delivery_attempts").insert(
        {"alert_id": 1, "receiver": "r", "attempt": 1, "outcome": "failed", "detail": "", "took_ms": 1, "wall_ns": 1}
    )
    db.table("acknowledgements").insert({"incident": "i", "who": "w", "wall_ns": 1})


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "brain.db")
    db = connect_writer(path)
    insert_one_of_each(db)
    db.close()
    return path


@pytest.mark.parametrize("recursive", ["on", "off"])
@pytest.mark.parametrize("table", RECORD_APPEND_ONLY)
def test_nobody_changes_a_row(path: str, table: str, recursive: str) -> None:
    """Plain SQL from any connection, with or without recursive_triggers."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA recursive_triggers={recursive}")
    before = connection.execute(f"SELECT * FROM {table}").fetchall()
    assert len(before) == 1
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    marks = ",".join("?" * len(columns))
    column = columns[1]
    for statement, arguments in [
        (f"UPDATE {table} SET {column} = 'forged'", []),
        (f"DELETE FROM {table}", []),
        (f"INSERT OR REPLACE INTO {table} VALUES ({marks})", before[0]),
        (f"REPLACE INTO {table} VALUES ({marks})", before[0]),
        (f"UPDATE OR REPLACE {table} SET id = 7", []),
        (f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT(id) DO UPDATE SET {column} = 'forged'", before[0]),
    ]:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement, arguments)
        connection.rollback()
    # INSERT OR IGNORE of an existing id may be ignored or refused, but never changes the row.
    try:
        connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", before[0])
    except sqlite3.IntegrityError:
        pass
    assert connection.execute(f"SELECT * FROM {table}").fetchall() == before
    connection.close()


def test_sqlite_utils_upsert_and_replace_are_refused(path: str) -> None:
    db = Database(path, execute_plugins=False)
    row = next(iter(db.table("incidents").rows))
    for write in (
        lambda: db.table("incidents").upsert({**row, "summary": "forged"}, pk="id"),
        lambda: db.table("incidents").insert({**row, "summary": "forged"}, pk="id", replace=True),
        lambda: db.table("incidents").update(row["id"], {"summary": "forged"}),
        lambda: db.table("incidents").delete(row["id"]),
    ):
        with pytest.raises(sqlite3.IntegrityError):
            write()
        db.rollback()
    assert next(iter(db.table("incidents").rows)) == row
    db.close()


def test_deliveries_may_change(path: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE deliveries SET state = 'delivered'")
    connection.commit()
    assert connection.execute("SELECT state FROM deliveries").fetchall() == [("delivered",)]
    connection.close()


def test_durable_settings(path: str) -> None:
    db = connect_writer(path)
    assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert db.execute("PRAGMA recursive_triggers").fetchone()[0] == 1
    assert schema_version(db) == SCHEMA_VERSION
    db.close()
    assert Path(path).stat().st_mode & 0o007 == 0


def test_newer_schema_is_refused_and_untouched(path: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.commit()
    connection.close()
    with pytest.raises(NewerSchema, match="newer brainctl"):
        connect_writer(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM incidents").fetchone() == (1,)
    connection.close()


def test_opening_twice_migrates_once(path: str) -> None:
    db = connect_writer(path)
    assert db.table("evidence").count == 1
    db.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(st.sampled_from(["id", "kind", "at_ns", "level", "state", "incident", "evidence", "key", "value", "news"]), JSON)


@given(st.sampled_from([k.value for k in RowKind]), FIELDS)
def test_any_fields_are_recorded_or_named_bad(kind: str, fields: dict[str, JsonValue]) -> None:
    try:
        row = table_row(kind, fields, STAMP)
    except BadRow:
        return
    db = MEMORY
    with db.atomic():
        db.table(row.table).insert(row.columns)
    stored = next(iter(db.table(row.table).rows_where(order_by="id desc", limit=1)))
    assert {k: stored[k] for k in row.columns} == row.columns
    if "news" in fields:
        assert "news" in stored["extra"]


def _memory() -> Database:
    import tempfile

    return connect_writer(tempfile.mkdtemp() + "/brain.db")


MEMORY = _memory()


def fill(store: Store, table: str, count: int, wall_ns: int, **fields: JsonValue) -> None:
    stamp = Stamp("A", "b", 1, wall_ns, 1)
    kind = {"evidence": "evidence", "fences": "fence", "alerts": "alert", "node_facts": "node", "incidents": "incident"}[table]
    store.write([table_row(kind, fields, stamp) for _ in range(count)])


def test_pruning_is_recorded_and_keeps_what_matters(tmp_path: Path) -> None:
    day = 86_400 * 10**9
    now = 1_000 * day
    store = Store(str(tmp_path / "brain.db"))
    store.open()
    assert store.db is not None
    fill(store, "evidence", 3_000, now - 100 * day)
    fill(store, "evidence", 10, now - 5 * day)
    fill(store, "fences", 2, now - 100 * day, order_id="f", state="requested", level=1)
    fill(store, "alerts", 1, now - 999 * day, dedup_key="k")
    fill(store, "node_facts", 1, now - 999 * day, key="latch", value="on")
    removed = 0
    while step := prune_step(store.db, Retention(days=90), Stamp("A", "b", 1, now, 1)):
        removed += sum(step.values())
    assert removed == 3_000
    assert store.db.table("evidence").count == 10
    assert store.db.table("fences").count == 2
    assert store.db.table("alerts").count == 1, "an undelivered alert is never pruned"
    assert store.db.table("node_facts").count == 1, "the newest value of a fact is never pruned"
    assert store.db.table("maintenance").count_where("what = 'pruned'") == 2
    with pytest.raises(sqlite3.IntegrityError):
        store.db.execute("DELETE FROM evidence")
    store.close()


def test_size_bound_holds(tmp_path: Path) -> None:
    day = 86_400 * 10**9
    store = Store(str(tmp_path / "brain.db"))
    store.open()
    assert store.db is not None
    retention = Retention(days=90, max_bytes=2 << 20)
    for round_ in range(8):
        fill(store, "evidence", 2_000, round_ * 3_600 * 10**9 + 900 * day, detail="x" * 300)
        while prune_step(store.db, retention, Stamp("A", "b", 1, (round_ + 1) * 3_600 * 10**9 + 900 * day, 1)):
            pass
    assert used_bytes(store.db) < 3 << 20
    assert (tmp_path / "brain.db").stat().st_size < 6 << 20
    store.close()
