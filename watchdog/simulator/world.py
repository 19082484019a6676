"""The virtual world of one run: two machines, their networks, their power, and what goes wrong with them.

It decides nothing about split brain: the cores do. It tells the checkers (watchdog/simulator/checkers) what really happened.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from base.core import NS_PER_MS, NS_PER_S
from vrrp.protocol.packet import DEFAULT_GROUP_IPV4, Datagram, DecodeError, Expectations, Family, decode_advert, receive_advert
from watchdog.config.model import BrainSettings, GroupKey, GroupSettings, Mode
from watchdog.judgement.commands import Row, RowKind, RunFence, SendFrame, SetGate, WatcherCommand
from watchdog.judgement.events import AdvertHeard, BytesReceived, WatcherEvent
from watchdog.judgement.watcher import WatcherCore
from watchdog.simulator.calm import Calm
from watchdog.simulator.checker import Checker, Violation
from watchdog.simulator.faults import ON_FENCE, ON_INTENT
from watchdog.simulator.injector import FaultInjector
from watchdog.simulator.machine import Host, Kernel, Machine
from watchdog.simulator.network import AdvertBytes, Segment, SerialLine
from watchdog.simulator.options import (
    ADDRESSES,
    GATEWAYS,
    MACS,
    NODES,
    Options,
    groups_of,
    identity_of,
    references_of,
    settings_of,
    switch_name,
)
from watchdog.simulator.power import PowerSwitch
from watchdog.simulator.scheduler import Scheduler, Streams, Trace
from watchdog.simulator.stranger import Stranger
from watchdog.simulator.vrrphost import GateFiles, VrrpHost
from watchdog.simulator.watcherhost import BrainHost
from watchdog.simulator.witness import Witness

if TYPE_CHECKING:
    from watchdog.simulator.checkers.observer import Observer

POLL_NS = 100 * NS_PER_MS
KEPT_QUIET_NS = 2 * NS_PER_S
"""How much of a quiet time is played before the next turn of the story when quiet is skipped."""
STORM = 2_000
"""More events than this within 100 ms are a storm; a busy moment has some dozens."""
CLUSTER_KEY = b"a cluster key of the simulator, 32+ bytes"
WALL_START_NS = 1_790_000_000 * NS_PER_S


class StormError(Exception):
    """The nodes keep each other busy for ever."""


class World:
    """One run. ``core`` is the product's own class, or a planted bug's subclass of it."""

    def __init__(
        self, options: Options, core: type[WatcherCore], checkers: list[Checker], *, keep_trace: bool = False, quick: bool = False
    ) -> None:
        self.options = options
        self.scheduler = Scheduler()
        self.streams = Streams(options.seed)
        self.trace = Trace(keep_trace)
        self.violations: list[Violation] = []
        self.seen: dict[str, int] = {}
        self.healing = False
        self.quick = quick
        self.repaired_ns = 0
        self.version = 0
        """Changes with everything that connects, powers or runs: what is worked out from that need not be worked out again."""
        self._talk: tuple[int, bool] = (-1, False)
        self.checkers = checkers
        self._core = core
        self._begun = False
        self._counted = 0
        self.wall_offset_ns = dict.fromkeys(NODES, 0)
        self._sent: dict[str, dict[bytes, None]] = {name: {} for name in NODES}
        self.recorded: dict[str, list[tuple[str, bytes]]] = {name: [] for name in NODES}
        """The first frames of each node that a stranger has recorded, if one ever replays them."""
        self.recorded_wanted = any(fault.verb == "replay" for fault in options.faults)
        self.management_cut = dict.fromkeys(NODES, 0)
        self.segments = {name: Segment(name, self.scheduler, self.streams) for name in options.networks}
        self.serial = SerialLine(NODES, 9600, self.scheduler, self.streams)
        self.machines = {name: Machine(Kernel(self, name, MACS[name], ADDRESSES[name])) for name in NODES}
        self.gateways = {
            name: Host(self, name, MACS[name], (address,), interface) for name, (interface, address) in references_of(options).items()
        } or {"gateway": Host(self, "gateway", MACS["gateway"], (GATEWAYS["gateway"],))}
        self.stranger = Stranger(self)
        self.groups = {name: groups_of(options, name) for name in NODES}
        self.groups_by_key: dict[GroupKey, GroupSettings] = {group.key: group for group in self.groups["A"]}
        self._lans = {vip: group.interface for group in self.groups["A"] for vip in group.vips}
        self.settings = {name: settings_of(options, name) for name in NODES}
        self.keys = dict.fromkeys(NODES, CLUSTER_KEY)
        self.switches: dict[str, PowerSwitch] = {}
        for target in NODES:
            for level in range(1, options.fence_levels + 1):
                name = switch_name(target, level)
                self.switches[name] = PowerSwitch(self, name, target, level, identity_of(target, level))
        self.gate_files = {name: GateFiles(options.mode_of(name)) for name in NODES}
        self.vrrp: dict[str, VrrpHost] = {}
        self.brains: dict[str, BrainHost] = {}
        for name in NODES:
            kernel = self.machines[name].kernel
            self.vrrp[name] = VrrpHost(self, kernel, self.groups[name], self.gate_files[name])
            self.brains[name] = BrainHost(self, kernel, self.settings[name], self.groups[name])
            self.machines[name].processes = {"vrrp": self.vrrp[name], "braind": self.brains[name]}
            self.serial.handlers[name] = self.brains[name].serial
        self.injector = FaultInjector(self)
        self._adverts: dict[AdvertBytes, tuple[int, int, tuple[str, ...], str] | None] = {}
        self.owners: dict[str, tuple[str, ...]] = {vip: () for group in self.groups["A"] for vip in group.vips}
        for checker in checkers:
            checker.begin(self)
        self.witness = Witness(self)
        self.calm = Calm(self)
        self._sort_checkers()

    @property
    def observer(self) -> Observer:
        """The common observer, which is always the first of the checkers."""
        return self.checkers[0]  # type: ignore[return-value]  # all_checkers() puts it there

    def watch(self, checker: Checker) -> None:
        """Let one more observer look on."""
        self.checkers.append(checker)
        checker.begin(self)
        self._sort_checkers()

    def _sort_checkers(self) -> None:
        """Only those that override a method are called: there are many calls."""

        def interested(method: str) -> list[Checker]:
            return [checker for checker in self.checkers if getattr(type(checker), method) is not getattr(Checker, method)]

        self._on_event = interested("event")
        self._on_command = interested("command")
        self._on_poll = interested("poll")

    # ---- a run ----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Safety phase (faults), then healing phase (everything is repaired)."""
        self.run_until(self.options.safety_ns)
        self.repaired_ns = self.scheduler.now_ns
        self.injector.heal()
        self.run_until(self.options.safety_ns + self.options.healing_ns)
        for checker in self.checkers:
            checker.finish()

    def run_until(self, end_ns: int) -> None:
        """Go on until ``end_ns``; the first call starts the machines and puts the faults on the clock."""
        if not self._begun:
            self._begun = True
            for name in NODES:
                rng = self.streams.of(f"{name}/start")
                self.scheduler.after(int(rng.random() * 800 * NS_PER_MS), self.vrrp[name].start)
                self.scheduler.after(int(rng.random() * 800 * NS_PER_MS), self.brains[name].start)
            self.injector.schedule()
            self.scheduler.after(POLL_NS, self._poll)
        self.scheduler.run_until(end_ns)

    def _poll(self) -> None:
        if self.trace.count - self._counted > STORM:
            raise StormError(f"{self.trace.count - self._counted} events within 100 ms: the nodes answer each other without end")
        self._counted = self.trace.count
        for checker in self._on_poll:
            checker.poll()
        if self.quick and self.injector.active == 0 and self.calm.is_calm():
            end_ns = self.options.safety_ns + (self.options.healing_ns if self.healing else 0)
            self.scheduler.skip_quiet(KEPT_QUIET_NS, end_ns)
        self.scheduler.after(POLL_NS, self._poll)

    def note(self, who: str, what: str) -> None:
        """One line of the trace."""
        self.trace.note(self.scheduler.now_ns, who, what)

    def saw(self, what: str) -> None:
        """Count something that a run may or may not meet."""
        self.seen[what] = self.seen.get(what, 0) + 1

    def wall_ns(self, node: str) -> int:
        """The wall clock of a node, which an operator or NTP may set."""
        return WALL_START_NS + self.scheduler.now_ns + self.wall_offset_ns[node]

    def make_watcher(self, settings: BrainSettings) -> WatcherCore:
        """A watcher core for a process that starts, built as watchdog/daemon.py builds it."""
        return self._core(settings, key=self.keys[settings.self_name])

    def decoded_advert(self, interface: str, advert: AdvertBytes) -> AdvertHeard | None:
        """What a sniffer on ``interface`` says about these bytes; None for what is no advert at all."""
        if advert not in self._adverts:
            self._adverts[advert] = self._decode(advert.key, advert.source_ip, advert.data)
        decoded = self._adverts[advert]
        if decoded is None:
            return None
        priority, interval_ms, vips, problem = decoded
        return AdvertHeard(interface, advert.key, priority, advert.source_ip, advert.mac, False, interval_ms, vips, problem)

    def _decode(self, key: GroupKey, source_ip: str, data: bytes) -> tuple[int, int, tuple[str, ...], str] | None:
        group = self.groups_by_key[key]
        try:
            advert = decode_advert(data, Family.IPV4)
        except DecodeError:
            return None
        problem = ""
        try:
            expected = Expectations(group.version, Family.IPV4, key.vrid, group.advert_interval_ms // 10)
            receive_advert(Datagram(IPv4Address(source_ip), DEFAULT_GROUP_IPV4, 255, data), expected)
        except DecodeError as error:
            problem = error.reason.value
        return advert.priority, advert.interval_cs * 10, tuple(str(a) for a in advert.addresses), problem

    # ---- what the checkers are told ----------------------------------------------------------------------------------------

    def frame_sent(self, node: str, path: str, data: bytes) -> None:
        """Remember what a node really sent, so that checkers can tell an intact frame from a damaged one."""
        ring = self._sent[node]
        ring[data] = None
        if self.recorded_wanted and len(self.recorded[node]) < 64:
            self.recorded[node].append((path, data))
        if len(ring) > 256:
            del ring[next(iter(ring))]

    def is_intact(self, node: str, data: bytes) -> bool:
        """Did ``node`` send exactly these bytes lately, and can the other one read them?"""
        return data in self._sent[node] and self.keys["A"] == self.keys["B"]

    def watcher_event(self, node: str, event: WatcherEvent) -> None:
        """A core is about to handle an event."""
        if type(event) is BytesReceived:
            self.trace.data(self.scheduler.now_ns, node, event.path, event.data)
        else:
            self.note(node, repr(event))
        for checker in self._on_event:
            checker.event(node, event)

    def watcher_command(self, node: str, command: WatcherCommand) -> None:
        """A core asked for something."""
        if type(command) is SendFrame:
            return
        self.calm.command(command)
        self.note(node, repr(command))
        for checker in self._on_command:
            checker.command(node, command)

    def committed(self, node: str, rows: tuple[Row, ...]) -> None:
        """Rows are durable now."""
        if any(row.kind is RowKind.FENCE for row in rows):
            self.injector.moment(ON_INTENT, node)
        for checker in self.checkers:
            checker.committed(node, rows)

    def device_called(self, node: str, switch: PowerSwitch, command: RunFence) -> None:
        """The runner begins one device command."""
        self.note(node, f"device {switch.name} {command.action} for {command.target}")
        for checker in self.checkers:
            checker.device(node, switch, command)
        if command.action == "off":
            self.injector.moment(ON_FENCE, node)

    def life_changed(self, node: str, process: str) -> None:
        """A process started, died, hung or came back."""
        self.version += 1
        if process == "vrrp":
            self.brains[node].vrrp_life_changed()
        for checker in self.checkers:
            checker.life(node, process)

    def role_changed(self, node: str, key: GroupKey, state: str) -> None:
        """A virtual router changed its state."""
        for checker in self.checkers:
            checker.role(node, key, state)

    def mode_of(self, node: str) -> Mode:
        """The mode in which this node's braind runs, or would."""
        return self.brains[node].settings.policy.mode

    def talk(self) -> bool:
        """Does a path live both ways, with one key at both ends?"""
        if self._talk[0] != self.version:
            paths = [path.name for path in self.settings["A"].paths]
            lives = any(all(self.path_lives(path, name) for name in NODES) for path in paths)
            self._talk = (self.version, lives and self.keys["A"] == self.keys["B"])
        return self._talk[1]

    def lan_of(self, address: str) -> str:
        """The interface that an address belongs on."""
        return self._lans.get(address, "eth0")

    def reachable(self, node: str, lan: str = "eth0") -> bool:
        """Do clients on this service LAN reach this machine's kernel?"""
        kernel = self.machines[node].kernel
        return kernel.powered and not kernel.frozen and self.segments[lan].ports[node].carries

    def owners_may_have_changed(self) -> None:
        """Work out anew who answers for each address, as a client would see it."""
        self.version += 1
        for vip, before in self.owners.items():
            now = tuple(name for name in NODES if self.reachable(name, self.lan_of(vip)) and self.machines[name].kernel.holds(vip))
            if now != before:
                self.owners[vip] = now
                self.note("client", f"{vip} answered by {', '.join(now) or 'nobody'}")
                for checker in self.checkers:
                    checker.owners(vip, before, now)

    def path_lives(self, name: str, source: str) -> bool:
        """Can a heartbeat of ``source`` reach the other node on path ``name`` at all?"""
        target = "B" if source == "A" else "A"
        path = next(p for p in self.settings["A"].paths if p.name == name)
        if path.medium == "serial":
            return self.serial.passes(source)
        return self.segments[path.interface.of(source)].passes(source, target)

    def gate_of(self, node: str, key: GroupKey) -> SetGate | None:
        """The gate state last asked for by the running braind of ``node``."""
        return self.brains[node].wanted_gates.get(key)

    # ---- power -------------------------------------------------------------------------------------------------------------------

    def power_off(self, node: str, why: str) -> None:
        """Everything on the machine stops, at once."""
        kernel = self.machines[node].kernel
        if not kernel.powered:
            return
        self.note(node, f"power off: {why}")
        kernel.powered = False
        kernel.frozen = 0
        for process in (self.vrrp[node], self.brains[node]):
            process.stop()
        self.brains[node].hung = False
        kernel.addresses = {held: None for held in kernel.addresses if held.address == kernel.service_address}
        self.gate_files[node].clear()
        for checker in self.checkers:
            checker.power(node, False, why)
        self.owners_may_have_changed()

    def power_on(self, node: str) -> None:
        """The machine boots; its daemons start a little later."""
        kernel = self.machines[node].kernel
        if kernel.powered:
            return
        self.note(node, "power on")
        kernel.powered = True
        kernel.boots += 1
        kernel.boot_at_ns = self.scheduler.now_ns - kernel.clock_start_ns
        for checker in self.checkers:
            checker.power(node, True, "")
        rng = self.streams.of(f"{node}/start")
        self.scheduler.after(int((0.3 + rng.random()) * NS_PER_S), self.brains[node].start)
        self.scheduler.after(int((0.3 + rng.random()) * NS_PER_S), self.vrrp[node].start)
