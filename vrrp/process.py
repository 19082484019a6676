"""The vrrp process: timers and adverts. It touches no disk and waits for nobody.

A shell around ``vrrp.protocol.node.VrrpNode``: everything that happens becomes an event, every command is carried out in order. It
talks JSON lines to its parent (``vrrp.daemon``), which reads the configuration, runs scripts, writes the log, and executes this
process's *will* if it dies: the netlink messages that remove its addresses and the adverts with priority 0
(docs/adr/0103-last-will.md).
"""

from __future__ import annotations

import base64
import errno
import gc
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from base.channel import Channel, JsonObject
from base.clock import boot_id, now_ns
from base.control import ControlServer
from base.core import NS_PER_MS, NS_PER_S
from base.journal import Journal
from base.log import Log
from base.pump import Pump
from base.supervise import child_socket, die_with_parent
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import VrrpInstance as InstanceModel
from vrrp.control import VrrpControl
from vrrp.conversion import group_of, identity, instance_parameters, node_parameters
from vrrp.protocol.commands import AddAddresses, RemoveAddresses, Report, RunNotify, SendAdvert, SendGarp
from vrrp.protocol.events import (
    AddressFailed,
    AddressLost,
    AdvertReceived,
    AdvertRepeated,
    FaultCleared,
    FaultRaised,
    InstanceEvent,
    LocalAddressChanged,
)
from vrrp.protocol.instance import State, VrrpInstance
from vrrp.protocol.node import (
    InstanceEventHappened,
    NodeCommand,
    NodeEvent,
    NodeReconfigured,
    NodeStalled,
    NodeStarted,
    NodeStopped,
    RunGroupNotify,
    ScriptFinished,
    TrackChanged,
    VrrpNode,
)
from vrrp.protocol.packet import MULTICAST_TTL, DecodeError, parse_ipv4, receive_advert
from vrrp.protocol.trackers import TrackKind
from vrrp.system.advert_socket import ReceiveSocket, SendSocket
from vrrp.system.announce import Announcer
from vrrp.system.endpoint import (
    ADD_TOLERATED,
    REMOVE_TOLERATED,
    Endpoint,
    Held,
    MessageCache,
    all_addresses,
    build_endpoint,
    virtual_addresses,
)
from vrrp.system.interfaces import InterfaceTable
from vrrp.system.netlink import AddressEvent, CommandSocket, LinkEvent, Monitor
from vrrp.system.privileges import CAP_NET_ADMIN, CAP_NET_RAW, keep_only, schedule

EARLY_NS = 400_000
COLLECT_EVERY_NS = 60 * NS_PER_S
COLLECT_SLACK_NS = 50 * NS_PER_MS


@dataclass(slots=True)
class Settings:
    """From the command line, through the parent."""

    gate_closed: bool = False
    run_dir: str = "/run/brainctl"
    keep_addresses: bool = False
    journal_entries: int = 20_000
    drop_privileges: bool = True


