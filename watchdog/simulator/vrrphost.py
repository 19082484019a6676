"""The VRRP daemon of a machine: the product's own ``VrrpInstance`` behind a socket, an address table and a gate.

Two kinds: ``vrrpd`` (grant, yield and bridged adverts over its control socket, states pushed to braind) and a stock
``keepalived`` (held by the tracked hold or grant file, which puts it into FAULT; it tells nobody anything).
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from base.core import NS_PER_MS
from vrrp.protocol.commands import AddAddresses, RefitAddresses, RemoveAddresses, Report, RunNotify, SendAdvert, SendGarp
from vrrp.protocol.events import (
    AddressLost,
    AdvertBridged,
    AdvertReceived,
    FaultCleared,
    FaultRaised,
    ParametersChanged,
    ProcessStalled,
    Started,
    Stopped,
    TakeoverGranted,
    YieldCancelled,
    YieldRequested,
)
from vrrp.protocol.instance import VrrpInstance
from vrrp.protocol.packet import DEFAULT_GROUP_IPV4, Advert, Datagram, DecodeError, Expectations, Family, encode_advert, receive_advert
from vrrp.protocol.parameters import InstanceParameters
from vrrp.protocol.states import State
from watchdog.config.model import GroupKey, GroupSettings, Mode
from watchdog.frames.heartbeat import GroupState
from watchdog.judgement.commands import BridgeAdvert, GateState, SetGate
from watchdog.judgement.events import AdvertHeard, HeldAddress
from watchdog.simulator.network import VRRP, AdvertBytes, Payload
from watchdog.simulator.process import Life, Process

if TYPE_CHECKING:
    from watchdog.simulator.machine import Kernel
    from watchdog.simulator.world import World

FOR_EVER_NS = 1 << 62
GATE_CAUSE = "gate file"
INOTIFY_NS = 2 * NS_PER_MS
_STATES = {State.MASTER: GroupState.MASTER, State.BACKUP: GroupState.BACKUP, State.FAULT: GroupState.FAULT, State.INIT: GroupState.UNKNOWN}


class GateFiles:
    """The files in /run/brainctl/gate, a tmpfs: they survive every process, and no reboot."""

    def __init__(self, mode: Mode) -> None:
        self._strict = mode is Mode.STRICT
        self._content: dict[GroupKey, bool] = {}

    def write(self, command: SetGate) -> None:
        """What braind's shell writes for this state (watchdog/gate.py)."""
        self._content[command.key] = command.state is (GateState.GRANTED if self._strict else GateState.HELD)

    def holds(self, key: GroupKey) -> bool:
        """Does the tracked file put this group into FAULT?"""
        return not self._content.get(key, False) if self._strict else self._content.get(key, False)

    def clear(self) -> None:
        """A reboot."""
        self._content.clear()


