"""What every node was really told, and what really was the case: the memory that the other checkers ask."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from base.core import NS_PER_MS, JsonValue
from watchdog.judgement.commands import Persist, Row, RowKind, RunFence, WatcherCommand
from watchdog.judgement.events import (
    AdvertHeard,
    BytesReceived,
    LoopStalled,
    OperatorActed,
    OperatorAction,
    OwnerClaimed,
    ProbeFinished,
    ReferenceAnswered,
    WatcherEvent,
)
from watchdog.simulator.checker import Checker
from watchdog.simulator.options import MACS, NODES, virtual_mac
from watchdog.simulator.process import Life

if TYPE_CHECKING:
    from watchdog.simulator.faults import Fault
    from watchdog.simulator.power import PowerSwitch
    from watchdog.simulator.world import World

NEVER = -(1 << 62)
KEEP = 8
SPLIT_NS = 500 * NS_PER_MS
"""Two owners for so long are a split and not a handover."""


def other(node: str) -> str:
    """The other node."""
    return "B" if node == "A" else "A"


@dataclass(slots=True)
class Told:
    """What reached one braind, and when (world ns)."""

    frames: dict[str, deque[int]] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    """Address -> last ARP answer or announcement from the peer's MAC."""
    foreign_claims: dict[str, int] = field(default_factory=dict)
    adverts: dict[str, int] = field(default_factory=dict)
    """Scope -> last advert of another host."""
    probes: dict[str, int] = field(default_factory=dict)
    """Address -> end of the last whole census."""
    reference: int = NEVER
    stalled: int = NEVER
    stall_length_ns: int = 0
    started: int = NEVER
    begun: int = NEVER
    """World time of this watcher's start."""
    verdicts: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """Scope -> (verdict, stage, since)."""

    def last_frame(self) -> int:
        """When the last intact frame of the peer was handled, on any path."""
        return max((times[-1] for times in self.frames.values() if times), default=NEVER)

    def frames_since(self, at_ns: int) -> int:
        """How many intact frames since then, on the best path."""
        return max((sum(t >= at_ns for t in times) for times in self.frames.values()), default=0)