class VrrpProcess:
    """The shell; see the module docstring."""

    def __init__(self, parent: socket.socket, log: Log) -> None:
        self.log = log
        self.pump = Pump(next_deadline=self.next_deadline, on_deadline=self.on_deadline, on_stall=self.on_stall)
        self.channel = Channel(self.pump, parent, self.on_parent, self.on_parent_gone)
        self.settings = Settings()
        self.config = VrrpConfig()
        self.node: VrrpNode | None = None
        self.journal = Journal()
        self.interfaces = InterfaceTable()
        self.monitor = Monitor()
        self.commands = CommandSocket()
        self.endpoints: dict[str, Endpoint] = {}
        self.held: dict[Held, str] = {}
        self.control: ControlServer | None = None
        self.ops: VrrpControl | None = None
        self.stalls = 0
        self.longest_stall_ns = 0
        self.unknown_vrids = 0
        self.parse_errors = 0
        self._receivers: dict[str, ReceiveSocket] = {}
        self._senders: dict[str, SendSocket] = {}
        self._announcers: dict[str, Announcer] = {}
        self._by_interface: dict[str, dict[int, list[str]]] = {}
        self._track_interfaces: set[str] = set()
        self._parts: list[str] = []
        self._stopping = False
        self._encoded = MessageCache()
        self._unprepared: set[str] = set()
        self._virtual_keys: frozenset[Held] = frozenset()
        self._signature: tuple[object, ...] = ()
        self._told: dict[str, int] = {}
        self._collect_ns = now_ns() + COLLECT_EVERY_NS
        self._repeated: dict[str, InstanceEventHappened] = {}
        self.pump.add_reader(self.monitor, self.on_netlink)

    # ---- deadlines and stalls -------------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """When the node or an announcer has work."""
        due = [] if self.node is None else [self._node_deadline(self.node)]
        due += [announcer.due_ns for announcer in self._announcers.values() if announcer.due_ns is not None]
        return min((d for d in due if d is not None), default=None)

    def _node_deadline(self, node: VrrpNode) -> int | None:
        """A little before a takeover is due, so that it starts from a running CPU with warm caches; see ``_await_takeover``."""
        takeover_ns = node.next_takeover()
        return node.next_deadline() if takeover_ns is None else takeover_ns - EARLY_NS

    def _await_takeover(self, node: VrrpNode, at_ns: int) -> int:
        """Stay awake until the takeover that is due within EARLY_NS; an advert that still arrives is read before anything fires."""
        due_ns = node.next_takeover()
        if due_ns is None or not at_ns < due_ns <= at_ns + EARLY_NS:
            return at_ns
        while at_ns < due_ns:
            at_ns = now_ns()
        for interface, receiver in self._receivers.items():
            self.on_adverts(interface, receiver)
        return now_ns()

    def on_deadline(self, at_ns: int) -> None:
        """Fire what is due."""
        if self.node is not None:
            at_ns = self._await_takeover(self.node, at_ns)
            commands = self.node.on_deadline(at_ns)
            if commands:
                self.journal.note(at_ns, None, commands)
                self.execute(at_ns, commands)
        for announcer in self._announcers.values():
            announcer.flush(at_ns)
        self._collect_in_slack(at_ns)

    def _collect_in_slack(self, at_ns: int) -> None:
        if at_ns < self._collect_ns:
            return
        due_ns = self.next_deadline()
        if due_ns is None or due_ns - at_ns > COLLECT_SLACK_NS:
            self._collect_ns = at_ns + COLLECT_EVERY_NS
            gc.collect(0)

    def on_stall(self, at_ns: int, stalled_ns: int) -> None:
        """We did not run for a while: the core must know before it believes in a silence."""
        self.stalls += 1
        self.longest_stall_ns = max(self.longest_stall_ns, stalled_ns)
        self.log.limited("stall", f"this process stood still for {stalled_ns // NS_PER_MS} ms")
        self.feed(at_ns, NodeStalled(stalled_ns))

    def feed(self, at_ns: int, event: NodeEvent) -> None:
        """One event into the core, its commands out."""
        if self.node is None:
            return
        commands = self.node.handle(at_ns, event)
        self.journal.note(at_ns, event, commands)
        if commands:
            self.execute(at_ns, commands)

    def feed_instance(self, at_ns: int, name: str, event: InstanceEvent) -> None:
        """An event of one instance."""
        self.feed(at_ns, InstanceEventHappened(name, event))

    # ---- commands -------------------------------------------------------------------------------------------------

    def execute(self, at_ns: int, commands: Iterable[NodeCommand]) -> None:
        """Carry out commands in their order."""
        failed: list[tuple[str, str]] = []
        for command in commands:
            match command:
                case SendAdvert(name, advert):
                    endpoint = self.endpoints[name]
                    if endpoint.packets is not None and endpoint.send_socket is not None:
                        for destination, code in endpoint.packets.send(advert, endpoint.send_socket):
                            self._egress_failed(endpoint, destination, code)
                case AddAddresses(name):
                    error = self._add_addresses(name)
                    if error:
                        failed.append((name, error))
                case RemoveAddresses(name):
                    self._remove_addresses(name)
                case SendGarp(name, repeat):
                    self._announce(at_ns, name, repeat)
                case RunNotify(name, state, priority, reason):
                    self._notify("INSTANCE", name, state, priority, reason)
                    self._unprepared.add(name)
                case RunGroupNotify(name, state, reason):
                    self._notify("GROUP", name, state, 0, reason)
                case Report(name, kind, detail):
                    self._report(name, kind.value, detail)
                    self._unprepared.add(name)
        if self._unprepared:
            self._prepare()
        for name, error in failed:
            self.feed_instance(now_ns(), name, AddressFailed(error))

    def _prepare(self) -> None:
        """Encode what these instances would say next: a takeover must not wait for it."""
        assert self.node is not None
        for name in self._unprepared:
            instance, endpoint = self.node.instances.get(name), self.endpoints.get(name)
            if instance is not None and endpoint is not None and endpoint.packets is not None:
                endpoint.packets.prepare(instance.next_advert().advert)
        self._unprepared.clear()

    def _egress_failed(self, endpoint: Endpoint, destination: str, code: int) -> None:
        word = errno.errorcode.get(code, str(code))
        endpoint.egress_errors[word] += 1
        hint = "; a firewall rule in this node's OUTPUT chain drops protocol 112" if code == errno.EPERM else ""
        key = f"egress {endpoint.model.name} {destination} {word}"
        self.log.limited(key, f"({endpoint.model.name}) advert to {destination} not sent: {os.strerror(code)}{hint}")
        if endpoint.egress_errors[word] in (1, 3) and self.ops is not None:
            self.ops.publish({"event": "egress_error", "instance": endpoint.model.name, "destination": destination, "error": word})

    def _add_addresses(self, name: str) -> str:
        endpoint = self.endpoints[name]
        self.held.update(dict.fromkeys(endpoint.removal_of, name))
        failures = self.commands.execute(endpoint.add_blob, tolerate=ADD_TOLERATED)
        if not failures:
            return ""
        text = os.strerror(failures[0])
        self.log.error(f"({name}) the kernel refused a virtual address: {text}")
        return text

    def _remove_addresses(self, name: str) -> None:
        endpoint = self.endpoints[name]
        for held in endpoint.removal_of:
            self.held.pop(held, None)
        for announcer, address in endpoint.announcements:
            announcer.cancel(address)
        if self._stopping and self.settings.keep_addresses:
            return
        for code in self.commands.execute(endpoint.remove_blob, tolerate=REMOVE_TOLERATED):
            self.log.error(f"({name}) the kernel refused to remove a virtual address: {os.strerror(code)}")

    def _announce(self, at_ns: int, name: str, repeat: int) -> None:
        announcements = self.endpoints[name].announcements
        for _ in range(repeat):
            for announcer, address in announcements:
                announcer.announce(at_ns, address)

    def _notify(self, kind: str, name: str, state: str, priority: int, reason: str) -> None:
        self.channel.send({"op": "notify", "kind": kind, "name": name, "state": state, "priority": priority, "reason": reason})
        self.log.info(
            f"({name}) Entering {state} STATE: {reason}" if kind == "INSTANCE" else f"Group {name} entering {state} state: {reason}"
        )
        if self.ops is not None:
            self.ops.publish(
                {
                    "event": "state",
                    "kind": kind.lower(),
                    "name": name,
                    "state": state,
                    "priority": priority,
                    "reason": reason,
                    "at_ns": now_ns(),
                }
            )

    def _report(self, name: str, kind: str, detail: str) -> None:
        self.channel.send({"op": "report", "name": name, "kind": kind, "detail": detail})
        self.log.limited(f"{name} {kind}", f"({name}) {kind.replace('_', ' ')}: {detail}")
        if self.ops is not None:
            self.ops.publish({"event": "report", "name": name, "kind": kind, "detail": detail, "at_ns": now_ns()})

    # ---- adverts --------------------------------------------------------------------------------------------------

    def on_adverts(self, interface: str, receiver: ReceiveSocket) -> None:
        """Drain one receive socket."""
        node = self.node
        packets = receiver.drain()
        if node is None or not packets:
            return
        at_ns = now_ns()
        routers = self._by_interface.get(interface, {})
        for age_ns, data in packets:
            if len(data) < 28:
                self.parse_errors += 1
                continue
            names = routers.get(data[(data[0] & 0x0F) * 4 + 1] if (data[0] & 0x0F) * 4 + 1 < len(data) else 0)
            if names is None:
                self.unknown_vrids += 1
                continue
            for name in names:
                endpoint = self.endpoints[name]
                # The hot path: the same source, destination and payload as the advert accepted last.
                if data[12:] == endpoint.last_tail and data[8] == MULTICAST_TTL and node.instances[name].repeat_accepted(at_ns - age_ns):
                    self.journal.note(at_ns - age_ns, self._repeated_event(name), ())
                else:
                    self._full_advert(at_ns - age_ns, name, endpoint, data)

    def _repeated_event(self, name: str) -> InstanceEventHappened:
        event = self._repeated.get(name)
        if event is None:
            event = self._repeated[name] = InstanceEventHappened(name, AdvertRepeated())
        return event

    def _full_advert(self, at_ns: int, name: str, endpoint: Endpoint, data: bytes) -> None:
        try:
            datagram = parse_ipv4(data)
            if (
                endpoint.expected.group is not None
                and len(self._routers_like(endpoint)) > 1
                and datagram.destination != endpoint.expected.group
            ):
                return  # another instance with this VRID on another group; it gets its own copy
            advert = receive_advert(datagram, endpoint.expected)
        except DecodeError as error:
            endpoint.rejected[error.reason] += 1
            reason = error.reason
            self.log.limited(f"reject {name} {reason.value}", f"({name}) advert rejected: {error}; {reason.remedy}")
            if endpoint.rejected[reason] == 1 and self.ops is not None:
                self.ops.publish(
                    {"event": "rejected", "name": name, "reason": reason.value, "detail": error.detail, "remedy": reason.remedy}
                )
            return
        assert self.node is not None
        self.feed_instance(at_ns, name, AdvertReceived(datagram.source, advert))
        if self.node.instances[name].repeatable:
            endpoint.last_tail = data[12:]

    def _routers_like(self, endpoint: Endpoint) -> list[str]:
        return self._by_interface.get(endpoint.model.interface, {}).get(endpoint.model.vrid, [])

    # ---- kernel events ----------------------------------------------------------------------------------------------

    def on_netlink(self) -> None:
        """Links and addresses changed."""
        events, lost = self.monitor.drain()
        gone: set[Held] = set()
        relevant = lost
        for event in events:
            self.interfaces.apply(event)
            if isinstance(event, AddressEvent):
                key = (event.index, event.address)
                if event.gone and key in self.held:
                    gone.add(key)
                relevant = relevant or key not in self._virtual_keys
            elif isinstance(event, LinkEvent):
                relevant = True
        if lost:
            self.log.warning("kernel events were lost; reading everything anew")
            self.interfaces.resync()
            gone = set(self.held)
        at_ns = now_ns()
        for index, address in gone:
            interface = self.interfaces.at(index)
            name = self.held.get((index, address))
            if name is not None and interface is not None and address not in interface.addresses:
                self.feed_instance(at_ns, name, AddressLost(address))
        if relevant:
            self._interfaces_changed()

    def _interfaces_changed(self) -> None:
        """Look again at everything that depends on interfaces: sockets, sources, blobs, tracked links."""
        if self.node is None or self._stopping:
            return
        if self._signature_now() != self._signature:
            self._build(self.config)
        at_ns = now_ns()
        self._tell_interfaces(at_ns)
        self._tell_endpoints(at_ns)

    def _signature_now(self) -> tuple[object, ...]:
        """What the sockets and blobs depend on; a veth of some container that comes and goes is not in it."""
        virtual = virtual_addresses(self.config.instances)
        names = {m.interface for m in self.config.instances}
        names |= {a.interface for m in self.config.instances for a in all_addresses(m)}
        found = ((name, self.interfaces.get(name)) for name in sorted(names))
        return tuple((name, None if i is None else (i.index, i.mac, i.primary_address(4, virtual=virtual))) for name, i in found)

    def _tell_interfaces(self, at_ns: int) -> None:
        for name in sorted(self._track_interfaces):
            interface = self.interfaces.get(name)
            value = int(interface is not None and interface.up)
            if self._told.get(name) != value:
                self._told[name] = value
                self.feed(at_ns, TrackChanged(TrackKind.INTERFACE, name, value))

    def _tell_endpoints(self, at_ns: int) -> None:
        """Source addresses and build problems, as events of the instances concerned."""
        assert self.node is not None
        for name, endpoint in self.endpoints.items():
            instance = self.node.instances.get(name)
            if instance is None:
                continue
            if instance.local_address != endpoint.local_address:
                self.feed_instance(at_ns, name, LocalAddressChanged(endpoint.local_address))
            for cause in [c for c in instance.faults if c.startswith("no ") and c not in endpoint.problems]:
                self.feed_instance(at_ns, name, FaultCleared(cause))
            for cause in endpoint.problems:
                if cause not in instance.faults:
                    self.feed_instance(at_ns, name, FaultRaised(cause))

    # ---- configuration ----------------------------------------------------------------------------------------------

    def configure(self, config: VrrpConfig) -> None:
        """The first configuration, or a reload that the parent found good."""
        at_ns = now_ns()
        if self.node is None:
            self._start(at_ns, config)
        else:
            self._reload(at_ns, config)
        gc.collect()
        gc.freeze()
        self.channel.send({"op": "ready"})

    def _start(self, at_ns: int, config: VrrpConfig) -> None:
        self._told = {}
        self.interfaces.resync()
        self._build(config)
        self.journal = Journal(self.settings.journal_entries)
        sources = {name: endpoint.local_address for name, endpoint in self.endpoints.items()}
        self.node = VrrpNode(node_parameters(config), local_addresses=sources, gate_closed=self.settings.gate_closed)
        self.ops = VrrpControl(self)
        self.control = ControlServer(self.pump, os.path.join(self.settings.run_dir, "vrrpd.sock"), self.ops.handlers())
        process = config.global_defs.vrrp_process
        problems = schedule(nice=process.nice, rt_priority=process.rt_priority, cpus=process.cpus, lock_memory=process.no_swap)
        for problem in problems:
            self.log.warning(f"scheduling of the vrrp process: {problem}")
        if self.settings.drop_privileges:
            keep_only((CAP_NET_ADMIN, CAP_NET_RAW))
        at_ns = now_ns()
        self._tell_interfaces(at_ns)
        self._tell_endpoints(at_ns)
        self.feed(at_ns, NodeStarted())
        gc.disable()

    def _reload(self, at_ns: int, config: VrrpConfig) -> None:
        assert self.node is not None
        old_config, old_endpoints = self.config, self.endpoints
        renamed = _renames(old_config, config)
        kept = {renamed.get(m.name, m.name) for m in old_config.instances} & {m.name for m in config.instances}
        kept = {name for name in kept if _kept(old_config, config, name, renamed)}
        self._stop_replaced(at_ns, config, kept, renamed)
        self._build(config)
        for old_name, before in old_endpoints.items():
            name = renamed.get(old_name, old_name)
            if name in kept:
                self.endpoints[name].inherit(before)
                self._remove_gone(name, before, self.endpoints[name])
        fresh = dict(self.endpoints)
        self.endpoints = {**{n: e for n, e in old_endpoints.items() if n not in fresh}, **fresh}
        sources = {name: endpoint.local_address for name, endpoint in fresh.items()}
        self.feed(at_ns, NodeReconfigured(node_parameters(config), renamed, sources))
        self.endpoints = fresh
        self._tell_interfaces(at_ns)
        self._tell_endpoints(at_ns)

    def _stop_replaced(self, at_ns: int, config: VrrpConfig, kept: set[str], renamed: dict[str, str]) -> None:
        """Same name, another virtual router: the old one ends while its sockets and blobs still exist."""
        assert self.node is not None
        for model in self.config.instances:
            if renamed.get(model.name, model.name) not in kept and config.instance(model.name) is not None:
                parameters = self.node.parameters
                rest = tuple(p for p in parameters.instances if p.name != model.name)
                groups = tuple(type(g)(g.name, tuple(m for m in g.members if m != model.name)) for g in parameters.groups)
                without = type(parameters)(rest, groups, parameters.scripts, parameters.tracks, parameters.stop_words)
                self.feed(at_ns, NodeReconfigured(without))

    def _remove_gone(self, name: str, before: Endpoint, after: Endpoint) -> None:
        """Addresses that the new configuration does not have leave a MASTER's kernel now."""
        for held, message in before.removal_of.items():
            if held not in after.removal_of and self.held.pop(held, None) is not None:
                self.commands.execute(message, tolerate=REMOVE_TOLERATED)
        for held in after.removal_of:
            if held in self.held:
                self.held[held] = name

    def _build(self, config: VrrpConfig) -> None:
        """Sockets and endpoints for ``config`` on the interfaces as they are; what fits already is kept."""
        before = self.endpoints
        self.config = config
        self._open_sockets(config)
        virtual = virtual_addresses(config.instances)
        self.endpoints = {}
        for model in config.instances:
            endpoint = build_endpoint(
                model,
                self.interfaces,
                virtual=virtual,
                send_socket=self._senders.get(model.interface),
                announcers=self._announcers,
                encoded=self._encoded,
            )
            old = before.get(model.name)
            if old is not None:
                endpoint.inherit(old)
                if old.model == model and old.local_address == endpoint.local_address and old.send_socket is endpoint.send_socket:
                    endpoint.packets, endpoint.last_tail = old.packets, old.last_tail
            self.endpoints[model.name] = endpoint
        self._virtual_keys = frozenset(held for e in self.endpoints.values() for held in e.removal_of)
        parameters = node_parameters(config)
        self._track_interfaces = {t.name for tracks in parameters.tracks.values() for t in tracks if t.kind is TrackKind.INTERFACE}
        self._signature = self._signature_now()
        self._send_will()

    def _open_sockets(self, config: VrrpConfig) -> None:
        wanted: dict[str, list[InstanceModel]] = {}
        for model in config.instances:
            if model.interface and int(model.family) == 4:
                wanted.setdefault(model.interface, []).append(model)
        self._by_interface = {}
        for interface, models in wanted.items():
            by_vrid: dict[int, list[str]] = {}
            for model in models:
                by_vrid.setdefault(model.vrid, []).append(model.name)
            self._by_interface[interface] = by_vrid
        self._open_receivers(wanted)
        outgoing = set(wanted) | {a.interface for m in config.instances for a in all_addresses(m) if a.interface}
        self._open_senders(set(wanted), outgoing)

    def _open_receivers(self, wanted: dict[str, list[InstanceModel]]) -> None:
        old, self._receivers = self._receivers, {}
        for name, models in wanted.items():
            interface = self.interfaces.get(name)
            if interface is None:
                continue
            vrids = frozenset(m.vrid for m in models)
            groups = frozenset(g for m in models if not m.unicast and isinstance(g := group_of(m), IPv4Address))
            before = old.get(name)
            if before is not None and (before.index, before.vrids, before.groups) == (interface.index, vrids, groups):
                self._receivers[name] = old.pop(name)
                continue
            try:
                receiver = ReceiveSocket(name, interface.index, vrids, groups)
            except OSError as error:
                self.log.error(f"cannot receive adverts on {name}: {error.strerror}")
                continue
            self._receivers[name] = receiver
            self.pump.add_reader(receiver, lambda name=name, receiver=receiver: self.on_adverts(name, receiver))  # type: ignore[misc]
        for receiver in old.values():
            self.pump.remove_reader(receiver)
            receiver.close()

    def _open_senders(self, advertising: set[str], announcing: set[str]) -> None:
        old_senders, self._senders = self._senders, {}
        old_announcers, self._announcers = self._announcers, {}
        interval_ns = self.config.global_defs.vrrp.garp_interval_ns
        for name in sorted(announcing | advertising):
            interface = self.interfaces.get(name)
            if interface is None:
                continue
            try:
                if name in advertising:
                    before = old_senders.get(name)
                    if before is not None and before.index == interface.index:
                        self._senders[name] = old_senders.pop(name)
                    else:
                        self._senders[name] = SendSocket(name, interface.index)
                known = old_announcers.get(name)
                if known is not None and (known.index, known.mac, known.interval_ns) == (interface.index, interface.mac, interval_ns):
                    self._announcers[name] = old_announcers.pop(name)
                elif len(interface.mac) == 6:
                    self._announcers[name] = Announcer(name, interface.index, interface.mac, interval_ns)
            except OSError as error:
                self.log.error(f"cannot send on {name}: {error.strerror}")
        for sender in old_senders.values():
            sender.close()
        for announcer in old_announcers.values():
            announcer.close()

    def _send_will(self) -> None:
        """What the parent has to do if we die: remove these addresses, say priority 0 for those that were MASTER."""
        self.channel.send({"op": "will_begins"})
        for name, endpoint in self.endpoints.items():
            packets: list[JsonObject] = []
            if endpoint.packets is not None:
                zero = VrrpInstance(instance_parameters(endpoint.model), local_address=None).advert(0)
                packets = [
                    {"packet": bytes(packet).hex(), "destination": destination, "direct": direct}
                    for packet, destination, direct in endpoint.packets.encode(zero)
                ]
            sender = endpoint.send_socket
            self.channel.send(
                {
                    "op": "will",
                    "instance": name,
                    "remove": endpoint.remove_blob.hex(),
                    "interface": None if sender is None else sender.interface,
                    "index": 0 if sender is None else sender.index,
                    "adverts": packets,
                }
            )

    # ---- the parent -------------------------------------------------------------------------------------------------

    def on_parent(self, message: JsonObject) -> None:
        """One message from the parent."""
        match message.get("op"):
            case "settings":
                self.settings = Settings(**message["settings"])
            case "configure":
                self._parts.append(message["part"])
                if message["last"]:
                    blob = base64.b64decode("".join(self._parts))
                    self._parts = []
                    # Not foreign data: our own parent sends it over an inherited socketpair.
                    self.configure(pickle.loads(blob))  # noqa: S301
            case "script":
                self.feed(now_ns(), ScriptFinished(message["name"], message["success"]))
            case "file":
                self.feed(now_ns(), TrackChanged(TrackKind.FILE, message["name"], message["value"]))
            case "dump":
                self.channel.send({"op": "dump", "what": message["what"], "status": self.status()})
            case "stop":
                self.stop()

    def on_parent_gone(self, _reason: str) -> None:
        """Nobody supervises us any more: leave cleanly."""
        self.stop()

    def stop(self) -> None:
        """Priority 0, addresses out, notifies, end."""
        if self._stopping:
            return
        self._stopping = True
        self.feed(now_ns(), NodeStopped())
        self.channel.send({"op": "stopped"})
        if self.control is not None:
            self.control.close()
        self.pump.stop()

    def close(self) -> None:
        """Give the parent's messages a moment to leave, then close everything."""
        deadline_ns = now_ns() + NS_PER_S
        while self.channel.queued_bytes and not self.channel.closed and now_ns() < deadline_ns:
            self.pump.turn(10 * NS_PER_MS)
        for receiver in self._receivers.values():
            receiver.close()
        for sender in self._senders.values():
            sender.close()

    # ---- status -----------------------------------------------------------------------------------------------------

    def status(self) -> JsonObject:
        """Everything that ``status`` and the dumps show."""
        instances = []
        if self.node is not None:
            for name, instance in self.node.instances.items():
                snapshot: Any = instance.snapshot()
                endpoint = self.endpoints[name]
                waiting = instance.waiting_for_fence and instance.state is State.BACKUP
                snapshot["shown_state"] = "WAITING_FOR_FENCE" if waiting else instance.state.value
                snapshot["interface"] = endpoint.model.interface
                snapshot["unicast_peers"] = [str(p.address) for p in endpoint.model.unicast_peers]
                snapshot["multicast_group"] = None if endpoint.model.unicast else str(group_of(endpoint.model))
                snapshot["excluded_addresses"] = [str(a) for a in endpoint.model.excluded_addresses]
                snapshot["held"] = sorted(str(address) for (_, address), owner in self.held.items() if owner == name)
                snapshot["rejected"] = {reason.value: count for reason, count in endpoint.rejected.items()}
                snapshot["egress_errors"] = dict(endpoint.egress_errors)
                instances.append(snapshot)
        rest: Any = {} if self.node is None else self.node.snapshot()
        return {
            "v": 1,
            "daemon": "vrrpd",
            "pid": os.getpid(),
            "now_ns": now_ns(),
            "boot_id": boot_id(),
            "gate": "closed" if self.settings.gate_closed else "open",
            "router_id": self.config.global_defs.router_id,
            "instances": instances,
            "groups": rest.get("groups", []),
            "scripts": rest.get("scripts", []),
            "tracked": rest.get("tracked", []),
            "stalls": {"count": self.stalls, "longest_ms": self.longest_stall_ns // NS_PER_MS},
            "packets": {"unknown_vrid": self.unknown_vrids, "unreadable": self.parse_errors},
        }


def _renames(before: VrrpConfig, after: VrrpConfig) -> dict[str, str]:
    """Old to new names of virtual routers that only changed their name."""
    names = {identity(model): model.name for model in after.instances}
    old_names = {model.name for model in before.instances}
    return {
        model.name: new
        for model in before.instances
        if (new := names.get(identity(model))) is not None and new != model.name and new not in old_names
    }


def _kept(before: VrrpConfig, after: VrrpConfig, name: str, renamed: dict[str, str]) -> bool:
    old_name = next((old for old, new in renamed.items() if new == name), name)
    old, new = before.instance(old_name), after.instance(name)
    return old is not None and new is not None and identity(old) == identity(new)


def main() -> int:
    """Entry of the child process."""
    parent_pid = os.getppid()
    die_with_parent(parent_pid)
    os.set_blocking(2, False)
    log = Log("vrrpd-vrrp")
    process = VrrpProcess(child_socket(), log)
    wake_r, wake_w = socket.socketpair()
    wake_r.setblocking(False)
    wake_w.setblocking(False)
    signal.set_wakeup_fd(wake_w.fileno(), warn_on_full_buffer=False)

    def on_signal() -> None:
        try:
            numbers = wake_r.recv(64)
        except BlockingIOError:
            return
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            process.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    process.pump.add_reader(wake_r, on_signal)
    process.pump.run()
    signal.set_wakeup_fd(-1)
    process.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
