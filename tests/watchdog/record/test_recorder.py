"""The recorder as a real process: durable before it answers, and nothing that happens to its disk stops the service."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.children import ChildProcess, wait_until
from watchdog.record.messages import Restored

WALL = 1_790_000_000_000_000_000


def recorder(state_dir: Path, *args: str) -> ChildProcess:
    return ChildProcess("watchdog.record.recorder", "--state-dir", str(state_dir), "--node", "A", *args)


def persist(child: ChildProcess, rows: list[tuple[str, dict[str, Any]]], barrier: int | None = None, wall_ns: int | None = None) -> None:
    wall = time.time_ns() if wall_ns is None else wall_ns
    child.send({"op": "persist", "rows": [list(r) for r in rows], "barrier": barrier, "wall_ns": wall, "boottime_ns": 1})


def restore(child: ChildProcess, incarnation: int | None = None) -> Restored:
    child.send({"op": "restore", "incarnation": incarnation})
    return Restored.from_message(child.wait_for("restored"))


def rows_of(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def fence(order: str, state: str, level: int = 1) -> tuple[str, dict[str, Any]]:
    return ("fence", {"order_id": order, "incident": "c/pair/4", "target": "B", "level": level, "state": state, "detail": ""})


INCIDENT = ("incident", {"id": "c/pair/7", "state": "open", "scope": "pair", "verdict": "SPLIT_BRAIN", "summary": "two owners"})
ALERT = ("alert", {"dedup_key": "c/pair/7", "incident": "c/pair/7", "severity": "critical", "action": "trigger", "summary": "two owners"})


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ChildProcess]:
    child = recorder(tmp_path)
    yield child
    if child.process.poll() is None:
        child.kill()


def test_what_was_answered_survives_kill_9(child: ChildProcess, tmp_path: Path) -> None:
    assert restore(child).incarnation == 1
    persist(child, [INCIDENT, ALERT], barrier=5)
    assert child.wait_for("persisted") == 5
    child.kill()
    assert rows_of(tmp_path / "brain.db", "SELECT incident, node, incarnation FROM incidents") == [("c/pair/7", "A", 1)]
    assert rows_of(tmp_path / "brain.db", "SELECT dedup_key, action FROM alerts") == [("c/pair/7", "trigger")]


def test_kill_9_in_the_middle_leaves_whole_transactions(tmp_path: Path) -> None:
    """Batches of an incident with its alert, killed at a random moment: never one without the other, all answered ones there."""
    answered = 0
    for round_ in range(4):
        child = recorder(tmp_path)
        restore(child)
        for n in range(300):
            name = f"r{round_}/{n}"
            persist(child, [("incident", {"id": name}), ("alert", {"incident": name, "dedup_key": name})], barrier=n)
        child.wait_for("persisted", lambda v, r=round_: v >= 40 * (r + 1))
        child.kill()
        highest = max([m["persisted"] for m in child.messages if "persisted" in m], default=40 * (round_ + 1))
        present = {row[0] for row in rows_of(tmp_path / "brain.db", "SELECT incident FROM incidents")}
        assert {f"r{round_}/{n}" for n in range(highest + 1)} <= present
        assert present == {row[0] for row in rows_of(tmp_path / "brain.db", "SELECT incident FROM alerts")}
        answered += highest
    assert answered > 0


def test_rows_sent_before_the_watcher_died_are_written(child: ChildProcess, tmp_path: Path) -> None:
    restore(child)
    for n in range(200):
        persist(child, [("action", {"id": f"a{n}", "action": "yield"})])
    assert child.end() == 0
    assert rows_of(tmp_path / "brain.db", "SELECT count(*) FROM actions") == [(200,)]


def test_restart_knows_what_must_not_be_forgotten(child: ChildProcess, tmp_path: Path) -> None:
    first = restore(child)
    assert (first.clean_stop, first.same_boot, first.seen_peer, first.last_incident) == (True, False, False, 0)
    old = time.time_ns() - 7_200 * 10**9
    persist(child, [fence("old", "requested"), fence("old", "proved", 0)], wall_ns=old)
    persist(child, [fence("done", "requested"), fence("done", "claimed"), fence("done", "proved", 0)])
    persist(child, [fence("open", "requested"), fence("open", "claimed")])
    persist(child, [fence("second", "requested", 1), fence("second", "refuted", 1), fence("second", "requested", 2)])
    persist(child, [fence("lost", "requested"), fence("lost", "unknown", 0)])
    facts = [("node", {"key": "seen_peer", "value": True}), ("node", {"key": "latch", "value": "3 fences in an hour"})]
    persist(child, [*facts, ("node", {"key": "quarantine", "value": True}), INCIDENT], barrier=1)
    child.wait_for("persisted")
    child.kill()
    again = recorder(tmp_path, "--watcher", "second")
    second = restore(again)
    assert second.incarnation == 2
    assert second.same_boot
    assert not second.clean_stop
    assert second.quarantined and second.latched and second.seen_peer
    assert [(f.order_id, f.target, f.level) for f in second.open_fences] == [("open", "B", 1), ("second", "B", 2)]
    assert len(second.recent_fence_wall_ns) == 4
    assert second.last_incident == 7
    assert [(i.id, i.scope, i.paged) for i in second.open_incidents] == [(INCIDENT[1]["id"], INCIDENT[1]["scope"], False)]
    told = {"dedup_key": "k", "incident": INCIDENT[1]["id"], "severity": "critical", "action": "trigger", "summary": "x"}
    persist(again, [("incident", {**INCIDENT[1], "id": "c/closed", "state": "closed"}), ("alert", told)])
    persist(again, [("node", {"key": "quarantine", "value": False}), ("node", {"key": "latch", "value": ""})])
    again.send({"op": "goodbye"})
    assert again.wait_for("goodbye") is True
    assert again.process.wait(30) == 0
    third_child = recorder(tmp_path, "--boot", "another-boot", "--watcher", "third")
    third = restore(third_child, incarnation=9)
    assert (third.incarnation, third.clean_stop, third.same_boot) == (9, True, False)
    assert not third.quarantined and not third.latched
    assert [(i.id, i.paged) for i in third.open_incidents] == [(INCIDENT[1]["id"], True)]
    third_child.end()


def test_restarted_recorder_of_a_living_run_keeps_its_number(child: ChildProcess, tmp_path: Path) -> None:
    restore(child, 5)
    child.kill()
    again = recorder(tmp_path)
    persist(again, [INCIDENT], barrier=1)
    again.wait_for("persisted")
    assert restore(again, 5).incarnation == 5, "the same watcher asks once more"
    again.end()
    assert rows_of(tmp_path / "brain.db", "SELECT incarnation FROM incidents") == [(5,)]
    new_watcher = recorder(tmp_path, "--watcher", "another")
    assert restore(new_watcher, 5).incarnation == 6, "a new run never shares a number"
    new_watcher.end()


def test_quarantine_survives_the_loss_of_the_database(child: ChildProcess, tmp_path: Path) -> None:
    restore(child, 1)
    persist(child, [("node", {"key": "quarantine", "value": True})], barrier=1)
    child.wait_for("persisted")
    child.end()
    for name in os.listdir(tmp_path):
        if name.startswith("brain.db"):
            os.unlink(tmp_path / name)
    again = recorder(tmp_path)
    restored = restore(again, 2)
    assert restored.quarantined
    assert restored.latched, "how often the peer was fenced is not known any more"
    assert restored.record_lost
    again.end()


@pytest.mark.parametrize("damage", ["garbage", "middle", "truncated"])
def test_damaged_database_is_set_aside_and_facts_are_carried_over(tmp_path: Path, damage: str) -> None:
    child = recorder(tmp_path)
    restore(child, 1)
    persist(child, [("evidence", {"id": f"e{n}", "detail": "x" * 200}) for n in range(2_000)])
    persist(child, [fence("open", "requested"), ALERT, ("node", {"key": "seen_peer", "value": True})], barrier=1)
    child.wait_for("persisted")
    child.end()
    path = tmp_path / "brain.db"
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data[:] = os.urandom(len(data))
    elif damage == "middle":
        # Pages of the middle are the evidence table's: the small tables can still be read.
        data[200 * 1024 : 260 * 1024] = os.urandom(60 * 1024)
    else:
        del data[len(data) // 2 :]
    path.write_bytes(data)
    again = recorder(tmp_path)
    restored = restore(again, 2)
    said = [m["set_aside"] for m in again.messages if "set_aside" in m] or restored_set_aside(again)
    assert (tmp_path / os.path.basename(said[0]["path"])).exists()
    if damage == "middle":
        assert [f.order_id for f in restored.open_fences] == ["open"]
        assert restored.seen_peer
        assert rows_of(path, "SELECT dedup_key FROM alerts") == [("c/pair/7",)]
    else:
        assert (restored.latched and restored.record_lost) or [f.order_id for f in restored.open_fences] == ["open"]
    persist(again, [INCIDENT], barrier=2)
    assert again.wait_for("persisted") == 2
    assert rows_of(path, "SELECT incident FROM incidents") == [("c/pair/7",)]
    assert rows_of(path, "SELECT count(*) FROM maintenance WHERE what = 'set_aside'") == [(1,)]
    again.end()


def restored_set_aside(child: ChildProcess) -> list[dict[str, Any]]:
    """The message comes before the answer to restore and was consumed with it: read it from the record."""
    import json

    path = Path(child.process.args[child.process.args.index("--state-dir") + 1]) / "brain.db"  # type: ignore[index,union-attr]
    return [json.loads(row[0]) for row in rows_of(path, "SELECT detail FROM maintenance WHERE what = 'set_aside'")]


def test_damage_while_running(child: ChildProcess, tmp_path: Path) -> None:
    restore(child, 1)
    persist(child, [("evidence", {"id": f"e{n}", "detail": "x" * 500}) for n in range(500)], barrier=1)
    child.wait_for("persisted")
    path = tmp_path / "brain.db"
    for victim in (path, tmp_path / "brain.db-wal"):
        with open(victim, "r+b") as f:
            f.write(os.urandom(os.path.getsize(victim)))
    persist(child, [INCIDENT], barrier=2)
    child.send({"op": "check"})
    child.wait_for("set_aside")
    persist(child, [INCIDENT], barrier=3)
    child.wait_for("persisted", lambda v: v == 3)
    assert rows_of(path, "PRAGMA quick_check") == [("ok",)]
    assert ("c/pair/7",) in rows_of(path, "SELECT incident FROM incidents")
    assert rows_of(path, "SELECT key FROM node_facts WHERE key = 'latch'"), "facts about fences may be lost: latched"
    child.end()


def test_removed_database_is_written_again(child: ChildProcess, tmp_path: Path) -> None:
    restore(child, 1)
    persist(child, [fence("open", "requested")], barrier=1)
    child.wait_for("persisted")
    for name in os.listdir(tmp_path):
        os.unlink(tmp_path / name)
    persist(child, [INCIDENT], barrier=2)
    child.wait_for("persisted", lambda v: v == 2)
    path = tmp_path / "brain.db"
    assert rows_of(path, "SELECT order_id FROM fences") == [("open",)]
    assert rows_of(path, "SELECT incident FROM incidents") == [("c/pair/7",)]
    child.end()


def test_newer_schema_is_trouble_not_damage(tmp_path: Path) -> None:
    child = recorder(tmp_path)
    restore(child)
    child.end()
    path = tmp_path / "brain.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=999")
    connection.commit()
    connection.close()
    again = recorder(tmp_path)
    again.send({"op": "restore"})
    assert again.wait_for("trouble")["code"] == "newer_schema"
    restored = Restored.from_message(again.wait_for("restored"))
    assert not restored.durable and restored.latched
    persist(again, [INCIDENT], barrier=1)
    with pytest.raises(AssertionError):
        again.wait_for("persisted", timeout_s=1.5)
    assert rows_of(path, "PRAGMA user_version") == [(999,)]
    again.end()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of our own of 2 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "brainctl-test", str(where)], check=True)
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def fill_up(path: Path) -> None:
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC


@pytest.mark.system
def test_full_disk_keeps_rows_and_recovers(small_disk: Path) -> None:
    child = recorder(small_disk)
    restore(child)
    filler = small_disk / "filler"
    fill_up(filler)
    barrier = 0
    while not any("trouble" in m for m in child.messages):
        barrier += 1
        assert barrier < 2_000
        persist(child, [("action", {"id": str(barrier), "detail": "y" * 2_000})], barrier=barrier)
        child.receive(0.01)
    child.wait_for("trouble", lambda t: t["code"] == "disk_full")
    persist(child, [INCIDENT], barrier=99_999)
    os.unlink(filler)
    child.wait_for("recovered")
    child.wait_for("persisted", lambda v: v == 99_999)
    ids = [int(r[0]) for r in rows_of(small_disk / "brain.db", "SELECT action_id FROM actions ORDER BY id")]
    assert ids == list(range(1, barrier + 1)), "nothing lost, order kept, nothing twice"
    child.end()


@pytest.mark.system
def test_full_disk_for_long_loses_explanations_first_and_says_how_many(small_disk: Path) -> None:
    child = recorder(small_disk)
    restore(child)
    filler = small_disk / "filler"
    fill_up(filler)
    sent = 0
    while not any("trouble" in m for m in child.messages):
        sent += 1
        persist(child, [("evidence", {"id": str(sent), "detail": "y" * 20_000})])
        child.receive(0.01)
    persist(child, [fence("f", "requested")], barrier=1)
    for _ in range(50):
        persist(child, [("evidence", {"id": "more"})] * 500)
    filler.unlink()
    # Every row of evidence that fitted in memory must now also fit on this small disk.
    recovered = child.wait_for("recovered")
    child.wait_for("persisted", lambda v: v == 1)
    assert recovered["lost_rows"]["evidence"] >= 5_000
    assert set(recovered["lost_rows"]) == {"evidence"}
    child.end()
    assert rows_of(small_disk / "brain.db", "SELECT count(*) FROM fences") == [(1,)]
    assert rows_of(small_disk / "brain.db", "SELECT count(*) FROM maintenance WHERE what = 'trouble'") == [(1,)]


@pytest.mark.system
def test_read_only_disk_then_writable(small_disk: Path) -> None:
    child = recorder(small_disk)
    restore(child)
    persist(child, [fence("open", "requested")], barrier=1)
    child.wait_for("persisted")
    child.end()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    again = recorder(small_disk)
    again.send({"op": "restore", "incarnation": 2})
    again.wait_for("trouble")
    restored = Restored.from_message(again.wait_for("restored"))
    assert not restored.durable and restored.latched
    persist(again, [INCIDENT], barrier=7)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert again.wait_for("persisted") == 7
    again.end()
    assert rows_of(small_disk / "brain.db", "SELECT incident FROM incidents") == [("c/pair/7",)]


def test_missing_state_directory(tmp_path: Path) -> None:
    child = recorder(tmp_path / "nowhere")
    child.send({"op": "restore"})
    child.wait_for("trouble")
    assert not Restored.from_message(child.wait_for("restored")).durable
    persist(child, [INCIDENT], barrier=1)
    (tmp_path / "nowhere").mkdir()
    child.wait_for("persisted")
    child.end()


@pytest.mark.parametrize(
    "bad",
    [
        {"op": "persist"},
        {"op": "persist", "rows": [["nonsense", {}]], "barrier": 3},
        {"op": "persist", "rows": [["fence", {"level": "one"}]], "barrier": 3},
        {"op": "persist", "rows": [["evidence", {"at_ns": 1 << 80}]], "barrier": 3},
        {"op": "persist", "rows": [], "wall_ns": "late", "barrier": 3},
        {"op": "persist", "rows": {"a": 1}, "barrier": 3},
        {"op": "persist", "rows": [], "barrier": "x"},
        {"op": "packets", "packets": [{"data": "zz"}]},
        {"op": "packets", "packets": 5},
        {"op": ["x"]},
        {},
    ],
)
def test_bad_messages_are_rejected_and_harm_nothing(child: ChildProcess, bad: dict[str, Any], tmp_path: Path) -> None:
    restore(child)
    child.send(bad)
    child.wait_for("rejected")
    persist(child, [INCIDENT], barrier=4)
    wait_until(lambda: rows_of(tmp_path / "brain.db", "SELECT count(*) FROM incidents") == [(1,)])
    child.send({"op": "health"})
    child.wait_for("health")
    answered = any("persisted" in m for m in child.messages)
    child.messages.clear()
    persist(child, [], barrier=5)
    child.send({"op": "health"})
    child.wait_for("health")
    # "Everything up to 5 is durable" would be a lie if 3 was rejected.
    assert not (answered and "barrier" in bad)
    assert rows_of(tmp_path / "brain.db", "SELECT count(*) FROM maintenance WHERE what = 'rejected'") == [(1,)]


def test_packets_and_journals(child: ChildProcess, tmp_path: Path) -> None:
    restore(child)
    packet = {"interface": "eth0", "direction": "in", "link_type": 1, "at_ns": 5, "data": "00ff10"}
    child.send({"op": "packets", "incident": "i", "packets": [packet]})
    child.send({"op": "journal", "incident": "i", "core": "watcher", "part": 0, "lines": "{}\n{}"})
    persist(child, [], barrier=1)
    child.wait_for("persisted")
    assert rows_of(tmp_path / "brain.db", "SELECT data, at_ns FROM packets") == [(b"\x00\xff\x10", 5)]
    assert rows_of(tmp_path / "brain.db", "SELECT lines FROM journals") == [("{}\n{}",)]


def test_barriers_stay_quick_under_load_and_readers(child: ChildProcess, tmp_path: Path) -> None:
    """Rows as fast as they come, 10 000 rows read over and over: a barrier still takes far less than the watcher's 2 s."""
    restore(child)
    persist(child, [("evidence", {"id": f"e{n}", "detail": "d" * 100}) for n in range(10_000 // 2)])
    persist(child, [("evidence", {"id": f"e{n}", "detail": "d" * 100}) for n in range(10_000 // 2)], barrier=0)
    child.wait_for("persisted")
    reader = sqlite3.connect(f"file:{tmp_path / 'brain.db'}?mode=ro", uri=True)
    took = []
    for barrier in range(1, 31):
        for _ in range(10):
            persist(child, [("evidence", {"id": "x"})] * 5)
        began = time.monotonic()
        persist(child, [fence(f"f{barrier}", "requested")], barrier=barrier)
        assert len(reader.execute("SELECT * FROM evidence ORDER BY id LIMIT 10000").fetchall()) == 10_000
        child.wait_for("persisted", lambda v, b=barrier: v == b)
        took.append(time.monotonic() - began)
    reader.close()
    assert sorted(took)[len(took) // 2] < 0.5
    assert max(took) < 2.0


def test_health(child: ChildProcess) -> None:
    restore(child)
    child.send({"op": "health"})
    health = child.wait_for("health")
    assert health["ok"] and health["bytes"] > 0 and health["queued_rows"] == 0


def test_stop_by_term_waits_for_the_watcher(child: ChildProcess, tmp_path: Path) -> None:
    """systemd's TERM to the whole group must not lose what the watcher still writes while it ends."""
    restore(child)
    child.process.terminate()
    persist(child, [INCIDENT], barrier=1)
    assert child.wait_for("persisted") == 1
    child.end()
    wait_until(lambda: rows_of(tmp_path / "brain.db", "SELECT count(*) FROM incidents") == [(1,)])
