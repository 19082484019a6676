"""What a checker is: an outside observer of a run that sees what really happened, and says when a promise is broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from base.core import NS_PER_S

if TYPE_CHECKING:
    from watchdog.config.model import GroupKey
    from watchdog.judgement.commands import Row, RunFence, WatcherCommand
    from watchdog.judgement.events import WatcherEvent
    from watchdog.simulator.faults import Fault
    from watchdog.simulator.power import PowerSwitch
    from watchdog.simulator.world import World


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise was broken."""

    checker: str
    at_ns: int
    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.checker} at {self.at_ns / NS_PER_S:.3f} s{f' on {self.node}' if self.node else ''}: {self.text}"


class Checker:
    """Base of all checkers: every method may be overridden, none needs to be."""

    name = "checker"

    def begin(self, world: World) -> None:
        """The world is built; nothing happened yet."""
        self.world = world

    def broken(self, node: str, text: str) -> None:
        """Report a violation (the first 20 are kept)."""
        if len(self.world.violations) < 20:
            self.world.violations.append(Violation(self.name, self.world.scheduler.now_ns, node, text))
            self.world.note("checker", f"{self.name}: {text}")

    def event(self, node: str, event: WatcherEvent) -> None:
        """The watcher of ``node`` is about to handle ``event``."""

    def command(self, node: str, command: WatcherCommand) -> None:
        """The watcher of ``node`` asked for something (SendFrame excepted)."""

    def committed(self, node: str, rows: tuple[Row, ...]) -> None:
        """Rows of ``node`` are durable now."""

    def device(self, node: str, switch: PowerSwitch, command: RunFence) -> None:
        """The fence runner of ``node`` begins a device command."""

    def owners(self, vip: str, before: tuple[str, ...], now: tuple[str, ...]) -> None:
        """Other nodes answer for an address."""

    def power(self, node: str, on: bool, why: str) -> None:
        """A machine lost or got power."""

    def life(self, node: str, process: str) -> None:
        """A process started, died, hung or came back."""

    def role(self, node: str, key: GroupKey, state: str) -> None:
        """A virtual router changed its state."""

    def fault(self, fault: Fault) -> None:
        """Something goes wrong now."""

    def poll(self) -> None:
        """Every 100 ms."""

    def finish(self) -> None:
        """The run is over."""
