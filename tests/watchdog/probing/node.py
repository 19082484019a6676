"""A node of a test network with a pump, a kernel monitor and one part under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from base.pump import Pump
from tests.watchdog.network import Network, wait_for
from watchdog.judgement.events import OwnerClaimed, WatcherEvent
from watchdog.probing.kernel import KernelMonitor

EventT = TypeVar("EventT")


class ProbingNode:
    def __init__(self, net: Network, name: str, make: Callable[[Pump, KernelMonitor, Callable[[WatcherEvent], None]], Any]) -> None:
        self.net, self.name = net, name
        self.events: list[WatcherEvent] = []
        self.part: Any = None
        self.pump = Pump(
            next_deadline=lambda: self.part.next_deadline() if self.part else None,
            on_deadline=lambda at_ns: self.part.on_deadline(at_ns),
        )
        with net.inside(name):
            self.kernel = KernelMonitor(self.pump, lambda _event: None)
            self.part = make(self.pump, self.kernel, self.events.append)

    def turn(self, wait_ms: int = 5) -> None:
        with self.net.inside(self.name):
            self.pump.turn(wait_ms * 1_000_000)

    def call(self, method: Callable[..., object], *args: object) -> None:
        with self.net.inside(self.name):
            method(*args)

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        wait_for(condition, self.turn, seconds)

    def of(self, kind: type[EventT]) -> list[EventT]:
        return [event for event in self.events if isinstance(event, kind)]

    def claims(self, probe_id: int | None) -> list[OwnerClaimed]:
        return [event for event in self.of(OwnerClaimed) if event.probe_id == probe_id]

    def close(self) -> None:
        self.part.close()
        self.kernel.close()
        self.pump.close()
