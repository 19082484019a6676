"""The longest turn of a loop is known, with the handler that took it."""

from __future__ import annotations

import os
import time

from base.core import NS_PER_MS
from base.pump import Pump
from base.turn_meter import TurnMeter


class Slow:
    """A handler that takes its time, and one inside another."""

    def __init__(self, meter: TurnMeter) -> None:
        self.meter = meter

    def drain(self) -> None:
        time.sleep(0.03)

    def outer(self) -> None:
        self.meter.call(self.drain)


def test_the_longest_turn_is_named_and_told() -> None:
    told: list[tuple[str, int]] = []
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _n: None)
    meter = pump.meter = TurnMeter(lambda handler, ns: told.append((handler, ns)))
    slow = Slow(meter)
    pump.call_soon(lambda: None)
    pump.turn(NS_PER_MS)
    assert not told
    pump.call_soon(slow.outer)
    pump.turn(NS_PER_MS)
    assert [handler for handler, _ in told] == ["Slow.drain"], "the inner one, not the one around it"
    assert told[0][1] >= 30 * NS_PER_MS and meter.longest_ns == told[0][1]
    snapshot = meter.snapshot()
    assert (snapshot["longest_handler"], snapshot["slow_turns"]) == ("Slow.drain", 1)
    pump.close()


def test_the_wait_is_no_part_of_a_turn() -> None:
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _n: None)
    meter = pump.meter = TurnMeter(lambda _handler, _ns: None)
    reader, writer = os.pipe()
    pump.add_reader(reader, lambda: os.read(reader, 10))
    pump.turn(60 * NS_PER_MS)
    os.write(writer, b"x")
    pump.turn(NS_PER_MS)
    assert meter.longest_ns < 50 * NS_PER_MS
    pump.remove_reader(reader)
    os.close(reader)
    os.close(writer)
    pump.close()
