"""Calls that may wait are made beside the loop, in order, and their ends come back into it."""

from __future__ import annotations

import threading
import time

from base.aside import MAX_WAITING
from base.core import NS_PER_MS
from base.pump import Pump


def _until(pump: Pump, condition: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it never happened"
        pump.turn(10 * NS_PER_MS)


def _pump() -> Pump:
    return Pump(next_deadline=lambda: None, on_deadline=lambda _at_ns: None)


def test_results_and_failures_come_back_in_order_on_the_loops_thread() -> None:
    pump = _pump()
    came: list[object] = []

    def refuse() -> int:
        raise PermissionError(1, "no")

    assert pump.aside.run(lambda: 1, came.append)
    assert pump.aside.run(refuse, came.append, lambda error: came.append((error.errno, threading.current_thread())))
    assert pump.aside.run(lambda: threading.current_thread().name, came.append)
    _until(pump, lambda: len(came) == 3)
    assert came == [1, (1, threading.current_thread()), "aside"]
    assert pump.aside.waiting == 0
    pump.close()


def test_a_call_that_waits_does_not_stop_the_loop() -> None:
    pump = _pump()
    gate = threading.Event()
    done: list[bool] = []
    assert pump.aside.run(lambda: gate.wait(10), done.append)
    began = time.monotonic()
    for _ in range(5):
        pump.turn(NS_PER_MS)
    assert time.monotonic() - began < 1 and not done
    gate.set()
    _until(pump, lambda: done == [True])
    pump.close()


def test_what_waits_is_bounded() -> None:
    pump = _pump()
    gate = threading.Event()
    taken = [pump.aside.run(lambda: gate.wait(10)) for _ in range(MAX_WAITING + 5)]
    assert taken.count(False) == 5 and pump.aside.refused == 5
    gate.set()
    pump.close()
