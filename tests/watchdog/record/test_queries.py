"""What the operator's command reads from the record, while it is written and when everything else is dead."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from watchdog.record.queries import RecordUnavailable, open_record
from watchdog.record.rows import Stamp, table_row
from watchdog.record.schema import SCHEMA_VERSION
from watchdog.record.store import Store

T0 = 1_790_000_000_000_000_000
SECOND = 10**9


def write(store: Store, at_s: float, *rows: tuple[str, dict[str, object]], incarnation: int = 1) -> None:
    stamp = Stamp("A", "boot", incarnation, T0 + int(at_s * SECOND), int(at_s * SECOND))
    store.write([table_row(kind, fields, stamp) for kind, fields in rows])  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A record of one split that ended by a fence, and a second incident that is still open."""
    path = str(tmp_path / "brain.db")
    store = Store(path)
    store.open()
    write(store, -900, ("evidence", {"id": "e1", "kind": "K1", "subject": "old run"}))
    write(store, 0, ("evidence", {"id": "e1", "kind": "K1", "subject": "51/4", "detail": "eth0 holds 10.0.0.1", "at_ns": 7}), incarnation=2)
    write(store, 0.1, ("evidence", {"id": "e2", "kind": "K2", "subject": "51/4", "detail": "02:00:00:00:00:02 answers"}), incarnation=2)
    verdict = {"id": "v1", "scope": "51/4", "verdict": "SPLIT_BRAIN", "stage": "suspected", "reason": "two kinds", "evidence": ["e1", "e2"]}
    write(store, 0.2, ("verdict", {**verdict, "incident": "c/51/7"}), incarnation=2)
    incident = {"id": "c/51/7", "scope": "51/4", "verdict": "SPLIT_BRAIN", "summary": "two owners"}
    alert = {"dedup_key": "c/51/7", "incident": "c/51/7", "severity": "critical", "action": "trigger", "summary": "two owners"}
    write(store, 1, ("incident", {**incident, "state": "open"}), ("alert", {**alert, "details": {"owner": "B"}}), incarnation=2)
    write(
        store, 2, ("action", {"id": "a1", "incident": "c/51/7", "action": "yield", "subject": "B", "outcome": "no answer"}), incarnation=2
    )
    fence = {"order_id": "o1", "incident": "c/51/7", "target": "B"}
    write(store, 3, ("fence", {**fence, "level": 1, "state": "requested"}), incarnation=2)
    write(store, 4, ("fence", {**fence, "level": 0, "state": "proved"}), incarnation=2)
    write(store, 5, ("incident", {**incident, "state": "closed"}), ("alert", {**alert, "action": "resolve"}), incarnation=2)
    write(store, 6, ("incident", {**incident, "id": "c/pair/8", "scope": "pair", "state": "open"}), incarnation=2)
    assert store.db is not None
    for receiver, state in (("mail", "delivered"), ("pager", "refused")):
        store.db.table("deliveries").insert(
            {"alert_id": 1, "receiver": receiver, "state": state, "attempts": 2, "detail": "d", "changed_wall_ns": T0}
        )
    store.close()
    return path


def test_incidents(path: str) -> None:
    with open_record(path) as record:
        assert [(i.incident, i.state) for i in record.incidents()] == [("c/pair/8", "open"), ("c/51/7", "closed")]
        assert [i.incident for i in record.incidents(open_only=True)] == ["c/pair/8"]
        assert [i.incident for i in record.incidents(limit=1)] == ["c/pair/8"]
        summary = record.incidents()[1]
        assert summary.opened_wall_ns == T0 + SECOND and summary.changed_wall_ns == T0 + 5 * SECOND


@pytest.mark.parametrize("name", ["c/51/7", "51/7", "7"])
def test_one_incident_with_all_that_belongs_to_it(path: str, name: str) -> None:
    with open_record(path) as record:
        report = record.incident(name)
    assert report is not None
    assert [h.state for h in report.history] == ["open", "closed"]
    assert [(e.evidence_id, e.subject) for e in report.evidence] == [("e1", "51/4"), ("e2", "51/4")], "not the old run's e1"
    assert report.verdicts[0].evidence == ("e1", "e2")
    assert [a.action for a in report.actions] == ["yield"]
    assert [(f.level, f.state) for f in report.fences] == [(1, "requested"), (0, "proved")]
    assert [a.action for a in report.alerts] == ["trigger", "resolve"]
    assert report.alerts[0].details == {"owner": "B"}
    assert {(d.receiver, d.state) for d in report.alerts[0].deliveries} == {("mail", "delivered"), ("pager", "refused")}
    json.dumps(report.to_json())