class VrrpHost(Process):
    """The process that holds the virtual routers of one machine."""

    def __init__(self, world: World, kernel: Kernel, groups: tuple[GroupSettings, ...], files: GateFiles) -> None:
        super().__init__(world, kernel, "vrrp")
        self.stock = world.options.daemon == "keepalived"
        self.groups = groups
        self.files = files
        self.instances: dict[GroupKey, VrrpInstance] = {}
        self.lans = {group.key: group.interface for group in groups}
        self._by_name = {group.name: group for group in groups}
        self._address = IPv4Address(kernel.service_address)
        self._encoded: dict[int, tuple[Advert, bytes]] = {}
        self._last_bytes: dict[GroupKey, tuple[str, bytes]] = {}
        self._expected = {group.key: self._expectations(group) for group in groups}
        kernel.on_frame.append(self._frame)
        kernel.on_address.append(self._address_changed)
        kernel.on_carrier.append(self._carrier_changed)

    def _expectations(self, group: GroupSettings) -> Expectations:
        return Expectations(group.version, Family.IPV4, group.key.vrid, group.advert_interval_ms // 10, self._address)

    def _parameters(self, group: GroupSettings) -> InstanceParameters:
        return InstanceParameters(
            name=group.name,
            vrid=group.key.vrid,
            priority=group.priority,
            version=group.version,
            interval_ns=group.advert_interval_ms * NS_PER_MS,
            addresses=tuple(IPv4Address(vip) for vip in group.vips),
            preempt=self.world.options.preempt,
            higher_prio_send_advert=not self.stock,
        )

    # ---- Process --------------------------------------------------------------------------------------------------------

    def began(self, now_ns: int) -> None:
        """Every instance starts from INIT; the gate files of a stock keepalived are read first."""
        closed = not self.stock and self.world.options.mode_of(self.kernel.name) is Mode.STRICT
        for group in self.groups:
            self.instances[group.key] = VrrpInstance(self._parameters(group), local_address=self._address, gate_closed=closed)
        for key, instance in self.instances.items():
            if self.stock and self.files.holds(key):
                instance.handle(now_ns, FaultRaised(GATE_CAUSE))
            lan = self.lans[key]
            if not self.world.segments[lan].ports[self.kernel.name].carrier:
                instance.handle(now_ns, FaultRaised(f"interface {lan} down"))
            self._execute(instance, instance.handle(now_ns, Started()))
        if not self.stock:
            self.world.scheduler.after(5 * NS_PER_MS, self.world.brains[self.kernel.name].vrrpd_listens)

    def ended(self, *, graceful: bool) -> None:
        """SIGTERM says priority 0 and takes the addresses away; SIGKILL leaves them in the kernel."""
        if graceful:
            for instance in self.instances.values():
                self._execute(instance, instance.handle(self.kernel.now_ns(), Stopped()))
        self.instances.clear()
        self._last_bytes.clear()

    def revert(self, instances: dict[GroupKey, VrrpInstance]) -> None:
        """Memory as it was at the snapshot."""
        self.instances = instances
        self._last_bytes.clear()
        self.reverted()

    def take(self, now_ns: int, event: Any) -> None:
        """An event is (group key or None for all, core event) or (group key, source, advert bytes)."""
        if len(event) == 3:
            self._advert(now_ns, *event)
            return
        key, core_event = event
        for instance in [self.instances[key]] if key is not None else list(self.instances.values()):
            self._execute(instance, instance.handle(now_ns, core_event))

    def deadline(self) -> int | None:
        """The earliest of all instances."""
        return min((at for at in (i.next_deadline() for i in self.instances.values()) if at is not None), default=None)

    def fire(self, now_ns: int) -> None:
        """Fire those that are due."""
        for instance in list(self.instances.values()):
            at_ns = instance.next_deadline()
            if at_ns is not None and at_ns <= now_ns:
                self._execute(instance, instance.on_deadline(now_ns))

    def stalled(self, now_ns: int, stalled_ns: int) -> None:
        """The pump tells every instance."""
        for instance in self.instances.values():
            self._execute(instance, instance.handle(now_ns, ProcessStalled(stalled_ns)))

    # ---- in -----------------------------------------------------------------------------------------------------------------

    def _frame(self, interface: str, kind: str, source: str, payload: Payload) -> None:
        if isinstance(payload, AdvertBytes) and self.lans.get(payload.key) == interface:
            self.deliver((payload.key, payload.source_ip, payload.data))

    def _advert(self, now_ns: int, key: GroupKey, source_ip: str, data: bytes) -> None:
        instance = self.instances[key]
        if self._last_bytes.get(key) == (source_ip, data) and instance.repeat_accepted(now_ns):
            return
        source = IPv4Address(source_ip)
        try:
            advert = receive_advert(Datagram(source, DEFAULT_GROUP_IPV4, 255, data), self._expected[key])
        except DecodeError:
            return
        self._last_bytes[key] = (source_ip, data)
        self._execute(instance, instance.handle(now_ns, AdvertReceived(source, advert)))

    def _address_changed(self, held: HeldAddress, is_held: bool) -> None:
        if is_held or self.life is Life.DEAD:
            return
        for group in self.groups:
            instance = self.instances.get(group.key)
            if held.address in group.vips and instance is not None and instance.state is State.MASTER:
                self.world.scheduler.after(NS_PER_MS // 2, self._tell, group.key, AddressLost(IPv4Address(held.address)), held)

    def _tell(self, key: GroupKey, event: Any, held: HeldAddress) -> None:
        if self.life is not Life.DEAD and held not in self.kernel.addresses:
            self.deliver((key, event))

    def _carrier_changed(self, interface: str, up: bool) -> None:
        cause = f"interface {interface} down"
        for key, lan in self.lans.items():
            if lan == interface and self.life is not Life.DEAD:
                self.post((key, FaultCleared(cause) if up else FaultRaised(cause)))

    # ---- gate -----------------------------------------------------------------------------------------------------------------

    def set_gate(self, command: SetGate) -> None:
        """What the gate's shell does with a SetGate (watchdog/gate.py)."""
        if self.stock:
            held_before = self.files.holds(command.key)
            self.files.write(command)
            if self.files.holds(command.key) != held_before:
                self.world.scheduler.after(INOTIFY_NS, self._file_changed, command.key)
            return
        until_ns = self.kernel.now_ns() + command.expires_ms * NS_PER_MS if command.expires_ms else FOR_EVER_NS
        if command.state is GateState.HELD:
            self.post((command.key, YieldRequested(until_ns)))
        else:
            self.post((command.key, YieldCancelled()))
            if command.state is GateState.GRANTED:
                self.post((command.key, TakeoverGranted(command.epoch, until_ns)))

    def _file_changed(self, key: GroupKey) -> None:
        if self.life is not Life.DEAD:
            self.deliver((key, FaultRaised(GATE_CAUSE) if self.files.holds(key) else FaultCleared(GATE_CAUSE)))

    def bridge(self, command: BridgeAdvert) -> None:
        """Forward an advert that the peer really sent (vrrpd only)."""
        if self.stock:
            return
        source = IPv4Address(command.source) if command.source else None
        event = AdvertBridged(command.priority, source, command.age_ms * NS_PER_MS, command.valid_ms * NS_PER_MS)
        self.post((command.key, event))

    def reload(self) -> None:
        """SIGHUP with an unchanged file."""
        for group in self.groups:
            self.post((group.key, ParametersChanged(self._parameters(group))))

    # ---- out -------------------------------------------------------------------------------------------------------------------

    def _execute(self, instance: VrrpInstance, commands: list[Any]) -> None:
        group = self._by_name[instance.parameters.name]
        for command in commands:
            match command:
                case SendAdvert():
                    self._send_advert(group, command.advert)
                case AddAddresses() | RefitAddresses():
                    self.kernel.add(group.vips)
                case RemoveAddresses():
                    self.kernel.remove(group.vips)
                case SendGarp():
                    self.kernel.announce(group.interface, group.vips, command.repeat)
                case RunNotify():
                    self.world.note(self._label, f"{group.name} {command.state}: {command.reason}")
                    self.world.role_changed(self.kernel.name, group.key, command.state)
                    self._push_state(group, instance)
                case Report():
                    self.world.note(self._label, f"{group.name} {command.kind.value}: {command.detail}")
                    self._push_state(group, instance)
                case _:
                    self.world.note(self._label, f"{group.name}: {type(command).__name__}")

    def state_of(self, key: GroupKey) -> GroupState:
        """What a subscriber is told about one group."""
        instance = self.instances[key]
        snapshot = instance.snapshot()
        yields = not self.stock and isinstance(snapshot, dict) and snapshot["yield_until_ns"] is not None
        return GroupState.HELD if yields else _STATES[instance.state]

    def _push_state(self, group: GroupSettings, instance: VrrpInstance) -> None:
        if not self.stock and self.life is Life.RUNNING:
            self.world.brains[self.kernel.name].group_state(group.key, self.state_of(group.key), instance.priority)

    def _send_advert(self, group: GroupSettings, advert: Advert) -> None:
        cached = self._encoded.get(id(advert))
        if cached is None:
            if len(self._encoded) > 64:
                self._encoded.clear()
            cached = self._encoded[id(advert)] = (advert, encode_advert(advert, self._address, DEFAULT_GROUP_IPV4))
        data = cached[1]
        mac = self.kernel.mac_of(group.vips[0])
        payload = AdvertBytes(group.key, self.kernel.service_address, mac, data)
        self.world.trace.data(self.world.scheduler.now_ns, self._label, "advert", data)
        self.world.segments[group.interface].broadcast(self.kernel.name, VRRP, payload)
        heard = AdvertHeard(
            interface=group.interface,
            key=group.key,
            priority=advert.priority,
            source_ip=self.kernel.service_address,
            source_mac=mac,
            outgoing=True,
            interval_ms=advert.interval_cs * 10,
            vips=group.vips,
        )
        self.world.brains[self.kernel.name].sniffed(heard)
