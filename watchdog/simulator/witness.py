"""The witness as both nodes meet it: one lease, which it gives to one node at a time; it may be unreachable, or slow, for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.core import NS_PER_MS, NS_PER_S
from watchdog.judgement.commands import ReleaseLease, RequestLease
from watchdog.judgement.events import LeaseGranted, LeaseRefused, WitnessChanged
from watchdog.simulator.options import NODES

if TYPE_CHECKING:
    from watchdog.simulator.watcherhost import BrainHost
    from watchdog.simulator.world import World

TOOK_MS = 15
SLOW_MS = 1_800
GIVES_UP_NS = NS_PER_S
"""How long the witness process waits for an answer."""
CLOCKS_DIFFER_PM = 2
"""What a node takes off a granted turn, in per mille: two clocks may differ by 0.1 %."""


class Witness:
    """Time here is the world's: the witness has its own clock."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.holder = ""
        self.until_ns = 0
        self.lost = dict.fromkeys(NODES, 0)
        self.slow = 0

    def poll(self, brain: BrainHost, starts: int) -> None:
        """The witness process of one node asks whether it is there, again and again while its braind lives."""
        settings = brain.settings.witness
        if settings is None or brain.starts != starts or not brain.kernel.powered:
            return
        scheduler = self._world.scheduler
        if not brain.hung:
            up = not self.lost[brain.kernel.name]
            took_ms = SLOW_MS if self.slow else TOOK_MS
            if up and took_ms * NS_PER_MS < GIVES_UP_NS:
                brain.post(WitnessChanged(True, took_ms, self._holder(), "simulated"), took_ms * NS_PER_MS)
            else:
                brain.post(WitnessChanged(False, 0, "", "no answer"), GIVES_UP_NS)
        scheduler.after(settings.poll_ms * NS_PER_MS, self.poll, brain, starts)

    def _holder(self) -> str:
        return self.holder if self._world.scheduler.now_ns < self.until_ns else ""

    def request(self, brain: BrainHost, command: RequestLease) -> None:
        """A node asks for the turn, or for more of it."""
        node = brain.kernel.name
        asked_ns = brain.kernel.now_ns()
        if self.lost[node] or self.slow:
            brain.post(LeaseRefused(command.request, "", "no answer"), GIVES_UP_NS)
            return
        self._world.scheduler.after(TOOK_MS * NS_PER_MS // 2, self._decide, brain, command, asked_ns, brain.starts)

    def _decide(self, brain: BrainHost, command: RequestLease, asked_ns: int, starts: int) -> None:
        node = brain.kernel.name
        if self._holder() not in ("", node):
            answer: LeaseRefused | LeaseGranted = LeaseRefused(command.request, self._holder())
        else:
            self.holder, self.until_ns = node, self._world.scheduler.now_ns + command.lease_ms * NS_PER_MS
            answer = LeaseGranted(command.request, asked_ns + command.lease_ms * (1_000 - CLOCKS_DIFFER_PM) * NS_PER_MS // 1_000)
        self._world.note("witness", f"{node}: {answer}")
        if starts == brain.starts and not self.lost[node]:
            brain.post(answer, TOOK_MS * NS_PER_MS // 2)

    def release(self, brain: BrainHost, command: ReleaseLease) -> None:
        """A node gives its turn back."""
        if self.holder == brain.kernel.name and not self.lost[brain.kernel.name]:
            self._world.note("witness", f"{self.holder} gives request {command.request} back")
            self.holder = ""
