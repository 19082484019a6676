"""braind on one machine: the product's own ``WatcherCore`` behind sockets, a sniffer, a prober, a recorder and a fence runner."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from base.core import NS_PER_MS
from watchdog.config.model import BrainSettings, GroupKey, GroupSettings, PathKind, PathSettings
from watchdog.frames.heartbeat import GroupState, LinkMac
from watchdog.judgement.commands import (
    Announce,
    BridgeAdvert,
    Persist,
    ProbeOwners,
    ProbeReference,
    PublishStatus,
    ReleaseLease,
    RemoveAddress,
    RequestLease,
    Row,
    RunFence,
    SendFrame,
    SetGate,
)
from watchdog.judgement.durable_facts import durable_facts
from watchdog.judgement.events import (
    AddressChanged,
    AdvertHeard,
    BytesReceived,
    CarrierChanged,
    DaemonState,
    FenceRunnerChanged,
    GroupStateReported,
    HeldAddress,
    LocalDaemonChanged,
    LoopStalled,
    OperatorActed,
    OwnerClaimed,
    PathChanged,
    ProbeFinished,
    RecorderChanged,
    ReferenceAnswered,
    Started,
    Stopping,
    TrafficCounted,
)
from watchdog.judgement.watcher import WatcherCore
from watchdog.simulator.machine import ARP_REPLY, ARP_REQUEST, GRATUITOUS
from watchdog.simulator.network import ARP, FRAME, UDP, AdvertBytes, Arp, Beat, Payload, Question
from watchdog.simulator.power import FenceRunner
from watchdog.simulator.process import Life, Process
from watchdog.simulator.recorder import Recorder

if TYPE_CHECKING:
    from watchdog.simulator.machine import Kernel
    from watchdog.simulator.world import World

_TRAFFIC = {PathKind.ETHERNET: FRAME, PathKind.MULTICAST: UDP, PathKind.UNICAST: UDP}
COUNT_NS = 1_000 * NS_PER_MS
HUNG_SEEN_NS = 400 * NS_PER_MS
"""A stopped process is seen by looking at its state now and then; a dead one at once, by its pidfd."""


class BrainHost(Process):
    """The watcher process with its two children, the recorder and the fence runner."""

    def __init__(self, world: World, kernel: Kernel, settings: BrainSettings, groups: tuple[GroupSettings, ...]) -> None:
        super().__init__(world, kernel, "braind")
        self.settings = settings
        self.stall_ns = settings.policy.stall_ms * NS_PER_MS
        self.groups = groups
        self.core: WatcherCore | None = None
        self.hung = False
        """Every process of the machine is stopped, the children too."""
        self.recorder = Recorder(world, self)
        self.runner = FenceRunner(world, self)
        self.wanted_gates: dict[GroupKey, SetGate] = {}
        self._paths = {path.name: path for path in settings.paths}
        self._daemon = DaemonState.STOPPED
        self.machine_ends = False
        """It is stopped because the machine is shut down."""
        self._packets = dict.fromkeys(world.options.lan_names, 0)
        kernel.on_frame.append(self._frame)
        kernel.on_address.append(self._address)
        kernel.on_carrier.append(self._carrier)

    # ---- Process --------------------------------------------------------------------------------------------------------

    def began(self, now_ns: int) -> None:
        """Read what is durable, build the core, tell it where it is."""
        disk = self.recorder
        disk.incarnation += 1
        nonce = hashlib.sha256(f"{self.world.options.seed}/{self._label}/{disk.incarnation}".encode()).digest()[:8]
        wall_ns = self.world.wall_ns(self.kernel.name)
        self.core = self.world.make_watcher(self.settings)
        self.wanted_gates.clear()
        started = Started(
            wall_ns=wall_ns,
            boot=self.kernel.boot_id,
            nonce=nonce,
            incarnation=disk.incarnation,
            groups=self.groups,
            held=self.kernel.held(),
            quarantined=bool(disk.node_fact("quarantine")),
            latched=bool(disk.node_fact("latch")),
            open_fences=disk.open_fences(),
            open_incidents=disk.open_incidents(),
            recent_fence_wall_ns=disk.recent_fences(wall_ns),
            seen_peer_before=bool(disk.node_fact("seen_peer")),
            same_boot=disk.last_boot == self.kernel.boots,
            macs=(self.kernel.mac,),
            links=(LinkMac("eth0", self.kernel.mac),),
            durable=durable_facts(disk.node_facts()),
        )
        disk.last_boot = self.kernel.boots
        self._daemon = self._daemon_state()
        for event in (started, *self._surroundings()):
            self.take(now_ns, event)
        self._count_traffic(self.starts)
        self.world.witness.poll(self, self.starts)

    def _count_traffic(self, starts: int) -> None:
        """The kernel's counters, once a second: clients are heard on every port that passes anything."""
        if starts != self.starts or self.life is Life.DEAD or not self.kernel.powered:
            return
        for lan in self.world.options.lan_names:
            self._packets[lan] += self.world.reachable(self.kernel.name, lan)
            self.post(TrafficCounted(lan, self._packets[lan]))
        self.world.scheduler.after(COUNT_NS, self._count_traffic, starts)

    def _surroundings(self) -> list[Any]:
        carriers = [CarrierChanged(name, segment.ports[self.kernel.name].carrier) for name, segment in self.world.segments.items()]
        paths = [PathChanged(path.name, self._usable(path)) for path in self.settings.paths]
        children = [RecorderChanged(not self.recorder.gone), FenceRunnerChanged(not self.runner.gone)]
        return [*carriers, *paths, LocalDaemonChanged(self._daemon), *children]

    def ended(self, *, graceful: bool) -> None:
        """The children die with it."""
        if graceful and self.core is not None:
            self._execute(self.core.handle(self.kernel.now_ns(), Stopping(shutdown=self.machine_ends)))
        self.machine_ends = False
        self.recorder.died(power_lost=not self.kernel.powered)
        self.runner.died()
        self.core = None
        self.wanted_gates.clear()

    def revert(self, core: WatcherCore, wanted: dict[GroupKey, SetGate], rows: list[tuple[int, Row]], incarnation: int) -> None:
        """Memory and disk as they were at the snapshot."""
        self.core, self.wanted_gates = core, wanted
        self.recorder.died(power_lost=True)
        self.recorder.rows, self.recorder.incarnation = rows, incarnation
        self.runner.died()
        self.hung = False
        self.reverted()
        self._count_traffic(self.starts)

    def take(self, now_ns: int, event: Any) -> None:
        """Feed the core."""
        if self.core is not None:
            self.world.watcher_event(self.kernel.name, event)
            self._execute(self.core.handle(now_ns, event))

    def deadline(self) -> int | None:
        """The core's."""
        return None if self.core is None else self.core.next_deadline()

    def fire(self, now_ns: int) -> None:
        """Fire the core's deadlines."""
        if self.core is not None:
            self._execute(self.core.on_deadline(now_ns))

    def stalled(self, now_ns: int, stalled_ns: int) -> None:
        """The pump noticed."""
        self.take(now_ns, LoopStalled(stalled_ns))

    # ---- in: wire -----------------------------------------------------------------------------------------------------------

    def _frame(self, interface: str, kind: str, source: str, payload: Payload) -> None:
        if self.life is Life.DEAD:
            return
        if isinstance(payload, Beat):
            self.deliver(BytesReceived(payload.path, payload.data))
        elif isinstance(payload, Arp):
            self._arp(interface, payload)
        else:
            self._advert(interface, payload)

    def serial(self, data: bytes) -> None:
        """A frame arrived on the serial line."""
        for path in self.settings.paths:
            if path.kind is PathKind.SERIAL and self.kernel.powered:
                self.deliver(BytesReceived(path.name, data))

    def _advert(self, interface: str, advert: AdvertBytes) -> None:
        if advert.key in self.world.groups_by_key:
            heard = self.world.decoded_advert(interface, advert)
            if heard is not None:
                self.deliver(heard)

    def _arp(self, interface: str, arp: Arp) -> None:
        if arp.what == GRATUITOUS:
            self.deliver(OwnerClaimed(interface, arp.address, arp.mac, arp.mac, gratuitous=True))
        elif arp.what == ARP_REPLY and arp.question is not None and arp.question.starts == self.starts:
            ident = arp.question.ident
            if isinstance(ident, str):
                self.deliver(ReferenceAnswered(ident, arp.mac))
            else:
                self.deliver(OwnerClaimed(interface, arp.address, arp.mac, arp.mac, probe_id=ident, request_index=arp.number))

    # ---- in: this machine -----------------------------------------------------------------------------------------------------

    def _address(self, held: HeldAddress, is_held: bool) -> None:
        self.post(AddressChanged(held.interface, held.address, is_held))

    def _carrier(self, interface: str, up: bool) -> None:
        self.post(CarrierChanged(interface, up))
        for path in self.settings.paths:
            if path.interface.of(self.kernel.name) == interface:
                self.post(PathChanged(path.name, up, "" if up else f"{interface} has no carrier"))

    def _usable(self, path: PathSettings) -> bool:
        interface = path.interface.of(self.kernel.name)
        return not interface or self.world.segments[interface].ports[self.kernel.name].carrier

    def _daemon_state(self) -> DaemonState:
        life = self.world.vrrp[self.kernel.name].life
        return {Life.DEAD: DaemonState.STOPPED, Life.RUNNING: DaemonState.RUNNING, Life.PAUSED: DaemonState.HUNG}[life]

    def vrrp_life_changed(self) -> None:
        """The local VRRP daemon started, died, hung or came back."""
        hung = self.world.vrrp[self.kernel.name].life is Life.PAUSED
        self.world.scheduler.after(HUNG_SEEN_NS if hung else NS_PER_MS, self._see_daemon)

    def _see_daemon(self) -> None:
        state = self._daemon_state()
        if self.life is not Life.DEAD and state is not self._daemon:
            self._daemon = state
            self.deliver(LocalDaemonChanged(state))

    def sniffed(self, advert: AdvertHeard) -> None:
        """Our own daemon sent an advert."""
        self.post(advert)

    def group_state(self, key: GroupKey, state: GroupState, priority: int) -> None:
        """Our own vrrpd pushed its state."""
        self.post(GroupStateReported(key, state, priority))

    def vrrpd_listens(self) -> None:
        """vrrpd is up (again): the gate's shell connects, subscribes, and repeats the last gate state."""
        host = self.world.vrrp[self.kernel.name]
        if self.life is Life.DEAD or host.life is Life.DEAD or host.stock:
            return
        for group in self.groups:
            self.group_state(group.key, host.state_of(group.key), host.instances[group.key].priority)
        for command in list(self.wanted_gates.values()):
            host.set_gate(command)

    def operator(self, event: OperatorActed) -> None:
        """A person acted at the control socket."""
        self.post(event)

    # ---- out ------------------------------------------------------------------------------------------------------------------

    def _execute(self, commands: list[Any]) -> None:
        node = self.kernel.name
        for command in commands:
            self.world.watcher_command(node, command)
            match command:
                case SendFrame():
                    self._send(command)
                case Persist():
                    self.recorder.write(command)
                case ProbeOwners():
                    self._probe_owners(command)
                case ProbeReference():
                    self._probe_reference(command)
                case Announce():
                    self.kernel.announce(command.interface, (command.address,), command.count)
                case RemoveAddress():
                    self.kernel.remove((command.address,), command.interface)
                case SetGate():
                    self.wanted_gates[command.key] = command
                    self.world.vrrp[node].set_gate(command)
                case BridgeAdvert():
                    self.world.vrrp[node].bridge(command)
                case RequestLease():
                    self.world.witness.request(self, command)
                case ReleaseLease():
                    self.world.witness.release(self, command)
                case RunFence():
                    self.runner.run(command)
                case PublishStatus():
                    pass

    def _send(self, command: SendFrame) -> None:
        path = self._paths[command.path]
        self.world.trace.data(self.world.scheduler.now_ns, self._label, command.path, command.data)
        self.world.frame_sent(self.kernel.name, command.path, command.data)
        if path.kind is PathKind.SERIAL:
            self.world.serial.send(self.kernel.name, command.data)
            return
        segment = self.world.segments[path.interface.of(self.kernel.name)]
        segment.send(self.kernel.name, self.settings.peer.name, _TRAFFIC[path.kind], Beat(path.name, command.data))

    def _probe_reference(self, command: ProbeReference) -> None:
        reference = next(r for r in self.settings.references if r.name == command.name)
        interface = reference.interface.of(self.kernel.name)
        payload = Arp(ARP_REQUEST, reference.address, self.kernel.mac, Question("reference", command.name, self.starts))
        self.world.segments[interface].broadcast(self.kernel.name, ARP, payload)
        self.world.stranger.overhear(self.kernel.name, interface, payload)

    def _probe_owners(self, command: ProbeOwners) -> None:
        if not self.world.segments[command.interface].ports[self.kernel.name].carrier:
            finished = ProbeFinished(command.probe_id, command.interface, command.address, 0, "no carrier")
            self.post(finished)
            return
        window_ns = command.window_ms * NS_PER_MS
        for index in range(command.requests):
            payload = Arp(ARP_REQUEST, command.address, self.kernel.mac, Question("owner", command.probe_id, self.starts), index)
            self.world.scheduler.after(index * window_ns // (2 * command.requests), self._request, command.interface, payload, self.starts)
        self.post(ProbeFinished(command.probe_id, command.interface, command.address, command.requests), window_ns)

    def _request(self, interface: str, payload: Payload, starts: int) -> None:
        if starts == self.starts and self.life is not Life.DEAD and self.kernel.powered:
            self.world.segments[interface].broadcast(self.kernel.name, ARP, payload)
