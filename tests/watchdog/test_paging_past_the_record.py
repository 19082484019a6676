"""A page must not wait for a disk: real recorder, real delivery process, a real receiver, and the rows that the real core makes.

What one process sends another is tested with what the first one really makes: the contract lives in no third place.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from alerts.routing.settings import Receiver
from base.log import Log
from base.pump import Pump
from tests.alerts.servers import HttpServer
from tests.watchdog.judgement.lab import Lab, make_settings
from watchdog.children import Children
from watchdog.config.model import Mode
from watchdog.judgement.commands import Persist, RowKind
from watchdog.judgement.events import CommandFailed, RecordSpaceChanged, WatcherEvent

SOON_S = 6.0
"""Seconds, not minutes; two busy cores and three Python processes are in it."""


@cache
def pages_of_a_split() -> tuple[Persist, ...]:
    """What the core writes when two own an address: verdicts, incident and alert in the very same transactions."""
    lab = Lab(Mode.OBSERVE)
    lab.run(12)
    lab.cut_adverts()
    lab.run(12)
    found = tuple(x for _, x in lab.nodes["a"].sent if isinstance(x, Persist) and any(r.kind is RowKind.ALERT for r in x.rows))
    assert found
    return found


class Pair:
    """Children of a watcher on a disk, and a receiver."""

    def __init__(self, state_dir: Path) -> None:
        self.http = HttpServer()
        self.http.start()
        parameters = (("url", f"http://127.0.0.1:{self.http.port}/hook"),)
        brain = replace(make_settings("a", fence=False), alerts=(Receiver("hook", "webhook", parameters),))
        self.events: list[WatcherEvent] = []
        self.children: Children
        self.pump = Pump(next_deadline=lambda: self.children.next_deadline(), on_deadline=lambda at_ns: self.children.on_deadline(at_ns))
        brain = replace(brain, fence=replace(brain.fence, levels=()))
        self.children = Children(self.pump, brain, brain.fence, str(state_dir), self.events.append, Log("test", 2, False))
        self.state_dir = state_dir

    def start(self) -> None:
        self.children.start(1, 20 * 10**9)

    def until(self, condition: Callable[[], bool], seconds: float = SOON_S) -> float:
        begin = time.monotonic()
        while not condition():
            assert time.monotonic() - begin < seconds, "it never happened"
            self.pump.turn(20_000_000)
        return time.monotonic() - begin

    def turn(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.pump.turn(20_000_000)

    def page(self) -> None:
        for command in pages_of_a_split():
            self.children.persist(replace(command, barrier=None))

    def told(self) -> list[str]:
        return [str(body.get("summary") or body) for _, _, body in self.http.requests]

    def pid(self, name: str) -> int:
        state = self.children.snapshot()[name]
        assert isinstance(state, dict) and isinstance(state["pid"], int)
        return state["pid"]

    def end(self) -> None:
        self.children.stop()
        self.http.stop()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be filled."""
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "brainctl-test", str(where)], check=True)
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.fixture
def pair(disk: Path) -> Iterator[Pair]:
    """Not started yet."""
    made = Pair(disk)
    yield made
    made.end()


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as f:
        while True:
            try:
                f.write(bytes(65_536))
            except OSError:
                return filler


def test_a_page_takes_the_ordinary_way_when_all_is_well(pair: Pair) -> None:
    pair.start()
    pair.page()
    pair.until(lambda: len(pair.told()) >= 1)
    pair.turn(1.5)
    assert any("SPLIT_BRAIN" in text for text in pair.told())
    assert len(pair.told()) == len(set(pair.told()))


def test_a_full_disk_is_told_before_it_is_needed_and_the_page_still_leaves(pair: Pair) -> None:
    pair.start()
    filler = fill(pair.state_dir)
    pair.until(
        lambda: RecordSpaceChanged(True, 0) in [replace(e, free_bytes=0) for e in pair.events if isinstance(e, RecordSpaceChanged)], 12
    )
    pair.page()
    pair.until(lambda: any("SPLIT_BRAIN" in text for text in pair.told()))
    told = len(pair.told())
    filler.unlink()
    pair.until(lambda: any(isinstance(e, RecordSpaceChanged) and not e.low for e in pair.events), 12)
    pair.turn(2)
    assert len(pair.told()) == told, "the recorded twin of a page that is out already is no second page"


def test_a_recorder_that_hangs_in_its_disk_does_not_hold_a_page(pair: Pair) -> None:
    pair.start()
    recorder = pair.pid("recorder")
    os.kill(recorder, signal.SIGSTOP)
    try:
        pair.page()
        took_s = pair.until(lambda: any("SPLIT_BRAIN" in text for text in pair.told()))
        assert took_s < SOON_S
        told = len(pair.told())
    finally:
        os.kill(recorder, signal.SIGCONT)
    pair.turn(2)
    assert len(pair.told()) == told


def test_a_record_of_a_newer_version_does_not_hold_a_page(pair: Pair) -> None:
    pair.start()
    pair.end()
    with sqlite3.connect(pair.state_dir / "brain.db") as db:
        db.execute("PRAGMA user_version = 9999")
    again = Pair(pair.state_dir)
    try:
        again.start()
        again.page()
        again.until(lambda: any("SPLIT_BRAIN" in text for text in again.told()))
    finally:
        again.end()


def test_a_delivery_process_that_dies_is_told_again_what_is_not_on_the_disk(pair: Pair) -> None:
    pair.start()
    recorder = pair.pid("recorder")
    os.kill(recorder, signal.SIGSTOP)
    os.kill(pair.pid("delivery"), signal.SIGKILL)
    try:
        pair.page()
        pair.until(lambda: any("SPLIT_BRAIN" in text for text in pair.told()), 15)
    finally:
        os.kill(recorder, signal.SIGCONT)


def test_what_the_delivery_process_refuses_is_no_secret(pair: Pair) -> None:
    """Were a page not understood, somebody must learn of it: it was dropped in silence once."""
    pair.start()
    (command, *_) = pages_of_a_split()
    rows = tuple(replace(r, fields=tuple((k, v) for k, v in r.fields if k != "dedup_key")) for r in command.rows)
    recorder = pair.pid("recorder")
    os.kill(recorder, signal.SIGSTOP)
    try:
        pair.children.persist(replace(command, rows=rows, barrier=None))
        pair.until(lambda: any(isinstance(e, CommandFailed) for e in pair.events))
    finally:
        os.kill(recorder, signal.SIGCONT)
