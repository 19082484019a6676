"""Promises 9, 10 and 11: somebody serves, the loss of service is paged, strangers move nobody; and nobody who could serve is shot."""

from __future__ import annotations

from base.core import NS_PER_MS, NS_PER_S
from watchdog.config.model import Mode
from watchdog.judgement.commands import Persist, RowKind, RunFence, WatcherCommand
from watchdog.simulator.checker import Checker
from watchdog.simulator.checkers.observer import Observer, other
from watchdog.simulator.options import NODES
from watchdog.simulator.process import Life

EXCHANGE_NS = 8 * NS_PER_S
"""One exchange at its slowest: a path falls silent, it is confirmed, a census, a request and its answer, and the wait for a move."""
PAGED_WITHIN_NS = 20 * NS_PER_S
SEEN_WORKING_NS = 4 * NS_PER_S
"""A node that has been able to serve for so long, and reached the other for so long, is known to be able to."""
STRANGERS = ("forge", "flood", "replay", "foreign")
DONE = 1 << 62


def takeover_ns(interval_ms: int) -> int:
    """The master down interval of plain VRRP at its longest: three adverts and a skew of up to one."""
    return 4 * interval_ms * NS_PER_MS


def serves_clients(checker: Checker, node: str, lan: str, *, asks_reference: bool = True) -> bool:
    """Could this node serve clients of this LAN: power, port, a running VRRP daemon, and a reference that answers it (if any)? The last
    possible owner serves on, whether or not a reference answers."""
    world = checker.world
    if not world.reachable(node, lan) or world.vrrp[node].life is not Life.RUNNING:
        return False
    here = [name for name, host in world.gateways.items() if host.interface == lan]
    observer = world.observer
    return not asks_reference or not world.options.reference or not here or any(observer.reaches(node, name) for name in here)


class Service(Checker):
    """Promise 9. A node is *free* to take when it could serve, its watcher works, and the other one released it or certainly cannot
    answer: resolve and observe need what plain VRRP needs; strict needs the other's word or a proof."""

    name = "service"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._since: dict[tuple[str, str], int] = {}

    def poll(self) -> None:
        """Nobody serves although somebody is free to?"""
        now_ns = self._observer.now_ns
        bound_ns = takeover_ns(self.world.options.advert_interval_ms) + EXCHANGE_NS
        for vip, owners in self.world.owners.items():
            for node in NODES:
                if owners or not self._free(node, self.world.lan_of(vip)):
                    self._since.pop((vip, node), None)
                    continue
                since_ns = self._since.setdefault((vip, node), now_ns)
                if now_ns - since_ns > bound_ns:
                    self.broken(node, f"nobody serves {vip} for {(now_ns - since_ns) // NS_PER_S} s although {node} is free to")
                    self._since[vip, node] = DONE

    def _free(self, node: str, lan: str) -> bool:
        world, peer = self.world, other(node)
        certain = bool(self._observer.surely_down[node])
        if not serves_clients(self, node, lan, asks_reference=not certain) or not self._observer.running(node) or self._forbidden(node):
            return False
        told = self._observer.told[node]
        listening_ns = (world.settings[node].policy.settle_ms + 1_000) * NS_PER_MS
        if self._observer.now_ns - max(told.stalled, told.begun) < listening_ns:
            return False
        if self._both_talk():
            return True
        gone = not world.machines[peer].kernel.powered
        return gone and (certain or world.mode_of(node) is not Mode.STRICT)

    def _both_talk(self) -> bool:
        """Both watchers work and hear each other: one of them must serve."""
        acts = all(self.world.mode_of(name) is not Mode.OBSERVE for name in NODES)
        running = all(self._observer.running(name) for name in NODES)
        return acts and running and self.world.talk() and self.world.options.story != "bad-network"

    def _forbidden(self, node: str) -> bool:
        """Quarantine holds a node back until a person or the peer ends it; a split about which both talk is another promise."""
        return bool(self.world.brains[node].recorder.node_fact("quarantine"))


