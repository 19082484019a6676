"""Who owns an address: strict has one owner, resolve ends a split in time, exactly one node keeps, the isolated one gives up."""

from __future__ import annotations

from base.core import NS_PER_MS, NS_PER_S
from watchdog.config.model import Mode
from watchdog.judgement.commands import GateState, Persist, RowKind, WatcherCommand
from watchdog.simulator.checker import Checker
from watchdog.simulator.checkers.observer import NEVER, Observer, other
from watchdog.simulator.options import NODES
from watchdog.simulator.power import Habit
from watchdog.simulator.process import Life

STRICT_BOUND_NS = 600 * NS_PER_MS
RESOLVE_BOUND_NS = 12 * NS_PER_S
"""R as the simulator holds it: silence, confirmation, census, yield deadline, and one restart of the confirmation."""
GIVE_UP_BOUND_NS = 9 * NS_PER_S
NOBODY_BOUND_NS = 12 * NS_PER_S
BOTH_YIELD_NS = 1_500 * NS_PER_MS
"""Two yields so close together belong to one split."""


class StrictOneOwner(Checker):
    """Strict: no two live owners that clients can reach, beyond a bound, unless a device lies consistently or a node hung."""

    name = "strict"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._since: dict[str, int] = {}

    def poll(self) -> None:
        """Measure overlaps."""
        if self.world.options.mode is not Mode.STRICT:
            return
        now_ns = self._observer.now_ns
        for vip, owners in self.world.owners.items():
            if len(owners) < 2:
                self._since.pop(vip, None)
                continue
            since_ns = self._since.setdefault(vip, now_ns)
            if now_ns - since_ns > STRICT_BOUND_NS and not self._excused(vip):
                self.broken("", f"{vip} has two owners for {(now_ns - since_ns) // NS_PER_MS} ms in strict mode")
                self._since[vip] = 1 << 62

    def _excused(self, vip: str) -> bool:
        """A lie in action and status, or a process that was stopped while it owned: the stated limits."""
        if any(switch.habit is Habit.LIES_ALWAYS for switch in self.world.switches.values()):
            return True
        recent_ns = self._observer.now_ns - 20 * NS_PER_S
        hung = any(self.world.vrrp[name].life is Life.PAUSED for name in NODES)
        return hung or any(at > recent_ns for at, _, _ in self._observer.pauses)


class ResolvedInTime(Checker):
    """Resolve and strict: while a path lives both ways and both brainds run, a split does not outlive R."""

    name = "resolve"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._since: dict[str, int] = {}

    def poll(self) -> None:
        """Measure overlaps under good conditions."""
        if self.world.options.mode is Mode.OBSERVE:
            return
        now_ns = self._observer.now_ns
        good = self._conditions()
        for vip, owners in self.world.owners.items():
            if len(owners) < 2 or not good:
                self._since.pop(vip, None)
                continue
            since_ns = self._since.setdefault(vip, now_ns)
            if now_ns - since_ns > RESOLVE_BOUND_NS:
                self.broken("", f"{vip} has two owners for {(now_ns - since_ns) // NS_PER_S} s while a path lives")
                self._since[vip] = 1 << 62

    def _conditions(self) -> bool:
        running = all(self._observer.running(name) for name in NODES)
        act = all(self.world.mode_of(name) is not Mode.OBSERVE for name in NODES)
        return running and act and self.world.talk() and self.world.options.story != "bad-network"


class ExactlyOneKeeps(Checker):
    """Never do both hold back for each other: with both brainds running and a path alive, somebody may own."""

    name = "exactly one"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._since: dict[str, int] = {}
        self._yielded: dict[str, tuple[str, int]] = {}

    def command(self, node: str, command: WatcherCommand) -> None:
        """Both yield the same group to each other."""
        if type(command) is not Persist:
            return
        for row in command.rows:
            fields = dict(row.fields)
            if row.kind is RowKind.ACTION and fields["action"] == "yield":
                scope, now_ns = str(fields["subject"]), self._observer.now_ns
                by, at_ns = self._yielded.get(scope, (node, 0))
                if by != node and now_ns - at_ns < BOTH_YIELD_NS:
                    self.broken(node, f"both nodes yield {scope} to each other within {(now_ns - at_ns) // NS_PER_MS} ms")
                self._yielded[scope] = (node, now_ns)

    def poll(self) -> None:
        """Both gates held, and nobody owns."""
        if not all(self._observer.running(name) for name in NODES):
            self._since.clear()
            return
        now_ns = self._observer.now_ns
        for group in self.world.groups["A"]:
            scope = str(group.key)
            gates = [self.world.gate_of(name, group.key) for name in NODES]
            held = all(gate is not None and gate.state is GateState.HELD for gate in gates)
            if not held or any(self.world.owners[vip] for vip in group.vips) or not self.world.talk() or self._somebody_is_unfit():
                self._since.pop(scope, None)
                continue
            since_ns = self._since.setdefault(scope, now_ns)
            if now_ns - since_ns > NOBODY_BOUND_NS:
                self.broken("", f"both nodes hold back {scope} for {(now_ns - since_ns) // NS_PER_S} s and nobody owns it")
                self._since[scope] = 1 << 62

    def _somebody_is_unfit(self) -> bool:
        """Nobody owes anything while a node is cut off from the LAN, its daemon is down, or a person must clear it."""
        for name in NODES:
            if not self.world.reachable(name) or self.world.vrrp[name].life is not Life.RUNNING:
                return True
            if self.world.brains[name].recorder.node_fact("quarantine"):
                return True
        return False


class IsolatedGivesUp(Checker):
    """Promise 4, second half: from resolve on, an isolated node that can act does not hold addresses."""

    name = "gives up"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._since = dict.fromkeys(NODES, NEVER)

    def poll(self) -> None:
        """Isolated for long, running undisturbed, and still holding?"""
        if self.world.options.mode is Mode.OBSERVE:
            return
        now_ns = self._observer.now_ns
        for node in NODES:
            may = self.world.mode_of(node) is not Mode.OBSERVE
            if not may or not self._observer.cut_off(node) or not self._observer.running(node) or not self._alone(node):
                self._since[node] = NEVER
                continue
            if self._since[node] == NEVER:
                self._since[node] = now_ns
            held = [vip for vip in self.world.owners if self.world.machines[node].kernel.holds(vip)]
            if held and now_ns - self._since[node] > GIVE_UP_BOUND_NS:
                self.broken(node, f"isolated for {(now_ns - self._since[node]) // NS_PER_S} s and still holds {', '.join(held)}")
                self._since[node] = 1 << 62

    def _alone(self, node: str) -> bool:
        """If the peer is heard, health decides; then this promise says nothing."""
        if self._observer.surely_down[node]:
            return False  # the last possible owner never gives up
        return self._observer.no_other_path(node) and self._observer.now_ns - self._observer.told[node].last_frame() > NS_PER_S


_ = other
