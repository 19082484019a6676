"""Two WatcherCores back to back in virtual time: links, kernels, a small VRRP, references, power switches.

Not the simulator (watchdog/simulator is that); just enough world to play the demo's scenarios in milliseconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from base.core import NS_PER_MS
from fencing.plan.settings import FenceDevice, FenceLevel, FenceSettings
from watchdog.config.model import (
    BrainSettings,
    GateSettings,
    GroupKey,
    GroupSettings,
    LinkAddress,
    Mode,
    NodeSettings,
    PathKind,
    PathSettings,
    PerNode,
    PolicySettings,
    ReferenceSettings,
)
from watchdog.frames.heartbeat import LinkMac
from watchdog.judgement import commands as c
from watchdog.judgement import events as e
from watchdog.judgement.delays import least_delay_ms
from watchdog.judgement.self_fence import WatchdogOrder
from watchdog.judgement.watcher import WatcherCore

KEY = b"k" * 32
VIP = "10.0.0.100"
IPS = {"a": "10.0.0.1", "b": "10.0.0.2"}
GATEWAY_MAC = "02:00:00:00:00:fe"
MACS = {"a": "02:00:00:00:00:0a", "b": "02:00:00:00:00:0b"}
GROUP = GroupKey(51, 4)


def make_settings(node: str, mode: Mode = Mode.RESOLVE, *, serial: bool = True, fence: bool = True, levels: int = 1) -> BrainSettings:
    """One brain.toml for both nodes: an ethernet path beside the service LAN and a serial line; the gateway as reference."""
    paths = [PathSettings("eth1", PathKind.ETHERNET, "hb-net")]
    if serial:
        paths.append(PathSettings("tty", PathKind.SERIAL, "serial", interval_ms=250, silent_after_ms=1_250))

    def device(target: str, level: int) -> FenceDevice:
        return FenceDevice(
            f"pdu{level}-{target}", "agent", target, (("worth", "power"),), 3_000, identity=f"outlet-{target}" if level != 0 else ""
        )

    levels_of = tuple((t, tuple(FenceLevel(f"l{n}", (device(t, n),)) for n in range(1, levels + 1))) for t in ("a", "b"))
    fences = FenceSettings(
        enabled=fence,
        levels=levels_of,
        delay_ms=least_delay_ms(paths, PolicySettings(), FenceSettings(levels=levels_of)),
        measured_ms=3_000,
    )
    return BrainSettings(
        cluster="lab",
        key_file="/nowhere",
        self_name=node,
        nodes=(NodeSettings("a", 1, (IPS["a"],)), NodeSettings("b", 2, (IPS["b"],))),
        policy=PolicySettings(mode=mode),
        gate=GateSettings(),
        paths=tuple(paths),
        references=(ReferenceSettings("gateway", "10.0.0.254", PerNode((("a", "eth0"), ("b", "eth0")))),),
        fence=fences,
        alerts=(),
    )


@dataclass
class Vrrp:
    """A VRRP daemon's outside: adverts, master down, preemption, FAULT by the gate."""

    priority: int
    state: str = "backup"
    process: e.DaemonState = e.DaemonState.RUNNING
    down_ns: int = 0
    heard_down_ns: int = 0
    """When it would take over without any bridge."""
    advert_ns: int = 0

    def skewed_ns(self) -> int:
        return (3_000 + (256 - self.priority) * 1_000 // 256) * NS_PER_MS


@dataclass
class Node:
    name: str
    core: WatcherCore
    settings: BrainSettings
    vrrp: Vrrp
    group: GroupSettings
    held: set[str] = field(default_factory=set)
    kernel: bool = True
    braind: bool = True
    frozen_ns: int | None = None
    thaw_to: e.DaemonState = e.DaemonState.RUNNING
    backlog: list[e.WatcherEvent] = field(default_factory=list)
    gate: c.GateState | None = None
    reference: bool = True
    rows: list[tuple[int, c.Row]] = field(default_factory=list)
    sent: list[tuple[int, c.WatcherCommand]] = field(default_factory=list)
    incarnation: int = 1
    recorder_delay_ms: int = 5
    fed_ns: int | None = None
    bitten_ns: int | None = None
    powered: bool = True

    @property
    def peer(self) -> str:
        return "b" if self.name == "a" else "a"

    def commands(self, kind: type) -> list[c.WatcherCommand]:
        return [command for _, command in self.sent if isinstance(command, kind)]

    def alerts(self, action: str = "trigger") -> list[dict[str, object]]:
        rows = [dict(r.fields) for _, r in self.rows if r.kind is c.RowKind.ALERT]
        return [r for r in rows if r["action"] == action]

    def verdicts(self, scope: str = "51/4") -> list[tuple[int, str, str]]:
        found = []
        for at, row in self.rows:
            fields = dict(row.fields)
            if row.kind is c.RowKind.VERDICT and fields["scope"] == scope:
                found.append((at // NS_PER_MS, str(fields["verdict"]), str(fields["stage"])))
        return found

    def fences(self) -> list[str]:
        return [str(dict(r.fields)["state"]) for _, r in self.rows if r.kind is c.RowKind.FENCE]

    def offs(self) -> list[c.RunFence]:
        return [x for x in self.commands(c.RunFence) if isinstance(x, c.RunFence) and x.action == "off"]


class Lab:
    """The world. ``cuts`` holds words: "adverts a>b", "path eth1 a>b", "arp", "management"."""

    def __init__(
        self,
        mode: Mode = Mode.RESOLVE,
        *,
        core: Callable[..., WatcherCore] = WatcherCore,
        cores: dict[str, Callable[..., WatcherCore]] | None = None,
        tweak: Callable[[BrainSettings], BrainSettings] = lambda s: s,
        held_at_start: bool = True,
        **options: object,
    ) -> None:
        self.now = 1_000 * NS_PER_MS
        self.cuts: set[str] = set()
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.most_owners = 0
        """The most nodes that held the address at any one moment since it was set to 0."""
        self.deaf_levels: set[int] = set()
        self.identities: dict[str, str] = {}
        self.lying_status = False
        self.fence_ms = 400
        self.foreign: str | None = None
        self.virtual_mac = ""
        """With use_vmac: the MAC that answers for the VIP on whichever node."""
        self.twin = False
        """A third host answers with that MAC too."""
        self.owners: list[tuple[int, tuple[str, ...]]] = []
        self.nodes: dict[str, Node] = {}
        for name, priority in (("a", 150), ("b", 100)):
            settings = tweak(make_settings(name, mode, **options))  # type: ignore[arg-type]
            group = GroupSettings(GROUP, "VI_1", "eth0", (LinkAddress("eth0", VIP),), priority, 2, 1_000)
            factory = (cores or {}).get(name, core)
            self.nodes[name] = Node(name, factory(settings, key=KEY), settings, Vrrp(priority), group)
        for node in self.nodes.values():
            self.start(node, owns=held_at_start and node.name == "a")

    # --- life of a node ---

    def start(self, node: Node, *, owns: bool = False, **facts: object) -> None:
        """braind and the daemon start."""
        if owns:
            node.held = {VIP}
            node.vrrp.state = "master"
        held = tuple(e.HeldAddress("eth0", address) for address in sorted(node.held))
        values: dict[str, object] = {"same_boot": owns} | facts
        event = e.Started(
            wall_ns=self.now + 10**18,
            boot=bytes([ord(node.name)] * 8),
            nonce=bytes([ord(node.name), node.incarnation] * 4),
            incarnation=node.incarnation,
            groups=(node.group,),
            held=held,
            macs=(MACS[node.name],),
            links=(LinkMac("eth0", MACS[node.name]),),
            **values,  # type: ignore[arg-type]
        )
        node.vrrp.down_ns = self.now + node.vrrp.skewed_ns()
        node.vrrp.advert_ns = self.now
        self.tell(node, event)
        self.tell(node, e.RecorderChanged(True))
        self.tell(node, e.FenceRunnerChanged(True))
        self.tell(node, e.LocalDaemonChanged(node.vrrp.process))

    def restart_braind(self, node: Node, core: Callable[..., WatcherCore] = WatcherCore, **facts: object) -> None:
        node.incarnation += 1
        node.core = core(node.settings, key=KEY)
        node.braind = True
        node.backlog.clear()
        self.start(node, **({"same_boot": True, "seen_peer_before": True} | facts))

    def daemon(self, node: Node, process: e.DaemonState) -> None:
        node.vrrp.process = process
        if process is e.DaemonState.RUNNING and node.vrrp.state == "master" and VIP not in node.held:
            node.vrrp.state = "backup"
        if process is e.DaemonState.RUNNING and node.vrrp.state != "master":
            node.vrrp.state = "fault" if node.gate is c.GateState.HELD else "backup"
            node.vrrp.down_ns = self.now + node.vrrp.skewed_ns()
        self.tell(node, e.LocalDaemonChanged(process))

    def crash(self, node: Node) -> None:
        """The machine hangs for good; its outlet still reads ON."""
        self.power_off(node)
        node.powered = True

    def power_off(self, node: Node) -> None:
        node.powered = False
        node.kernel = node.braind = False
        node.held.clear()
        node.vrrp.process = e.DaemonState.STOPPED
        self.note_owners()

    def freeze(self, node: Node, on: bool) -> None:
        """All processes stop; the kernel goes on answering."""
        if on:
            node.frozen_ns = self.now
            node.thaw_to = node.vrrp.process
            if node.vrrp.process is e.DaemonState.RUNNING:
                node.vrrp.process = e.DaemonState.HUNG
        else:
            assert node.frozen_ns is not None
            stalled, node.frozen_ns = self.now - node.frozen_ns, None
            backlog, node.backlog = node.backlog, []
            self.tell(node, e.LoopStalled(stalled))
            for event in backlog:
                self.tell(node, event)
            node.vrrp.process = node.thaw_to

    # --- time ---

    def later(self, ms: float, action: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.queue, (self.now + round(ms * NS_PER_MS), self.count, action))

    def run(self, seconds: float) -> None:
        end = self.now + round(seconds * 1_000) * NS_PER_MS
        for _ in range(200_000):
            times = [self.queue[0][0] if self.queue else end]
            for node in self.nodes.values():
                if node.braind and node.frozen_ns is None:
                    times.append(node.core.next_deadline() or end)
                times.append(self.vrrp_due(node) or end)
            self.most_owners = max(self.most_owners, len(self.owner_names()))
            at = min(times)
            if at >= end:
                self.now = end
                return
            self.now = max(self.now, at)
            while self.queue and self.queue[0][0] <= self.now:
                heapq.heappop(self.queue)[2]()
            for node in self.nodes.values():
                due = self.vrrp_due(node)
                if due is not None and due <= self.now:
                    self.vrrp_tick(node)
                if node.braind and node.frozen_ns is None and (node.core.next_deadline() or end) <= self.now:
                    self.execute(node, node.core.on_deadline(self.now))
        raise AssertionError("the lab does not come to rest")

    def run_until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Seconds until ``condition`` holds."""
        start = self.now
        while not condition():
            assert self.now - start < seconds * 1_000 * NS_PER_MS, "it never happened"
            self.run(0.01)
        return (self.now - start) / 1e9

    # --- VRRP ---

    def vrrp_due(self, node: Node) -> int | None:
        vrrp = node.vrrp
        if vrrp.process is not e.DaemonState.RUNNING or not node.kernel:
            return None
        return {"master": vrrp.advert_ns, "backup": vrrp.down_ns}.get(vrrp.state)

    def vrrp_tick(self, node: Node) -> None:
        if node.vrrp.state == "backup":
            node.vrrp.state = "master"
            self.hold(node, True)
            self.claim(node)
        self.advert(node, node.vrrp.priority)
        node.vrrp.advert_ns = self.now + 1_000 * NS_PER_MS

    def advert(self, node: Node, priority: int, problem: str = "") -> None:
        def event(outgoing: bool) -> e.AdvertHeard:
            return e.AdvertHeard("eth0", GROUP, priority, IPS[node.name], MACS[node.name], outgoing, 1_000, (VIP,), problem)

        self.tell(node, event(True))
        peer = self.nodes[node.peer]
        if f"adverts {node.name}>{peer.name}" not in self.cuts and peer.kernel:
            self.later(1, lambda: self.advert_arrives(peer, node, priority, event(False)))

    def advert_arrives(self, node: Node, sender: Node, priority: int, event: e.AdvertHeard) -> None:
        self.tell(node, event)
        vrrp = node.vrrp
        if vrrp.process is not e.DaemonState.RUNNING or vrrp.state == "fault" or event.problem:
            return
        if f"deaf {node.name}" in self.cuts:
            return
        if vrrp.state == "backup":
            if priority == 0:
                vrrp.down_ns = self.now + (256 - vrrp.priority) * 1_000 // 256 * NS_PER_MS
            elif priority >= vrrp.priority or not node.group.preempt:
                vrrp.down_ns = self.now + vrrp.skewed_ns()
            vrrp.heard_down_ns = vrrp.down_ns
        elif priority > vrrp.priority and priority:
            self.to_backup(node)

    def to_backup(self, node: Node) -> None:
        node.vrrp.state = "backup"
        node.vrrp.down_ns = self.now + node.vrrp.skewed_ns()
        self.hold(node, False)

    def release(self, node: Node) -> None:
        """SIGTERM of the daemon."""
        if node.vrrp.state == "master":
            self.advert(node, 0)
        node.vrrp.state = "backup"
        self.hold(node, False)
        self.daemon(node, e.DaemonState.STOPPED)

    # --- kernel and wire ---

    def hold(self, node: Node, on: bool) -> None:
        if (VIP in node.held) == on:
            return
        (node.held.add if on else node.held.discard)(VIP)
        self.note_owners()
        self.tell(node, e.AddressChanged("eth0", VIP, on))

    def note_owners(self) -> None:
        self.owners.append((self.now, tuple(n for n, node in self.nodes.items() if VIP in node.held and node.kernel)))

    def owner_names(self) -> str:
        return "".join(n for n, node in self.nodes.items() if VIP in node.held and node.kernel)

    def claim(self, node: Node) -> None:
        peer = self.nodes[node.peer]
        if "arp" not in self.cuts and node.kernel:
            mac = self.virtual_mac or MACS[node.name]
            self.later(0.5, lambda: self.tell(peer, e.OwnerClaimed("eth0", VIP, mac, mac, gratuitous=True)))

    def tell(self, node: Node, event: e.WatcherEvent) -> None:
        if not node.kernel or not node.braind:
            return
        if node.frozen_ns is not None:
            node.backlog.append(event)
            return
        self.execute(node, node.core.handle(self.now, event))

    def execute(self, node: Node, commands: list[c.WatcherCommand]) -> None:
        for command in commands:
            node.sent.append((self.now, command))
            match command:
                case c.SendFrame():
                    self.frame(node, command)
                case c.ProbeOwners():
                    self.probe(node, command)
                case c.ProbeReference():
                    if node.reference:
                        self.later(1, lambda: self.tell(node, e.ReferenceAnswered("gateway", GATEWAY_MAC)))
                case c.Announce():
                    self.claim(node)
                case c.RemoveAddress():
                    self.later(1, lambda: self.hold(node, False))
                case c.SetGate():
                    state = command.state
                    self.later(2, lambda state=state: self.set_gate(node, state))  # type: ignore[misc]
                case c.Persist():
                    node.rows += [(self.now, row) for row in command.rows]
                    if command.barrier is not None:
                        barrier = command.barrier
                        self.later(node.recorder_delay_ms, lambda barrier=barrier: self.tell(node, e.Persisted(barrier)))  # type: ignore[misc]
                case c.RunFence():
                    self.fence(node, command)
                case c.BridgeAdvert():
                    self.bridge(node, command)
                case c.OperateWatchdog():
                    self.watchdog(node, command)

    def watchdog(self, node: Node, command: c.OperateWatchdog) -> None:
        """A hardware watchdog: resets the machine (here: for good) ``timeout_s`` after the last feed."""
        node.fed_ns = None if command.order is WatchdogOrder.DISARM else self.now
        fed_ns = node.fed_ns

        def bite() -> None:
            if node.fed_ns == fed_ns and fed_ns is not None and node.kernel:
                node.bitten_ns = self.now
                self.power_off(node)

        self.later(command.timeout_s * 1_000, bite)
        if command.order is WatchdogOrder.ARM:
            self.later(1, lambda: self.tell(node, e.WatchdogChanged(True)))

    def frame(self, node: Node, command: c.SendFrame) -> None:
        peer = self.nodes[node.peer]
        if f"path {command.path} {node.name}>{peer.name}" in self.cuts or f"path {command.path}" in self.cuts:
            return
        delay = 60 if command.path == "tty" else 0.3
        self.later(delay, lambda: self.tell(peer, e.BytesReceived(command.path, command.data)))

    def probe(self, node: Node, command: c.ProbeOwners) -> None:
        peer = self.nodes[node.peer]
        mac = (self.virtual_mac if command.address == VIP else "") or MACS[peer.name]
        asked = "arp" not in self.cuts and peer.kernel
        answering = int(asked and (command.address in peer.held or command.address == IPS[peer.name]))
        answering += self.twin and command.address == VIP
        for request in range(command.requests if self.virtual_mac else 1):
            for _ in range(answering):
                claim = e.OwnerClaimed(command.interface, command.address, mac, mac, command.probe_id, request)
                self.later(1 + request, lambda claim=claim: self.tell(node, claim))  # type: ignore[misc]
        if self.foreign and command.address == VIP:
            foreign = self.foreign
            self.later(1, lambda: self.tell(node, e.OwnerClaimed(command.interface, VIP, foreign, foreign, command.probe_id)))
        finished = e.ProbeFinished(command.probe_id, command.interface, command.address, command.requests)
        self.later(command.window_ms, lambda: self.tell(node, finished))

    def bridge(self, node: Node, command: c.BridgeAdvert) -> None:
        """vrrpd: what another path says the peer really sent; priority 0 takes it back."""
        vrrp = node.vrrp
        if vrrp.state != "backup":
            return
        if not command.priority:
            vrrp.down_ns = max(self.now, vrrp.heard_down_ns)
        elif command.priority >= vrrp.priority:
            age_ns, valid_ns = command.age_ms * NS_PER_MS, command.valid_ms * NS_PER_MS
            vrrp.down_ns = max(vrrp.down_ns, min(self.now - age_ns + vrrp.skewed_ns(), self.now + valid_ns))

    def set_gate(self, node: Node, state: c.GateState) -> None:
        node.gate = state
        if node.vrrp.process is not e.DaemonState.RUNNING:
            return
        if state is c.GateState.HELD:
            if node.vrrp.state == "master":
                self.advert(node, 0)
            node.vrrp.state = "fault"
            self.hold(node, False)
        elif node.vrrp.state == "fault":
            node.vrrp.state = "backup"
            node.vrrp.down_ns = self.now + node.vrrp.skewed_ns()

    # --- power ---

    def fence(self, node: Node, command: c.RunFence) -> None:
        target = self.nodes[command.target]

        def report(outcome: e.DeviceOutcome, power: e.PowerState = e.PowerState.UNKNOWN) -> None:
            identity = self.identities.get(command.device, f"outlet-{command.target}") if outcome is e.DeviceOutcome.SUCCESS else ""
            self.tell(
                node,
                e.FenceReported(
                    command.order_id,
                    command.level,
                    command.device,
                    command.action,
                    outcome,
                    power,
                    identity,
                    attempt=command.attempt,
                ),
            )

        if "management" in self.cuts:
            self.later(3_000, lambda: report(e.DeviceOutcome.UNREACHABLE))
            return
        deaf = command.level in self.deaf_levels
        if command.action == "off":

            def act() -> None:
                if not deaf:
                    self.power_off(target)
                report(e.DeviceOutcome.SUCCESS)

            self.later(self.fence_ms, act)
        else:

            def read() -> None:
                on = target.powered and not (deaf and self.lying_status)
                report(e.DeviceOutcome.SUCCESS, e.PowerState.ON if on else e.PowerState.OFF)

            self.later(30, read)

    # --- faults ---

    def cut(self, *words: str) -> None:
        self.cuts |= set(words)

    def heal(self, *words: str) -> None:
        self.cuts -= set(words) if words else self.cuts.copy()

    def cut_adverts(self) -> None:
        self.cut("adverts a>b", "adverts b>a")

    def cut_port(self, name: str) -> None:
        """The switch port of ``name`` on the service LAN passes nothing; its carrier and the heartbeat paths stay."""
        self.cut_adverts()
        self.cut("arp")
        self.nodes[name].reference = False

    def mend_port(self, name: str) -> None:
        """It passes everything again."""
        self.heal()
        self.nodes[name].reference = True

    def cut_everything(self) -> None:
        self.cut_adverts()
        self.cut("path eth1", "path tty", "arp")


def without_references(settings: BrainSettings) -> BrainSettings:
    return replace(settings, references=())
