"""The vrrp process: timers and adverts. It touches no disk and waits for nobody.

A shell around ``vrrp.protocol.node.VrrpNode``: everything that happens becomes an event, every command is carried out in order. It
talks JSON lines to its parent (``vrrp.parent``), which reads the configuration, runs scripts, writes the log, and executes this
process's *will* if it dies: the netlink messages that remove its addresses and the adverts with priority 0
(docs/adr/0103-last-will.md).
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import time
from dataclasses import dataclass

from base.channel import Channel, JsonObject
from base.clock import now_ns
from base.control import ControlServer
from base.core import NS_PER_MS, NS_PER_S, NS_PER_US
from base.journal import Journal
from base.log import Log, child_log
from base.pump import Pump
from base.signals import run_child
from base.supervise import child_socket, die_with_parent, leave
from vrrp.config.model.configuration import VrrpConfig
from vrrp.control import VrrpControl
from vrrp.conversion import node_parameters, successors
from vrrp.execution import Executor
from vrrp.handing_over import ArrivingConfiguration
from vrrp.protocol.authentication_header import IPPROTO_AH, OutdatedError
from vrrp.protocol.events import (
    AddressLost,
    AdvertOutdated,
    AdvertReceived,
    AdvertRepeated,
    FaultCleared,
    FaultRaised,
    InstanceEvent,
    LocalAddressChanged,
)
from vrrp.protocol.node import (
    CountersCleared,
    InstanceEventHappened,
    NodeCommand,
    NodeEvent,
    NodeReconfigured,
    NodeStalled,
    NodeStarted,
    NodeStopped,
    ScriptFinished,
    TrackChanged,
    VrrpNode,
    without_instance,
)
from vrrp.protocol.packet import MULTICAST_TTL, DecodeError, IPAddress, has_old_checksum, parse_packet, receive_advert
from vrrp.protocol.trackers import TrackKind
from vrrp.status import process_status, states_of
from vrrp.system.advert_socket import AdvertReceiver
from vrrp.system.endpoint import Endpoint, Held
from vrrp.system.flood_guard import FloodGuard
from vrrp.system.link_debounce import LinkDebounce
from vrrp.system.linkbeat import Linkbeat
from vrrp.system.netlink import AddressEvent, LinkEvent, Monitor
from vrrp.system.privileges import CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_NICE, keep_only, raise_priority, real_time_limit_us, schedule
from vrrp.system.process_name import VRRP, name_of, set_name
from vrrp.system.routing import STATIC, DeletionMonitor
from vrrp.system.wiring import Medium, Wiring

STATIC_FAULT = "static entry of track_group"
EARLY_NS = 1_000_000
"""So long before a takeover the process wakes, walks through it and stays awake: it starts from a running CPU with warm caches."""
RECONFIGURATION_WEIGHT = 10
"""In the journal a reconfiguration takes the place of so many other entries for each instance."""
COLLECT_EVERY_NS = 60 * NS_PER_S
COLLECT_SLACK_NS = 50 * NS_PER_MS
IP_PROTOCOL_AT = 9
ADDRESS_BYTES = (0, 0, 0, 0, 4, 0, 16, *[0] * 9)
"""By IP version."""


@dataclass(slots=True)
class Settings:
    """From the command line, through the parent."""

    gate_closed: bool = False
    run_dir: str = "/run/brainctl"
    keep_addresses: bool = False
    journal_entries: int = 20_000


@dataclass(slots=True)
class Health:
    """How this process itself fares."""

    stalls: int = 0
    longest_stall_ns: int = 0
    unknown_vrids: int = 0
    unreadable: int = 0
    flooded: int = 0
    """Packets that nobody looked at: their senders had been refused too often just before."""


class VrrpProcess:
    """The shell; see the module docstring."""

    def __init__(self, parent: socket.socket, log: Log) -> None:
        self.log = log
        self.pump = Pump(next_deadline=self.next_deadline, on_deadline=self.on_deadline, on_stall=self.on_stall)
        self.channel = Channel(self.pump, parent, self.on_parent, self.on_parent_gone)
        self.settings = Settings()
        self.health = Health()
        self.node: VrrpNode | None = None
        self.journal = Journal()
        self.wiring = Wiring(log, self._watch, self.pump.remove_reader, lambda name, detail: self.executor.tell_restored(name, detail))
        self.executor = Executor(log, self.channel.send, self._publish, self.wiring.interfaces)
        self.monitor = Monitor()
        self.deletions = DeletionMonitor()
        self.server: ControlServer | None = None
        self.control = VrrpControl(self)
        self.debounce = LinkDebounce()
        self.linkbeat = Linkbeat()
        self._track_interfaces: set[str] = set()
        self._told: dict[str, int] = {}
        self._told_groups: frozenset[str] = frozenset()
        self._guards: dict[Medium, FloodGuard] = {}
        self._arriving = ArrivingConfiguration()
        self._repeated: dict[str, InstanceEventHappened] = {}
        self._stopping = False
        self._collect_ns = now_ns() + COLLECT_EVERY_NS
        self.pump.add_reader(self.monitor, self.on_netlink)
        self.pump.add_reader(self.deletions, self.on_deletions)

    def _watch(self, receiver: AdvertReceiver) -> None:
        self.pump.add_reader(receiver, lambda: self.on_adverts(receiver))

    def _publish(self, message: JsonObject) -> None:
        self.control.publish(message)

    # ---- deadlines and stalls -------------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """When the node or an announcer has work."""
        due = [] if self.node is None else [self._node_deadline(self.node)]
        due += [self.executor.routing.due_ns, self.debounce.due_ns, self.linkbeat.due_ns, self.wiring.links.due_ns]
        due += [announcer.due_ns for announcer in self.wiring.announcers.values() if announcer.due_ns is not None]
        return min((d for d in due if d is not None), default=None)

    def _node_deadline(self, node: VrrpNode) -> int | None:
        takeover_ns = node.next_takeover()
        return node.next_deadline() if takeover_ns is None else takeover_ns - EARLY_NS

    def _await_takeover(self, node: VrrpNode, at_ns: int) -> int:
        """Stay awake until the takeover that is due within EARLY_NS; an advert that still arrives is read before anything fires."""
        due_ns = node.next_takeover()
        if due_ns is None or not at_ns < due_ns <= at_ns + EARLY_NS:
            return at_ns
        node.rehearse_takeover()
        self._hear_everybody()
        while at_ns < due_ns:
            at_ns = now_ns()
        self._hear_everybody()
        return now_ns()

    def _hear_everybody(self) -> None:
        for receiver in self.wiring.receivers.values():
            self.on_adverts(receiver)

    def on_deadline(self, at_ns: int) -> None:
        """Fire what is due."""
        if self.node is not None:
            at_ns = self._await_takeover(self.node, at_ns)
            commands = self.node.on_deadline(at_ns)
            if commands:
                self.journal.note(at_ns, None, commands)
                self._execute(at_ns, commands)
        if self.wiring.links.due_ns is not None and self.wiring.links.due_ns <= at_ns and not self._stopping:
            self._links_changed()
        link_changed = self.linkbeat.due_ns is not None and self.linkbeat.due_ns <= at_ns and self.linkbeat.poll(at_ns)
        if self.node is not None and (link_changed or (self.debounce.due_ns is not None and self.debounce.due_ns <= at_ns)):
            self._tell_interfaces(self.node, at_ns)
        for announcer in self.wiring.announcers.values():
            announcer.flush(at_ns)
        self.executor.routing.check(at_ns)
        self._tell_track_groups(at_ns)
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
        self.health.stalls += 1
        self.health.longest_stall_ns = max(self.health.longest_stall_ns, stalled_ns)
        self.log.limited("stall", f"this process stood still for {stalled_ns // NS_PER_MS} ms")
        self.feed(at_ns, NodeStalled(stalled_ns))
        defs = self.wiring.config.global_defs
        if defs.max_auto_priority > 0 and stalled_ns > defs.min_auto_priority_delay_us * NS_PER_US:
            self.log.warning(f"scheduling of the vrrp process: {raise_priority(defs.max_auto_priority)} (max_auto_priority)")

    # ---- the core -------------------------------------------------------------------------------------------------

    def feed(self, at_ns: int, event: NodeEvent) -> None:
        """One event into the core, its commands out."""
        if self.node is None:
            return
        commands = self.node.handle(at_ns, event)
        weight = RECONFIGURATION_WEIGHT * len(event.parameters.instances) if isinstance(event, NodeReconfigured) else 1
        self.journal.note(at_ns, event, commands, weight)
        if commands:
            self._execute(at_ns, commands)

    def feed_instance(self, at_ns: int, name: str, event: InstanceEvent) -> None:
        """An event of one instance."""
        self.feed(at_ns, InstanceEventHappened(name, event))

    def _execute(self, at_ns: int, commands: list[NodeCommand]) -> None:
        for name, event in self.executor.execute(at_ns, commands):
            self.feed_instance(now_ns(), name, event)

    # ---- adverts --------------------------------------------------------------------------------------------------

    def on_adverts(self, receiver: AdvertReceiver) -> None:
        """Drain one receive socket."""
        node = self.node
        packets = receiver.drain()
        if node is None or not packets:
            return
        read_ns = now_ns()
        routers = self.wiring.routers.get((receiver.interface, receiver.carrier), {})
        guard = self._guards.setdefault((receiver.interface, receiver.carrier), FloodGuard())
        ttl_at, tail_from = receiver.ttl_at, receiver.tail_from
        for age_ns, data in packets:
            vrid = receiver.vrid_of(data)
            names = routers.get(vrid, ())
            if not vrid:
                self.health.unreadable += 1
            elif not names:
                self._unknown_vrid(receiver, vrid, data)
            at_ns = read_ns - age_ns
            for name in names:
                endpoint = self.wiring.endpoints[name]
                # The hot path: the same source, destination and payload as the advert accepted last.
                tail = data[tail_from:]
                if tail == endpoint.last_tail and data[ttl_at] == MULTICAST_TTL and node.instances[name].repeat_accepted(at_ns):
                    self.journal.note(at_ns, self._repeated_event(name), ())
                elif guard.admits(read_ns, source := tail[: ADDRESS_BYTES[data[0] >> 4]]):
                    if self._full_advert(at_ns, node, endpoint, data, tail, shared=len(names) > 1):
                        guard.trust(source)
                    else:
                        guard.refuse(read_ns, source)
        if guard.skipped:
            self.health.flooded += guard.skipped
            guard.skipped = 0
            self.log.limited(f"flood {receiver.interface}", f"a flood of bad adverts on {receiver.interface}: most are not even looked at")

    def _unknown_vrid(self, receiver: AdvertReceiver, vrid: int, data: bytes) -> None:
        self.health.unknown_vrids += 1
        if self.wiring.config.global_defs.vrrp.log_unknown_vrids:
            try:
                source = str(parse_packet(data).source)
            except DecodeError:
                source = "an unreadable sender"  # an AH packet, for example
            self.log.limited(f"vrid {receiver.interface} {vrid}", f"{receiver.interface}: advert for the unknown VRID {vrid} from {source}")

    def _repeated_event(self, name: str) -> InstanceEventHappened:
        event = self._repeated.get(name)
        if event is None:
            event = self._repeated[name] = InstanceEventHappened(name, AdvertRepeated())
        return event

    def _full_advert(self, at_ns: int, node: VrrpNode, endpoint: Endpoint, data: bytes, tail: bytes, *, shared: bool) -> bool:
        """Look at every byte; False if the packet was refused."""
        name = endpoint.model.name
        try:
            sealed = endpoint.authenticator is not None and data[IP_PROTOCOL_AT] == IPPROTO_AH
            datagram = endpoint.authenticator.open(data) if endpoint.authenticator and sealed else parse_packet(data)
            if shared and datagram.destination.is_multicast and datagram.destination != endpoint.expected.group:
                return True  # for the other instance with this VRID on this interface
            if endpoint.hmac is not None:
                datagram = endpoint.hmac.open(datagram, time.time_ns(), endpoint.expected.peers if endpoint.model.unicast else None)
            advert = receive_advert(datagram, endpoint.expected)
        except DecodeError as error:
            self._rejected(endpoint, error)
            if isinstance(error, OutdatedError):
                self._outdated(at_ns, endpoint, error)
            return False
        group = endpoint.expected.old_checksum_group
        if group is not None and not endpoint.old_checksum and has_old_checksum(datagram, group):
            self.log.warning(f"({name}) {datagram.source} makes checksums as keepalived before 1.3.6; so do we from now on")
            endpoint.speak_old_checksum(group)
            self._make_will()
        self.feed_instance(at_ns, name, AdvertReceived(datagram.source, advert))
        if endpoint.hmac is not None and endpoint.hmac.clock_doubtful:
            skew = endpoint.hmac.skew_s
            self.log.limited(f"skew {name}", f"({name}) the clock of {datagram.source} differs by {skew} s: soon its adverts are refused")
        if node.instances[name].repeatable and endpoint.authenticator is None and endpoint.hmac is None:
            endpoint.last_tail = tail
        return True

    def _outdated(self, at_ns: int, endpoint: Endpoint, error: OutdatedError) -> None:
        with contextlib.suppress(DecodeError):
            advert = receive_advert(error.datagram, endpoint.expected)
            self.feed_instance(at_ns, endpoint.model.name, AdvertOutdated(error.datagram.source, advert))

    def _rejected(self, endpoint: Endpoint, error: DecodeError) -> None:
        name, reason = endpoint.model.name, error.reason
        endpoint.rejected[reason] += 1
        self.log.limited(f"reject {name} {reason.value}", f"({name}) advert rejected: {error}; {reason.remedy}")
        if endpoint.rejected[reason] == 1:
            told = {"event": "rejected", "name": name, "reason": reason.value, "detail": error.detail, "remedy": reason.remedy}
            self._publish(told)

    # ---- kernel events --------------------------------------------------------------------------------------------

    def on_netlink(self) -> None:
        """Links and addresses changed."""
        events, lost = self.monitor.drain()
        if any(isinstance(event, LinkEvent) and not event.up and self.wiring.links.on(event.index) for event in events):
            # Down, or being deleted? The kernel answers only when that is over; what else it has to tell lies ready then.
            self.wiring.links.settle()
            more, lost_too = self.monitor.drain()
            events, lost = events + more, lost or lost_too
        gone: set[Held] = set()
        relevant = lost
        for event in events:
            self.wiring.interfaces.apply(event)
            if isinstance(event, AddressEvent):
                key = (event.index, event.address)
                if event.gone and key in self.executor.held:
                    gone.add(key)
                relevant = relevant or key not in self.wiring.virtual
            else:
                relevant = True
        if lost:
            self.log.warning("kernel events were lost; reading everything anew")
            self.wiring.interfaces.resync()
            gone = set(self.executor.held)
        at_ns = now_ns()
        for index, address in sorted(gone, key=str):
            interface = self.wiring.interfaces.at(index)
            name = self.executor.held.get((index, address))
            if name is None or address in self.wiring.endpoints[name].untracked:
                continue
            wanted = self.wiring.endpoints[name].places.get((index, address), frozenset())
            if interface is not None and not wanted <= interface.addresses.get(address, {}).keys():
                self.feed_instance(at_ns, name, AddressLost(address))
        if relevant and self.node is not None and not self._stopping:
            self.executor.routing.suspect(at_ns)
            if self.wiring.outdated or self.executor.routing.outdated(self.wiring.config, self.wiring.interfaces):
                self._links_changed()
            self._tell_interfaces(self.node, now_ns())

    def _links_changed(self) -> None:
        """Fit everything to the interfaces, and put the addresses back that went away with one that was made again."""
        self._rewire(self.wiring.config)
        self.executor.routing.refit(now_ns())
        self._make_will()
        self.wiring.tidy()
        missing: dict[str, IPAddress] = {}
        for (index, address), name in list(self.executor.held.items()):
            if (index, address) not in self.wiring.endpoints[name].places:
                del self.executor.held[index, address]
                if any(address == held for _index, held in self.wiring.endpoints[name].places):
                    missing.setdefault(name, address)
        for name, address in missing.items():
            self.feed_instance(now_ns(), name, AddressLost(address))

    def on_deletions(self) -> None:
        """A route or rule was deleted, ours perhaps."""
        if self.deletions.drain():
            self.executor.routing.suspect(now_ns())

    def _rewire(self, config: VrrpConfig, renamed: dict[str, str] | None = None) -> None:
        self.wiring.build(config)
        self.executor.endpoints = self.wiring.endpoints
        routing = self.executor.routing
        routing.configure(config, self.wiring.interfaces, renamed)
        routing.install(now_ns(), STATIC)

    def _make_will(self) -> None:
        routing = self.executor.routing
        for message in self.wiring.will():
            if "instance" in message:
                message["remove"] = routing.will_of(message["instance"]).hex() + message["remove"]
            self.channel.send(message)

    def _tell_interfaces(self, node: VrrpNode, at_ns: int) -> None:
        """Tracked links, source addresses and what is missing, as events."""
        for name in sorted(self._track_interfaces):
            interface = self.wiring.interfaces.get(name)
            up = interface is not None and interface.up and self.linkbeat.states.get(name, True)
            value = int(self.debounce.counts(at_ns, name, up))
            if self._told.get(name) != value:
                self._told[name] = value
                self.feed(at_ns, TrackChanged(TrackKind.INTERFACE, name, value))
        for name, endpoint in self.wiring.endpoints.items():
            instance = node.instances[name]
            if instance.local_address != endpoint.local_address:
                self.feed_instance(at_ns, name, LocalAddressChanged(endpoint.local_address))
            for cause in [c for c in instance.faults if c.startswith("no ") and c not in endpoint.problems]:
                self.feed_instance(at_ns, name, FaultCleared(cause))
            for cause in endpoint.problems:
                if cause not in instance.faults:
                    self.feed_instance(at_ns, name, FaultRaised(cause))

    def _tell_track_groups(self, at_ns: int) -> None:
        """A static entry that cannot be put back is a FAULT of the instances in its track_group (``STATIC_FAULT`` and its name)."""
        refused = self.executor.routing.refused_groups
        if self.node is None or refused == self._told_groups:
            return
        self._told_groups = refused
        for group in self.wiring.config.track_groups:
            cause = f"{STATIC_FAULT} {group.name}"
            for name in group.members:
                instance = self.node.instances.get(name)
                if instance is not None and (cause in instance.faults) != (group.name in refused):
                    self.feed_instance(at_ns, name, FaultRaised(cause) if group.name in refused else FaultCleared(cause))

    # ---- configuration --------------------------------------------------------------------------------------------

    def _configure_or_die(self, config: VrrpConfig) -> None:
        """A start that cannot succeed (another daemon has the socket, no permission) ends the whole daemon with one sentence."""
        try:
            self.configure(config)
        except OSError as error:
            if self.node is not None and self.server is not None:
                raise
            self.channel.send({"op": "fatal", "reason": f"cannot start: {error.strerror or error}"})
            self.stop()

    def configure(self, config: VrrpConfig) -> None:
        """The first configuration, or a reload that the parent found good."""
        parameters = node_parameters(config)
        self.debounce.configure(config.daemon.interface_delays)
        self._set_buffers(config)
        tracks = [track for tracks in parameters.tracks.values() for track in tracks]
        self._track_interfaces = {track.name for track in tracks if track.kind is TrackKind.INTERFACE}
        daemon = config.daemon
        polled = self._track_interfaces if daemon.linkbeat_polling else {m.interface for m in config.instances if m.linkbeat_polling}
        self.linkbeat.configure(now_ns(), daemon.linkbeat_interfaces, polled)
        if self.node is None:
            self._start(config)
        else:
            self._reload(self.node, config)
        gc.collect()
        gc.freeze()
        gc.disable()
        set_name(name_of(config.global_defs, VRRP))
        self.channel.send({"op": "ready", "states": [] if self.node is None else states_of(self.node)})

    def _set_buffers(self, config: VrrpConfig) -> None:
        buffers = config.global_defs.buffers
        self.monitor.set_receive_buffer(buffers.vrrp_monitor.size, force=buffers.vrrp_monitor.force)
        self.executor.set_receive_buffer(buffers.vrrp_command.size, force=buffers.vrrp_command.force)

    def _start(self, config: VrrpConfig) -> None:
        self.wiring.interfaces.resync()
        self._rewire(config)
        self._make_will()
        self.journal = Journal(self.settings.journal_entries)
        sources = {name: endpoint.local_address for name, endpoint in self.wiring.endpoints.items()}
        self.node = VrrpNode(node_parameters(config), local_addresses=sources, gate_closed=self.settings.gate_closed)
        self.executor.instances = self.node.instances
        self.server = ControlServer(self.pump, os.path.join(self.settings.run_dir, "vrrpd.sock"), self.control.handlers())
        process = config.global_defs.vrrp_process
        problems = schedule(
            nice=process.nice,
            rt_priority=process.rt_priority,
            cpus=process.cpus,
            lock_memory=process.no_swap,
            rttime_us=real_time_limit_us(process),
        )
        for problem in problems:
            self.log.warning(f"scheduling of the vrrp process: {problem}")
        raises = config.global_defs.max_auto_priority > 0
        keep_only((CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_NICE) if raises else (CAP_NET_ADMIN, CAP_NET_RAW))
        at_ns = now_ns()
        self._tell_interfaces(self.node, at_ns)
        self._tell_track_groups(at_ns)
        self.feed(at_ns, NodeStarted())

    def _reload(self, node: VrrpNode, config: VrrpConfig) -> None:
        """Identity decides what stays, not the name; what stays keeps its state, what is gone ends on its old sockets and blobs."""
        at_ns = now_ns()
        before, old = self.wiring.config, self.wiring.endpoints
        kept = successors(before, config)
        renamed = {old_name: name for old_name, name in kept.items() if old_name != name}
        for model in before.instances:
            if model.name not in kept and config.instance(model.name) is not None:
                self.feed(at_ns, NodeReconfigured(without_instance(node.parameters, model.name)))
        self._rewire(config, renamed)
        self.executor.begin_reload(old, renamed)
        fresh = self.wiring.endpoints
        for old_name, name in kept.items():
            fresh[name].inherit(old[old_name])
        self.executor.endpoints = {**{name: endpoint for name, endpoint in old.items() if name not in fresh}, **fresh}
        sources = {name: endpoint.local_address for name, endpoint in fresh.items()}
        self.feed(at_ns, NodeReconfigured(node_parameters(config), renamed, sources))
        self.executor.endpoints = fresh
        self.executor.instances = node.instances
        self.executor.end_reload()
        self.wiring.tidy()
        self._make_will()
        self._tell_interfaces(node, at_ns)

    # ---- the parent -----------------------------------------------------------------------------------------------

    def on_parent(self, message: JsonObject) -> None:
        """One message from the parent."""
        match message.get("op"):
            case "settings":
                self.settings = Settings(**message["settings"])
            case "configure":
                if (config := self._arriving.take(message)) is not None:
                    self._configure_or_die(config)
            case "script":
                self.feed(now_ns(), ScriptFinished(message["name"], message["success"]))
            case "file":
                self.feed(now_ns(), TrackChanged(TrackKind.FILE, message["name"], message["value"]))
            case "process":
                self.feed(now_ns(), TrackChanged(TrackKind.PROCESS, message["name"], int(message["up"])))
            case "bfd":
                self.feed(now_ns(), TrackChanged(TrackKind.BFD, message["name"], int(message["up"])))
            case "quorum":
                self.feed(now_ns(), TrackChanged(TrackKind.QUORUM, message["service"], int(message["up"])))
            case "dump":
                self._dump(message["what"])
            case "clear":
                self._clear_counters()
            case "ping":
                self.channel.send({"op": "pong"})
            case "stop":
                self.stop()

    def _dump(self, what: str) -> None:
        """To the parent, which may write files; a few instances at a time, because a line is bounded."""
        names = [None] if self.node is None else list(self.node.instances)
        for number, name in enumerate(names, 1):
            last = number == len(names)
            self.channel.send({"op": "dump", "what": what, "status": process_status(self, name), "last": last})

    def _clear_counters(self) -> None:
        self.feed(now_ns(), CountersCleared())
        for endpoint in self.wiring.endpoints.values():
            endpoint.rejected.clear()
            endpoint.egress_errors.clear()

    def on_parent_gone(self, _reason: str) -> None:
        """Nobody supervises us any more: leave cleanly."""
        self.stop()

    def stop(self) -> None:
        """Priority 0, addresses out, notifies, end."""
        if self._stopping:
            return
        self._stopping = True
        self.executor.keep_addresses = self.settings.keep_addresses
        self.feed(now_ns(), NodeStopped())
        self.executor.routing.remove(STATIC)
        if not self.settings.keep_addresses:
            self.wiring.links.remove_all()
        self.channel.send({"op": "stopped"})
        if self.server is not None:
            self.server.close()
        self.pump.stop()

    def close(self) -> None:
        """Give the parent's messages a moment to leave, then close everything."""
        deadline_ns = now_ns() + NS_PER_S
        while self.channel.queued_bytes and not self.channel.closed and now_ns() < deadline_ns:
            self.pump.turn(10 * NS_PER_MS)
        self.wiring.close()


def main() -> int:
    """Entry of the child process."""
    die_with_parent(os.getppid())
    os.set_blocking(2, False)
    process = VrrpProcess(child_socket(), child_log("vrrpd-vrrp"))
    run_child(process.pump, process.stop)
    process.close()
    leave(0)


if __name__ == "__main__":
    sys.exit(main())
