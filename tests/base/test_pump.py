"""The pump: drain before deadlines, one timer, stalls reported before anything is believed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from base.channel import Channel, LineDecoder, ProtocolError, encode_line
from base.clock import DeadlineTimer, now_ns
from base.core import NS_PER_MS
from base.pump import Pump

ROOT = Path(__file__).resolve().parents[2]


class Clockwork:
    """Deadlines for a pump, and a log of what was called."""

    def __init__(self) -> None:
        self.due: int | None = None
        self.calls: list[str] = []

    def fire(self, _at_ns: int) -> None:
        self.calls.append("deadline")
        self.due = None


def make(stall_ns: int = 200 * NS_PER_MS) -> tuple[Pump, Clockwork]:
    clockwork = Clockwork()
    pump = Pump(
        next_deadline=lambda: clockwork.due,
        on_deadline=clockwork.fire,
        on_stall=lambda _now, _late: clockwork.calls.append("stall"),
        stall_ns=stall_ns,
    )
    return pump, clockwork


def test_timer_fires_at_an_absolute_boottime_instant() -> None:
    timer = DeadlineTimer()
    due = now_ns() + 30 * NS_PER_MS
    timer.arm(due)
    while now_ns() < due + 2000 * NS_PER_MS:
        try:
            os.read(timer.fileno(), 8)
            break
        except BlockingIOError:
            time.sleep(0.001)
    assert due <= now_ns() < due + 1000 * NS_PER_MS
    timer.close()


def test_what_is_readable_is_drained_before_a_due_deadline_fires() -> None:
    pump, clockwork = make()
    left, right = socket.socketpair()
    pump.add_reader(left, lambda: (clockwork.calls.append("drain"), left.recv(100))[0])
    right.send(b"x")
    clockwork.due = now_ns() - 1
    pump.turn()
    assert clockwork.calls == ["drain", "deadline"]


def test_a_frozen_process_reports_the_stall_first_then_drains_then_judges() -> None:
    """SIGSTOP for 0.6 s: the order afterwards must be stall, drain, deadline."""
    script = (
        "import sys, os\n"
        "from base.pump import Pump\nfrom base.clock import now_ns\n"
        "log=[]; due=[now_ns()+300_000_000]\n"
        "def fire(now): log.append('deadline'); due[0]=None\n"
        "p=Pump(next_deadline=lambda: due[0], on_deadline=fire, on_stall=lambda n,l: log.append('stall'))\n"
        "p.add_reader(0, lambda: log.append('drain:'+os.read(0,10).decode().strip()))\n"
        "p.turn(0)\n"
        "print('ready', flush=True)\n"
        "while 'deadline' not in log: p.turn()\n"
        "print(' '.join(log), flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGSTOP)
    child.stdin.write("advert\n")
    child.stdin.flush()
    time.sleep(0.8)
    child.send_signal(signal.SIGCONT)
    assert child.stdout.readline().split() == ["stall", "drain:advert", "deadline"]
    child.wait(5)


def test_a_handler_that_takes_too_long_is_a_stall_of_the_next_turn() -> None:
    clockwork = Clockwork()

    def fire_slowly(at_ns: int) -> None:
        clockwork.fire(at_ns)
        time.sleep(0.12)

    pump = Pump(
        next_deadline=lambda: clockwork.due,
        on_deadline=fire_slowly,
        on_stall=lambda _now, _late: clockwork.calls.append("stall"),
        stall_ns=50 * NS_PER_MS,
    )
    left, right = socket.socketpair()
    pump.add_reader(left, lambda: (clockwork.calls.append("drain"), left.recv(100))[0])
    clockwork.due = now_ns() - 1
    pump.turn(0)
    right.send(b"x")
    pump.turn(0)
    assert clockwork.calls == ["deadline", "stall", "drain"]


def test_channel_carries_objects_both_ways_and_tells_the_end_once() -> None:
    pump, _ = make()
    left, right = socket.socketpair()
    got: list[object] = []
    closed: list[str] = []
    a = Channel(pump, left, got.append, closed.append)
    b = Channel(pump, right, got.append, closed.append)
    assert a.send({"n": 1})
    assert b.send({"n": 2})
    for _ in range(4):
        pump.turn(10 * NS_PER_MS)
    assert got == [{"n": 2}, {"n": 1}] or got == [{"n": 1}, {"n": 2}]
    a.close()
    for _ in range(2):
        pump.turn(10 * NS_PER_MS)
    assert len(closed) == 2
    assert not a.send({"n": 3})


def test_a_reader_that_does_not_read_is_refused_not_waited_for() -> None:
    pump, _ = make()
    left, right = socket.socketpair()
    channel = Channel(pump, left, lambda _m: None, lambda _r: None)
    line = encode_line({"x": "y" * 500_000})
    started = time.monotonic()
    results = [channel.send_bytes(line) for _ in range(40)]
    assert time.monotonic() - started < 2
    assert results[0]
    assert not results[-1]
    right.close()
    channel.close()


def test_garbage_on_a_channel_closes_it() -> None:
    pump, _ = make()
    left, right = socket.socketpair()
    closed: list[str] = []
    Channel(pump, left, lambda _m: None, closed.append)
    right.send(b"\x00\xff not json\n")
    pump.turn(10 * NS_PER_MS)
    assert len(closed) == 1


def test_the_decoder_bounds_a_line_and_accepts_only_objects() -> None:
    decoder = LineDecoder(100)
    assert decoder.feed(b'{"a":1}\n{"b"') == [{"a": 1}]
    assert decoder.feed(b":2}\n") == [{"b": 2}]
    for bad in (b"[1]\n", b"\xff\n", b"x" * 101, b"[" * 90 + b"\n"):
        try:
            LineDecoder(100).feed(bad)
        except ProtocolError:
            continue
        raise AssertionError(f"accepted {bad[:10]!r}")