class Paging(Checker):
    """Promise 10: when the last owner is lost, or two stay, somebody who can is told critically, whatever else is open."""

    name = "paging"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._since: dict[str, int] = {}
        self._last_page_ns = -DONE
        self._open: dict[str, bool] = {}

    def command(self, node: str, command: WatcherCommand) -> None:
        """Remember critical pages, and whether they are still open."""
        if type(command) is not Persist:
            return
        for row in command.rows:
            fields = dict(row.fields)
            if row.kind is RowKind.ALERT and fields.get("severity") == "critical":
                key = str(fields.get("dedup_key"))
                if fields.get("action") == "trigger":
                    self._last_page_ns = self._observer.now_ns
                    self._open[key] = True
                else:
                    self._open.pop(key, None)

    def poll(self) -> None:
        """Has the trouble lasted, and was nobody told?"""
        now_ns = self._observer.now_ns
        bound_ns = takeover_ns(self.world.options.advert_interval_ms) + PAGED_WITHIN_NS
        for vip, owners in self.world.owners.items():
            if len(owners) == 1 or not self._somebody_could_tell() or (owners and not self._can_be_seen()):
                self._since.pop(vip, None)
                continue
            since_ns = self._since.setdefault(vip, now_ns)
            told = self._open or self._last_page_ns >= since_ns
            if now_ns - since_ns > bound_ns and not told:
                what = "is owned by nobody" if not owners else "has two owners"
                self.broken("", f"{vip} {what} for {(now_ns - since_ns) // NS_PER_S} s and nobody was paged critically")
                self._since[vip] = DONE

    def _can_be_seen(self) -> bool:
        """Two owners that nothing connects look like one to each of them."""
        lan = self.world.segments["eth0"]
        return self.world.talk() or (lan.passes("A", "B") and lan.passes("B", "A"))

    def _somebody_could_tell(self) -> bool:
        """A watcher that works, undisturbed for long enough, on a node that sees the LAN."""
        for node in NODES:
            told = self._observer.told[node]
            quiet_ns = self._observer.now_ns - max(told.stalled, told.begun)
            if self._observer.running(node) and quiet_ns > PAGED_WITHIN_NS and self.world.reachable(node):
                return True
        return False


class Strangers(Checker):
    """Promise 11: in a run where all that goes wrong is a stranger, nobody is fenced, and the service stays."""

    name = "strangers"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._since: dict[str, int] = {}

    def _alone(self) -> bool:
        faults = self.world.options.faults
        return bool(faults) and all(fault.verb in STRANGERS for fault in faults)

    def command(self, node: str, command: WatcherCommand) -> None:
        """Look for acts."""
        if type(command) is RunFence and command.action == "off" and self._alone():
            self.broken(node, f"fences {command.target} on what a stranger sent")

    def poll(self) -> None:
        """Look for addresses that nobody serves."""
        if not self._alone() or self._observer.now_ns < 10 * NS_PER_S:
            return
        now_ns = self._observer.now_ns
        bound_ns = takeover_ns(self.world.options.advert_interval_ms) + NS_PER_S
        for vip, owners in self.world.owners.items():
            if owners:
                self._since.pop(vip, None)
            elif now_ns - self._since.setdefault(vip, now_ns) > bound_ns:
                self.broken("", f"nobody serves {vip} because of a stranger")
                self._since[vip] = DONE


class NobodyFitIsShot(Checker):
    """No machine is turned off that could serve, and of which the shooter could know it: they reached each other over the LAN, and no
    address had two owners; or they talked, both watchers at work, and it was never asked in vain."""

    name = "fit is shot"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._fit_since: dict[str, int] = {}
        self._talk_since = DONE
        self._split_ns = -DONE

    def poll(self) -> None:
        """Follow who could serve and be seen to."""
        now_ns, world = self._observer.now_ns, self.world
        lan = world.segments["eth0"]
        joined = all(lan.passes(a, b) for a, b in (("A", "B"), ("B", "A")))
        for node in NODES:
            able = joined and serves_clients(self, node, "eth0") and not self._deaf(node)
            if not able:
                self._fit_since.pop(node, None)
            else:
                self._fit_since.setdefault(node, now_ns)
        talk = self._talk()
        self._talk_since = min(self._talk_since, now_ns) if talk else DONE
        if any(self._observer.overlapped(vip, now_ns - NS_PER_S) for vip in world.owners):
            self._split_ns = now_ns

    def _deaf(self, node: str) -> bool:
        """A kernel that does not answer for its own address cannot be told from a dead one while its processes are down."""
        return self.world.brains[node].life is not Life.RUNNING and not self.world.options.answers_arp

    def _talk(self) -> bool:
        return self.world.talk() and all(self._observer.running(name) for name in NODES)

    def device(self, node: str, switch: object, command: RunFence) -> None:
        """Look at the truth at the moment of the act."""
        if command.action != "off" or self._ordered():
            return
        now_ns = self._observer.now_ns
        target = command.target
        split = now_ns - self._split_ns < 4 * NS_PER_S
        fit = now_ns - self._fit_since.get(target, DONE) > SEEN_WORKING_NS
        if fit and not split:
            self.broken(node, f"{target} is told off although it could serve and reached {node} over the LAN")
        elif split and now_ns - self._talk_since > EXCHANGE_NS and self.world.mode_of(target) is Mode.OBSERVE:
            self.broken(node, f"{target} is told off for not yielding, and its mode forbids it to yield")

    def _ordered(self) -> bool:
        return any(fault.verb == "order-off" for fault in self.world.options.faults)
