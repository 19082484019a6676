"""Promises 2, 3, 4, 5 and 7: everything about turning the other machine off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.core import NS_PER_MS, NS_PER_S
from watchdog.judgement.commands import Persist, Row, RowKind, RunFence, WatcherCommand
from watchdog.judgement.events import OperatorActed, OperatorAction, Started, WatcherEvent
from watchdog.simulator.checker import Checker
from watchdog.simulator.checkers.observer import NEVER, Observer, other
from watchdog.simulator.options import NODES
from watchdog.simulator.power import Habit
from watchdog.simulator.process import Life

if TYPE_CHECKING:
    from watchdog.simulator.power import PowerSwitch


class Intent(Checker):
    """Promise 2: no device is told to turn anything off before that intent is durable."""

    name = "intent"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._durable: dict[str, dict[tuple[str, int], None]] = {name: {} for name in NODES}

    def committed(self, node: str, rows: tuple[Row, ...]) -> None:
        """Remember durable intents."""
        for row in rows:
            if row.kind is RowKind.FENCE:
                fields = dict(row.fields)
                self._durable[node][str(fields["order_id"]), int(str(fields["level"]))] = None

    def device(self, node: str, switch: PowerSwitch, command: RunFence) -> None:
        """Look at the act."""
        if command.action == "off" and (command.order_id, command.level) not in self._durable[node]:
            self.broken(node, f"{switch.name} was told off for {command.order_id} level {command.level}, and no intent is durable")


class SecondLook(Checker):
    """The act starts only on evidence of this moment: a reference answered just now, and the target is not heard on a path, unless two
    own an address or an earlier level was refuted."""

    name = "second look"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def command(self, node: str, command: WatcherCommand) -> None:
        """Look at the order as it leaves the core."""
        if type(command) is not RunFence or command.action != "off":
            return
        observer, now_ns = self._observer, self._observer.now_ns
        told = observer.told[node]
        refuted = any(state == "refuted" for _, _, state in observer.fence_rows[node].get(command.order_id, ()))
        limit_ns = (max(self.world.settings[node].policy.second_look_ms, 1_200) + 300) * NS_PER_MS
        if self.world.options.reference and now_ns - told.reference > limit_ns:
            self.broken(node, f"order {command.order_id}: off although no reference answered for {limit_ns // NS_PER_MS} ms")
        overlapped = any(observer.overlapped(vip, now_ns - 3 * NS_PER_S) for vip in self.world.owners)
        beat_ns = self.world.options.beat_ms * NS_PER_MS
        heard = told.frames_since(now_ns - 4 * beat_ns)
        if heard >= 3 and now_ns - told.last_frame() < 2 * beat_ns and not refuted and not overlapped:
            self.broken(node, f"order {command.order_id}: off although {heard} frames of {command.target} just arrived")


class Proof(Checker):
    """Promise 3: a fence is proved only if the target really went off, or a channel that lived at the act truly fell silent."""

    name = "proof"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def command(self, node: str, command: WatcherCommand) -> None:
        """Look at every claim of a proof."""
        if type(command) is Persist:
            for row in command.rows:
                fields = dict(row.fields)
                if row.kind is RowKind.FENCE and fields["state"] == "proved":
                    self._proved(node, str(fields["order_id"]), str(fields["target"]))

    def _proved(self, node: str, order: str, target: str) -> None:
        observer = self._observer
        calls = [(at_ns, switch) for at_ns, by, switch, call in observer.off_calls if by == node and call.order_id == order]
        if not self.world.machines[target].kernel.powered:
            return
        if not calls:
            self.broken(node, f"{order} proved, but nobody was told to turn {target} off, and it is on")
            return
        first_ns = calls[0][0]
        if any(at_ns >= first_ns for at_ns in observer.powered_off[target]):
            return  # it was off and is back
        told = observer.told[node]
        heard_ns = max([told.last_frame(), *(told.claims.get(vip, NEVER) for vip in (*self.world.owners, *self._addresses(target)))])
        late_ns = calls[-1][0] + 1_500 * NS_PER_MS
        if told.last_frame() > late_ns:
            self.broken(node, f"{order} proved, but {target} is on and its frames arrived after the act")
        elif any(switch.habit is Habit.LIES_ALWAYS for _, switch in calls):
            # It lies in act and status; what the segment says in the target's name is open evidence, which pages and refutes nothing.
            self.world.saw("stated_limit")
        elif heard_ns > late_ns:
            self.broken(node, f"{order} proved, but {target} is on and was heard after the act")
        elif not heard_ns > first_ns - 2_500 * NS_PER_MS:
            self.broken(node, f"{order} proved, but {target} is on, and it was silent long before the act")
        else:
            self.world.saw("coincidence")

    def _addresses(self, target: str) -> tuple[str, ...]:
        return self.world.settings[target].me.addresses


class Recovery(Checker):
    """Promise 2, after a crash: the open fence is unknown, is verified, and is not repeated."""

    name = "recovery"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._open: dict[str, dict[str, str]] = {name: {} for name in NODES}
        self._told_ns: dict[tuple[str, str], int] = {}
        self._said: dict[tuple[str, str], None] = {}

    def event(self, node: str, event: WatcherEvent) -> None:
        """What a start must take care of."""
        if type(event) is Started:
            self._open[node] = {fence.order_id: fence.target for fence in self._really_open(node)}
            for order in self._open[node]:
                self._told_ns[node, order] = self._observer.now_ns

    def _really_open(self, node: str) -> list[_Open]:
        return [_Open(fence.order_id, fence.target) for fence in self.world.brains[node].recorder.open_fences()]

    def command(self, node: str, command: WatcherCommand) -> None:
        """Unknown must be said, and nothing repeated before it is settled."""
        if type(command) is Persist:
            for row in command.rows:
                fields = dict(row.fields)
                if row.kind is RowKind.FENCE and str(fields["order_id"]) in self._open[node]:
                    self._said[node, str(fields["order_id"])] = None
                    if int(str(fields["level"])) == 0:
                        self._open[node].pop(str(fields["order_id"]), None)
        elif type(command) is RunFence and command.action == "off":
            for order, target in self._open[node].items():
                if target == command.target:
                    self.broken(node, f"{command.device} off while {order} of an earlier life is unsettled")

    def poll(self) -> None:
        """Say *unknown* soon."""
        for (node, order), since_ns in list(self._told_ns.items()):
            running = self.world.brains[node].life is Life.RUNNING
            if (node, order) in self._said or not running:
                del self._told_ns[node, order]
            elif self._observer.now_ns - since_ns > 3 * NS_PER_S:
                self.broken(node, f"{order} was open when this daemon started and nothing was said about it in 3 s")
                del self._told_ns[node, order]


class _Open:
    def __init__(self, order_id: str, target: str) -> None:
        self.order_id = order_id
        self.target = target


class IsolatedNeverFences(Checker):
    """Promise 4, first half. The truth must have lasted long enough to be known."""

    name = "isolation"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def command(self, node: str, command: WatcherCommand) -> None:
        """Look at every order as it leaves the core."""
        if type(command) is not RunFence or command.action != "off":
            return
        observer, now_ns = self._observer, self._observer.now_ns
        carrier = self.world.segments["eth0"].ports[node].carrier
        since_ns = observer.isolated_since[node]
        if not carrier and since_ns != NEVER and now_ns - since_ns > NS_PER_S:
            self.broken(node, f"fences {command.target} while its own carrier is down")
        elif since_ns != NEVER and now_ns - since_ns > 5 * NS_PER_S and now_ns - observer.told[node].reference > 5 * NS_PER_S:
            self.broken(node, f"fences {command.target} although no reference answered for 5 s")
        elif not self.world.options.reference and observer.no_other_path(node) and not self._kernel_answers(node):
            self.broken(node, f"fences {command.target} in total silence without any reference configured")

    def _kernel_answers(self, node: str) -> bool:
        """The peer's kernel answers ARP: then we are not alone, its processes are."""
        told, now_ns = self._observer.told[node], self._observer.now_ns
        addresses = (*self.world.owners, *self.world.settings[other(node)].me.addresses)
        return any(now_ns - told.claims.get(address, NEVER) < 15 * NS_PER_S for address in addresses)