def test_unknown_incident(path: str) -> None:
    with open_record(path) as record:
        assert record.incident("nothing") is None
        assert record.incident("") is None


def test_log_filters(path: str) -> None:
    with open_record(path) as record:
        everything = record.log()
        assert [line.kind for line in everything][:2] == ["verdict", "incident"]
        assert [line.wall_ns for line in everything] == sorted(line.wall_ns for line in everything)
        assert {line.kind for line in record.log(kinds=["fence", "evidence"])} == {"fence", "evidence"}
        assert len(record.log(limit=2)) == 2 and record.log(limit=2) == everything[-2:]
        assert [line.kind for line in record.log(since_wall_ns=T0 + 4 * SECOND, until_wall_ns=T0 + 5 * SECOND)] == ["fence"]
        assert all(line.incident == "c/51/7" for line in record.log(incident="7"))
        assert [line.kind for line in record.log(subject="pair")] == ["incident"]
        with pytest.raises(ValueError, match="evidence"):
            record.log(kinds=["evidnce"])


def test_following(path: str) -> None:
    with open_record(path) as record:
        position = record.position()
        assert record.log(after=position) == []
        store = Store(path)
        store.open()
        write(store, -50, ("action", {"id": "a2", "action": "announce"}))
        assert [line.text for line in record.log(after=position)] == ["announce"], "also when the clock was set back"
        store.close()


def test_undelivered(path: str) -> None:
    with open_record(path) as record:
        found = [(u.alert.action, u.receiver, u.state) for u in record.undelivered()]
    assert found == [("trigger", "pager", "refused"), ("resolve", "", "pending")]


def test_health_and_last_verdicts(path: str) -> None:
    with open_record(path) as record:
        health = record.health()
        assert health.problem == "" and health.schema_version == SCHEMA_VERSION
        assert health.rows["evidence"] == 3 and health.open_incidents == 1 and health.undelivered == 2
        assert health.last_write_wall_ns == T0 + 6 * SECOND
        assert [v.verdict for v in record.last_verdicts()] == ["SPLIT_BRAIN"]


def test_readers_cannot_write(path: str) -> None:
    import sqlite3

    with open_record(path) as record, pytest.raises(sqlite3.OperationalError, match="readonly"):
        record._db.execute("DELETE FROM deliveries")


@pytest.mark.parametrize(("content", "word"), [(None, "no record"), (b"", "empty"), (b"not a database" * 500, "damaged")])
def test_unreadable_records_say_what_to_do(tmp_path: Path, content: bytes | None, word: str) -> None:
    path = tmp_path / "brain.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordUnavailable, match=word) as caught:
        open_record(str(path))
    assert caught.value.remedy


def test_damage_inside_is_reported(path: str) -> None:
    data = bytearray(Path(path).read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    Path(path).write_bytes(data)
    with pytest.raises(RecordUnavailable, match="damaged"), open_record(path) as record:
        record.health()


def test_cleanly_closed_record_is_readable_without_write_permission(path: str) -> None:
    """An operator of group brainctl, daemon dead: the directory cannot be written, there is no shared memory file."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        copy = shutil.copy(path, directory)
        os.chmod(copy, 0o644)
        code = (
            "import os\nfrom watchdog.record.queries import open_record\n"
            f"os.setgid(65534); os.setuid(65534)\nprint(len(open_record({copy!r}).incidents()))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stdout == "2\n", done.stderr


def test_reading_ten_thousand_rows_while_they_are_written(tmp_path: Path) -> None:
    """Readers see whole transactions (an incident and its alert) and are never refused."""
    path = str(tmp_path / "brain.db")
    ready, stop = threading.Event(), threading.Event()
    written = 0

    def writer() -> None:
        nonlocal written
        store = Store(path)
        store.open()
        rows = [("evidence", {"id": f"e{n}"}) for n in range(10_000)]
        write(store, 0, *rows)
        ready.set()
        while not stop.is_set():
            written += 1
            name = f"c/pair/{written}"
            write(store, written, ("incident", {"id": name, "state": "open"}), ("alert", {"incident": name, "dedup_key": name}))
        store.close()

    thread = threading.Thread(target=writer)
    thread.start()
    assert ready.wait(60)
    try:
        until = time.monotonic() + 3
        reads = 0
        while time.monotonic() < until or written < 50:
            with open_record(path) as record:
                assert len(record.log(kinds=["evidence"], limit=20_000)) == 10_000
                rows = record.health(check=False).rows
                assert rows["incidents"] == rows["alerts"]
                reads += 1
        assert reads > 3
    finally:
        stop.set()
        thread.join(60)
