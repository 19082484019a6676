"""What hears, looks and touches on behalf of the core: heartbeat paths, kernel monitor, census, sniffer, announcer, process watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from base.core import JsonValue
from base.log import Log
from base.pump import Pump
from watchdog.capture import CaptureRing
from watchdog.config.model import BrainSettings, LinkAddress, ReferenceSettings
from watchdog.frames.heartbeat import LinkMac
from watchdog.groups import LoadedGroups
from watchdog.judgement.commands import Announce, ProbeOwners, ProbeReference, RemoveAddress, SendFrame
from watchdog.judgement.events import BytesReceived, CommandFailed, HeldAddress, PathChanged, WatcherEvent
from watchdog.paths.open import open_path
from watchdog.paths.path import Path
from watchdog.probing.announce import Announcer
from watchdog.probing.arp import ArpProber
from watchdog.probing.kernel import KernelMonitor
from watchdog.probing.ndp import NdpProber
from watchdog.probing.process import DaemonMonitor
from watchdog.probing.sniffer import AdvertSniffer
from watchdog.probing.traffic import TrafficCounter

Feed = Callable[[WatcherEvent], None]


class Part(Protocol):
    """What the daemon's loop needs of a part."""

    def next_deadline(self) -> int | None:
        """When it has work."""
        ...

    def on_deadline(self, at_ns: int) -> None:
        """Do it."""
        ...


class Senses:
    """Opened by ``start``; nothing is fed to the core before ``report_surroundings``, except what happens meanwhile."""

    def __init__(self, pump: Pump, brain: BrainSettings, groups: LoadedGroups, feed: Feed, log: Log) -> None:
        self._pump, self._brain, self._feed, self._log = pump, brain, feed, log
        self._references = {r.name: r for r in brain.references}
        self._groups = groups
        self._paths: dict[str, Path] = {}
        self._path_state: dict[str, tuple[bool, str]] = {}
        self._reporting = False
        self._kernel = KernelMonitor(pump, feed)
        self.capture = CaptureRing()
        self._arp = ArpProber(pump, self._kernel, feed, self.capture.note)
        self._ndp = NdpProber(pump, self._kernel, feed, self.capture.note)
        self._announcer = Announcer(self._kernel, feed)
        self._sniffer = AdvertSniffer(pump, self._kernel, feed, self.capture.note)
        self._traffic = TrafficCounter(feed)
        gate = brain.gate
        self._process = DaemonMonitor(pump, gate.daemon, gate.pid_file, gate.vrrp_pid_file, feed)

    def start(self) -> None:
        """Open everything."""
        for settings in self._brain.paths:
            self._paths[settings.name] = open_path(settings, self._brain.self_name, self._pump, self._received, self._path_changed)
        self.watch_groups(self._groups)

    def watch_groups(self, groups: LoadedGroups) -> None:
        """Look at these groups' interfaces and addresses from now on."""
        self._groups = groups
        me = self._brain.self_name
        places = [at for g in groups.groups for at in g.addresses]
        interfaces = {link for g in groups.groups for link in (g.interface, *g.links)}
        places += [LinkAddress(link, a) for link in sorted(interfaces) for a in self._brain.peer.addresses]
        self._arp.watch(places)
        self._ndp.watch(places)
        self._sniffer.watch(groups.config.instances)
        references = {r.interface.of(me) for r in self._brain.references}
        self._kernel.watch(sorted(interfaces | references))
        self._traffic.watch(sorted(interfaces))

    def report_surroundings(self) -> None:
        """After Started: the present state of paths, carriers and the local daemon."""
        self._reporting = True
        for name in self._paths:
            usable, reason = self._path_state.get(name, (True, ""))
            self._feed(PathChanged(name, usable, reason))
        self._kernel.report_all()
        self._process.report()

    # ---- what the core asks -------------------------------------------------------------------------------------------

    def send_frame(self, command: SendFrame) -> None:
        """Send a heartbeat."""
        self._paths[command.path].send(command.data)

    def probe_owners(self, command: ProbeOwners) -> None:
        """Ask the segment."""
        (self._ndp if ":" in command.address else self._arp).probe(command)

    def probe_reference(self, command: ProbeReference) -> None:
        """Ask a reference target."""
        reference: ReferenceSettings = self._references[command.name]
        prober = self._ndp if ":" in reference.address else self._arp
        prober.probe_reference(command.name, reference.interface.of(self._brain.self_name), reference.address)

    def announce(self, command: Announce) -> None:
        """Gratuitous ARP or unsolicited NA."""
        self._announcer.announce(command)

    def remove_address(self, command: RemoveAddress) -> None:
        """Delete an address from this kernel."""
        self._log.warning("removing an address", address=command.address, interface=command.interface, reason=command.reason)
        self._kernel.remove_address(command.interface, command.address)

    # ---- what is heard ------------------------------------------------------------------------------------------------

    def _received(self, path: str, data: bytes) -> None:
        self._feed(BytesReceived(path, data))

    def _path_changed(self, path: str, usable: bool, reason: str) -> None:
        self._path_state[path] = (usable, reason)
        if self._reporting:
            self._feed(PathChanged(path, usable, reason))

    def held(self) -> tuple[HeldAddress, ...]:
        """This kernel's addresses."""
        return self._kernel.held()

    def own_macs(self) -> tuple[str, ...]:
        """This node's MACs."""
        return self._kernel.node_macs()

    def link_macs(self) -> tuple[LinkMac, ...]:
        """The MACs that the peer shall know."""
        return self._kernel.link_macs()

    # ---- a part of the daemon -----------------------------------------------------------------------------------------

    def _parts(self) -> list[Part]:
        return [*self._paths.values(), self._kernel, self._arp, self._ndp, self._announcer, self._sniffer, self._traffic, self._process]

    def next_deadline(self) -> int | None:
        """The earliest of all parts."""
        return min((d for part in self._parts() if (d := part.next_deadline()) is not None), default=None)

    def on_deadline(self, at_ns: int) -> None:
        """Let every part do what is due."""
        for part in self._parts():
            due = part.next_deadline()
            if due is not None and due <= at_ns:
                try:
                    self._pump.meter.call(part.on_deadline, at_ns) if self._pump.meter is not None else part.on_deadline(at_ns)
                except OSError as error:  # a sense that fails must not take the others with it
                    self._log.limited(type(part).__name__, f"{type(part).__name__}: {error}")
                    self._feed(CommandFailed(type(part).__name__, str(error)))

    def snapshot(self) -> dict[str, JsonValue]:
        """Counters."""
        return {
            "paths": {name: dict(path.counters.to_json().items()) for name, path in self._paths.items()},
            "arp": self._arp.snapshot(),
            "ndp": self._ndp.snapshot(),
            "sniffer": self._sniffer.snapshot(),
            "netlink_overruns": self._kernel.overruns,
        }

    def close(self) -> None:
        """Close every socket."""
        for path in self._paths.values():
            path.close()
        for part in (self._arp, self._ndp, self._announcer, self._sniffer, self._traffic, self._process, self._kernel):
            part.close()