class NoMutualFencing(Checker):
    """Promise 5: the two nodes do not shoot each other, as long as F and the pauses are bounded as configured."""

    name = "mutual"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def power(self, node: str, on: bool, why: str) -> None:
        """Is the node that shot this one just shot, too?"""
        if on or not why.startswith("fenced by "):
            return
        shooter = why.removeprefix("fenced by ")
        observer, now_ns = self._observer, self._observer.now_ns
        mine = [at for at, by, _, call in observer.off_calls if by == node and call.target == shooter and now_ns - at < 60 * NS_PER_S]
        if not mine or not any(now_ns - at < 60 * NS_PER_S for at in observer.powered_off[shooter]):
            return
        theirs = [at for at, by, _, call in observer.off_calls if by == shooter and call.target == node]
        back = [at for at in observer.powered_on[shooter] if at > mine[0]]
        if back and theirs and theirs[-1] > back[-1]:
            return  # a new story: it came back, and something else happened
        if self._bounds_held(shooter, node):
            self.broken("", f"{node} and {shooter} turned each other off")

    def _bounds_held(self, first: str, second: str) -> bool:
        slow = [s for _, _, s, _ in self._observer.off_calls if s.habit in (Habit.SLOW, Habit.LATE)]
        if any(switch.took_ms() > self.world.options.measured_ms for switch in slow):
            return False
        recent_ns = self._observer.now_ns - 60 * NS_PER_S
        return not any(at > recent_ns for at, node, _ in self._observer.pauses if node in (first, second))


class Budget(Checker):
    """Promise 7: never more than N fences of one target within an hour, restarts or not, unless a person clears the latch."""

    name = "budget"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._orders: dict[str, list[str]] = {name: [] for name in NODES}

    def event(self, node: str, event: WatcherEvent) -> None:
        """A person starts the count anew."""
        if type(event) is OperatorActed and event.action is OperatorAction.CLEAR_LATCH:
            self._orders[node].clear()

    def device(self, node: str, switch: PowerSwitch, command: RunFence) -> None:
        """Count orders, not levels."""
        if command.action != "off" or command.order_id in self._orders[node]:
            return
        self._orders[node].append(command.order_id)
        if len(self._orders[node]) > self.world.options.budget_per_hour:
            self.broken(node, f"fence number {len(self._orders[node])} of {command.target} within the hour: {command.order_id}")
