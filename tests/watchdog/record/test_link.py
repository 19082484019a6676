"""Watcher's end, supervisor and recorder together: rows survive the recorder's death, in order, exactly once; mail follows."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.channel import JsonObject
from base.clock import now_ns
from base.core import NS_PER_MS
from base.pump import Pump
from base.supervise import Child
from tests.alerts.servers import MailServer
from watchdog.judgement.commands import Persist, Row, RowKind
from watchdog.record.link import MAX_KEPT_BYTES, RecorderLink
from watchdog.record.messages import persist_message


class Watcher:
    """As much of braind's shell as the recorder sees."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "brain.db"
        self.persisted: list[int] = []
        self.messages: list[JsonObject] = []
        self.pump = Pump(next_deadline=lambda: self.child.next_deadline(), on_deadline=lambda at_ns: self.child.on_deadline(at_ns))
        argv = [sys.executable, "-m", "watchdog.record.recorder", "--state-dir", str(state_dir), "--node", "A"]
        self.child = Child(self.pump, "recorder", argv, self.heard, on_down=lambda _why: self.link.down(), stderr=-3)
        self.link = RecorderLink(self.child.send, "session-1")
        self.child.start()

    def heard(self, message: JsonObject) -> None:
        if not self.link.take(message):
            self.messages.append(message)
            if "persisted" in message:
                self.persisted.append(message["persisted"])

    def persist(self, *rows: Row, barrier: int | None = None) -> bool:
        return self.link.write(persist_message(Persist(rows, barrier), time.time_ns(), now_ns()))

    def turn_until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            self.pump.turn(20 * NS_PER_MS)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Watcher]:
    watcher = Watcher(tmp_path)
    yield watcher
    watcher.child.stop()
    watcher.pump.close()


def action(number: int) -> Row:
    return Row(RowKind.ACTION, (("id", str(number)), ("action", "announce")))


def test_exactly_once_over_many_deaths(watcher: Watcher) -> None:
    """kill -9 at random moments while rows come: each row is there once and in order, no barrier is answered before its rows."""
    number = 1
    watcher.persist(action(1), barrier=1)
    for _ in range(4):
        watcher.turn_until(lambda: watcher.link.unwritten == 0)
        pid = watcher.child.pid
        for _ in range(random.randint(20, 120)):
            number += 1
            assert watcher.persist(action(number), barrier=number)
            watcher.pump.turn(0)
            if random.random() < 0.05:
                watcher.pump.turn(5 * NS_PER_MS)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for _ in range(50):
            number += 1
            assert watcher.persist(action(number), barrier=number), "a dead recorder does not stop the watcher"
        watcher.turn_until(lambda pid=pid: watcher.child.pid not in (None, pid))
        present = {int(r[0]) for r in watcher.query("SELECT action_id FROM actions")}
        assert set(watcher.persisted) <= present
    watcher.turn_until(lambda: watcher.link.unwritten == 0)
    assert [int(r[0]) for r in watcher.query("SELECT action_id FROM actions ORDER BY id")] == list(range(1, number + 1))
    assert watcher.persisted[-1] == number
    assert watcher.persisted == sorted(watcher.persisted)


def test_frozen_recorder_is_not_in_the_way(watcher: Watcher) -> None:
    """SIGSTOP: writing takes no time, memory is bounded, and everything accepted is there after SIGCONT."""
    watcher.persist(action(0))
    watcher.turn_until(lambda: watcher.link.unwritten == 0)
    pid = watcher.child.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        accepted = 0
        longest = 0.0
        while watcher.persist(Row(RowKind.EVIDENCE, (("id", "e"), ("detail", "x" * 50_000)))):
            began = time.monotonic()
            watcher.pump.turn(0)
            longest = max(longest, time.monotonic() - began)
            accepted += 1
        assert accepted * 50_000 <= MAX_KEPT_BYTES < (accepted + 10) * 51_000
        assert longest < 0.5
    finally:
        os.kill(pid, signal.SIGCONT)
    watcher.turn_until(lambda: watcher.link.unwritten == 0)
    assert watcher.query("SELECT count(*) FROM evidence") == [(accepted,)]
    assert watcher.link.refused == 1


def test_from_the_watcher_to_the_mailbox(watcher: Watcher, tmp_path: Path) -> None:
    """Recorder and delivery as braind runs them: one Persist becomes one mail."""
    with MailServer() as server:
        argv = [sys.executable, "-m", "alerts.delivery", "--database", str(watcher.path)]
        said: list[JsonObject] = []
        delivery = Child(watcher.pump, "delivery", argv, said.append, env={"no_proxy": "*"}, stderr=-3)
        delivery.start()
        parameters = {"to": "a@e.com", "from": "b@e.com", "smtp_host": "127.0.0.1", "smtp_port": str(server.port)}
        delivery.send({"op": "configure", "cluster": "c", "receivers": [{"name": "m", "type": "email", "parameters": parameters}]})
        incident = Row(
            RowKind.INCIDENT, (("id", "I5-ab"), ("state", "open"), ("scope", "pair"), ("verdict", "SPLIT_BRAIN"), ("summary", "s"))
        )
        alert = Row(
            RowKind.ALERT,
            (("dedup_key", "c/pair/I5-ab"), ("incident", "I5-ab"), ("severity", "critical"), ("action", "trigger"), ("summary", "s")),
        )
        assert watcher.persist(incident, alert, barrier=1)
        delivery.send({"op": "wake"})
        watcher.turn_until(lambda: any("delivered" in m for m in said))
        assert [m["X-Brainctl-Dedup-Key"] for m in server.mails] == ["c/pair/I5-ab"]
        delivery.stop()


class Disk:
    """A recorder as the link sees it: it may die at any point, losing what it had not committed, or only its answers."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.seq = 0
        self.inbox: list[JsonObject] = []
        self.up = False

    def send(self, message: JsonObject) -> bool:
        if self.up and len(self.inbox) < 5:
            self.inbox.append(message)
            return True
        return False


@given(st.lists(st.sampled_from(["write", "commit", "commit quietly", "die", "start"]), max_size=60))
@settings(max_examples=300, deadline=None)
def test_link_against_any_history(steps: list[str]) -> None:
    disk = Disk()
    link = RecorderLink(disk.send, "s")
    written = 0

    def start() -> None:
        disk.up = True
        link.take({"ready": {"session": "s" if disk.seq else "", "seq": disk.seq}})

    def commit() -> None:
        for message in disk.inbox:
            assert message["seq"] <= disk.seq + 1, "no gap"
            if message["seq"] > disk.seq:
                disk.rows.append(message["number"])
                disk.seq = message["seq"]
        disk.inbox.clear()

    for step in steps:
        if step == "write":
            written += 1
            assert link.write({"number": written})
        elif step == "die":
            disk.up = False
            disk.inbox.clear()
            link.down()
        elif step == "start" and not disk.up:
            start()
        elif disk.up and step.startswith("commit"):
            commit()
            if step == "commit":
                link.take({"written": disk.seq})
    disk.up = False
    link.down()
    disk.inbox.clear()
    start()
    for _ in range(written + 1):
        commit()
        link.take({"written": disk.seq})
    assert disk.rows == list(range(1, written + 1))
    assert link.unwritten == 0