class Observer(Checker):
    """No checker itself: it remembers."""

    name = "observer"

    def begin(self, world: World) -> None:
        """Start with empty hands."""
        super().begin(world)
        self.told = {name: Told() for name in NODES}
        self.off_calls: list[tuple[int, str, PowerSwitch, RunFence]] = []
        self.powered_off: dict[str, list[int]] = {name: [] for name in NODES}
        self.powered_on: dict[str, list[int]] = {name: [] for name in NODES}
        self.overlap_since: dict[str, int] = {}
        self.overlaps: list[tuple[str, int, int]] = []
        self.fence_rows: dict[str, dict[str, list[tuple[int, int, str]]]] = {name: {} for name in NODES}
        """Node -> order id -> (at, level, state) as emitted."""
        self.surely_down: dict[str, dict[str, str]] = {name: {} for name in NODES}
        """Node -> how it knows that the other one certainly cannot serve: "proved", "stopped in order", "vouched"."""
        self.owned_since: dict[str, int] = dict.fromkeys(self.world.owners, 0)
        """Since when each address has had the owners that it has."""
        self.struck: dict[str, None] = {}
        """The verbs of the faults that struck so far."""
        self._cut_off: dict[str, tuple[int, bool]] = {}
        self.pauses: list[tuple[int, str, str]] = []
        self.last_disturbance_ns = 0
        self.isolated_since = dict.fromkeys(NODES, NEVER)

    @property
    def now_ns(self) -> int:
        """World time."""
        return self.world.scheduler.now_ns

    def fields(self, row: Row) -> dict[str, JsonValue]:
        """The columns of a row."""
        return dict(row.fields)

    def scope_of_vip(self, vip: str) -> str:
        """The group that an address belongs to, as verdict scopes name it."""
        return next(str(group.key) for group in self.world.groups["A"] if vip in group.vips)

    def vips_of(self, scope: str) -> tuple[str, ...]:
        """The addresses of a group."""
        return next((group.vips for group in self.world.groups["A"] if str(group.key) == scope), ())

    # ---- truth ----------------------------------------------------------------------------------------------------------------

    def holders(self, vip: str) -> tuple[str, ...]:
        """Whose kernel really holds an address, reachable or not."""
        kernels = {name: machine.kernel for name, machine in self.world.machines.items()}
        return tuple(name for name in NODES if kernels[name].powered and kernels[name].holds(vip))

    def overlapped(self, vip: str, since_ns: int) -> bool:
        """Did both kernels hold ``vip`` at some moment since then (a stranger counts too)?"""
        if vip in self.overlap_since or vip in self.world.stranger.addresses:
            return True
        return any(name == vip and end >= since_ns for name, _, end in self.overlaps)

    def no_other_path(self, node: str) -> bool:
        """Can nothing of the peer reach ``node`` on any heartbeat path?"""
        peer = other(node)
        dead = not self.world.machines[peer].kernel.powered or self.world.brains[peer].life is not Life.RUNNING
        return dead or not any(self.world.path_lives(path.name, peer) for path in self.world.settings[node].paths)

    def cut_off(self, node: str) -> bool:
        """As below, worked out once for each change of the world."""
        version, answer = self._cut_off.get(node, (-1, False))
        if version != self.world.version:
            answer = self._is_cut_off(node)
            self._cut_off[node] = (self.world.version, answer)
        return answer

    def _is_cut_off(self, node: str) -> bool:
        """Is ``node`` isolated in truth: no carrier, or no peer on any path and a configured gateway that it cannot reach?"""
        carriers = [self.world.segments[lan].ports[node].carrier for lan in self.world.options.lan_names]
        if not any(carriers):
            return True
        if not self.world.options.reference:
            return False
        return not any(self.reaches(node, name) for name in self.world.gateways) and self.no_other_path(node)

    def reaches(self, node: str, gateway: str) -> bool:
        """Does this reference really answer this node?"""
        host = self.world.gateways[gateway]
        lan = self.world.segments[host.interface]
        return lan.passes(node, gateway) and lan.passes(gateway, node) and not host.silent

    def running(self, node: str) -> bool:
        """Is braind of ``node`` running, children and disk too?"""
        brain = self.world.brains[node]
        return brain.life is Life.RUNNING and not brain.hung and not brain.recorder.stalls and self.world.machines[node].kernel.powered

    # ---- memory ---------------------------------------------------------------------------------------------------------------

    def event(self, node: str, event: WatcherEvent) -> None:
        """Remember what a core is told."""
        told = self.told[node]
        if type(event) is BytesReceived:
            if self.world.is_intact(other(node), event.data):
                told.frames.setdefault(event.path, deque(maxlen=KEEP)).append(self.now_ns)
        elif type(event) is OwnerClaimed:
            table = told.claims if event.mac in (MACS[other(node)], virtual_mac(event.address)) else told.foreign_claims
            table[event.address] = self.now_ns
        elif type(event) is AdvertHeard:
            if not event.outgoing and not event.problem:
                told.adverts[str(event.key)] = self.now_ns
        elif type(event) is ProbeFinished:
            if not event.error:
                told.probes[event.address] = self.now_ns
        elif type(event) is OperatorActed and event.action is OperatorAction.CONFIRM_OFF:
            self.surely_down[node]["vouched"] = event.who
        elif type(event) is ReferenceAnswered:
            told.reference = self.now_ns
        elif type(event) is LoopStalled and event.stalled_ns >= self.world.settings[node].policy.stall_ms * NS_PER_MS:
            told.stalled = self.now_ns
            told.stall_length_ns = event.stalled_ns
            self.world.saw("stall")

    def command(self, node: str, command: WatcherCommand) -> None:
        """Remember verdicts and fence states as they are decided."""
        if type(command) is not Persist:
            return
        for row in command.rows:
            fields = self.fields(row)
            if row.kind is RowKind.VERDICT:
                self._verdict(node, str(fields["scope"]), str(fields["verdict"]), str(fields["stage"]))
            elif row.kind is RowKind.ACTION and fields["action"] == "yield":
                self.world.saw("yield")
            elif row.kind is RowKind.FENCE:
                order, level, state = str(fields["order_id"]), int(str(fields["level"])), str(fields["state"])
                self.fence_rows[node].setdefault(order, []).append((self.now_ns, level, state))
                if state == "proved":
                    self.surely_down[node]["proved"] = order
                self.world.saw({"requested": "fence_intended"}.get(state, f"fence_{state}"))

    def _verdict(self, node: str, scope: str, verdict: str, stage: str) -> None:
        self.told[node].verdicts[scope] = (verdict, stage, self.now_ns)
        self.world.saw(f"verdict_{verdict}")
        if verdict == "ISOLATED":
            self.world.saw("isolation")

    def device(self, node: str, switch: PowerSwitch, command: RunFence) -> None:
        """Remember every order to turn a machine off."""
        if command.action == "off":
            self.off_calls.append((self.now_ns, node, switch, command))

    def fault(self, fault: Fault) -> None:
        """Remember what strikes."""
        self.struck[fault.verb] = None
        self.world.saw(f"fault_{fault.verb}")

    def owners(self, vip: str, before: tuple[str, ...], now: tuple[str, ...]) -> None:
        """Remember since when."""
        self.owned_since[vip] = self.now_ns

    def power(self, node: str, on: bool, why: str) -> None:
        """Remember when machines lost or got power."""
        (self.powered_on if on else self.powered_off)[node].append(self.now_ns)
        if not on:
            self.told[node] = Told()
            self.surely_down[node].clear()
        if on:
            self.surely_down[other(node)].clear()
        elif "in order" in why:
            self.surely_down[other(node)]["stopped in order"] = why

    def life(self, node: str, process: str) -> None:
        """A new watcher process has heard nothing yet."""
        life = self.world.machines[node].processes[process].life
        if life is Life.PAUSED:
            self.pauses.append((self.now_ns, node, process))
        if process == "braind" and life is Life.RUNNING and self.told[node].started != self.world.brains[node].births:
            if self.world.brains[node].births > 1:
                self.world.saw("restart")
            self.told[node] = Told(started=self.world.brains[node].births, begun=self.now_ns)

    def poll(self) -> None:
        """Follow overlaps and isolation, and whether anything forbids a fence."""
        now_ns = self.now_ns
        if "could_fence" not in self.world.seen:
            for brain in self.world.brains.values():
                if brain.core is not None and brain.life is Life.RUNNING and not brain.core.may_fence(brain.kernel.now_ns()):
                    self.world.saw("could_fence")
                    break
        for vip in self.world.owners:
            if len(self.holders(vip)) > 1:
                if now_ns - self.overlap_since.setdefault(vip, now_ns) == SPLIT_NS:
                    self.world.saw("split")
            elif vip in self.overlap_since:
                self.overlaps.append((vip, self.overlap_since.pop(vip), now_ns))
        for node in NODES:
            if not self.cut_off(node):
                self.isolated_since[node] = NEVER
            elif self.isolated_since[node] == NEVER:
                self.isolated_since[node] = now_ns
