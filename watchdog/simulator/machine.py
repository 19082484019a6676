"""A machine: its kernel, which answers ARP whatever its processes do, and the processes on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from base.core import NS_PER_S
from watchdog.judgement.events import HeldAddress
from watchdog.simulator.network import ARP, Arp, Payload
from watchdog.simulator.options import virtual_mac

if TYPE_CHECKING:
    from watchdog.simulator.world import World

ARP_REQUEST, ARP_REPLY, GRATUITOUS = "request", "reply", "gratuitous"


class Kernel:
    """Addresses, carrier and ARP of one machine. ``boot`` counts boots; CLOCK_BOOTTIME starts again with each."""

    def __init__(self, world: World, name: str, mac: str, address: str) -> None:
        self._world = world
        self.name = name
        self.mac = mac
        self.service_address = address
        self.powered = True
        self.boots = 1
        self.clock_start_ns = 0
        """What CLOCK_BOOTTIME reads at a boot: 0, but for a search that wants to know a time when it sees one."""
        self.boot_at_ns = -world.streams.of(f"{name}/boot").randrange(1000, 900_000) * NS_PER_S
        self.frozen = 0
        """Faults that hold the whole machine, its kernel too (suspend, VM pause)."""
        self.addresses: dict[HeldAddress, None] = {HeldAddress("eth0", address): None}
        self.on_address: list[Callable[[HeldAddress, bool], None]] = []
        self.on_carrier: list[Callable[[str, bool], None]] = []
        self.on_frame: list[Callable[[str, str, str, Payload], None]] = []
        for segment in world.segments.values():
            segment.attach(name, self._receiver(segment.name))

    def _receiver(self, interface: str) -> Callable[[str, str, Payload], None]:
        def receive(kind: str, source: str, payload: Payload) -> None:
            if self.powered and not self.frozen:
                if isinstance(payload, Arp):
                    self._arp(interface, source, payload)
                for listener in self.on_frame:
                    listener(interface, kind, source, payload)

        return receive

    @property
    def boot_id(self) -> bytes:
        """8 bytes that name this boot."""
        return hashlib.sha256(f"{self._world.options.seed}/{self.name}/boot/{self.boots}".encode()).digest()[:8]

    def now_ns(self) -> int:
        """This machine's CLOCK_BOOTTIME."""
        return self._world.scheduler.now_ns - self.boot_at_ns

    def held(self) -> tuple[HeldAddress, ...]:
        """Every address in the kernel."""
        return tuple(self.addresses)

    def holds(self, address: str) -> bool:
        """Does this kernel hold ``address``?"""
        return HeldAddress(self._world.lan_of(address), address) in self.addresses

    def add(self, addresses: Iterable[str]) -> None:
        """Add addresses to their LAN's interface; one that is there already is a success."""
        for address in addresses:
            held = HeldAddress(self._world.lan_of(address), address)
            if held not in self.addresses:
                self.addresses[held] = None
                self._changed(held, True)

    def remove(self, addresses: Iterable[str], interface: str = "") -> None:
        """Remove addresses (from their LAN's interface unless told otherwise); one that is not there is a success."""
        for address in addresses:
            held = HeldAddress(interface or self._world.lan_of(address), address)
            if held in self.addresses:
                del self.addresses[held]
                self._changed(held, False)

    def _changed(self, held: HeldAddress, is_held: bool) -> None:
        self._world.note(self.name, f"kernel {'+' if is_held else '-'}{held.address}")
        for listener in self.on_address:
            listener(held, is_held)
        self._world.owners_may_have_changed()

    def announce(self, interface: str, addresses: Iterable[str], count: int = 1) -> None:
        """Broadcast gratuitous ARP for the addresses that are really held."""
        for address in addresses:
            if self.powered and HeldAddress(interface, address) in self.addresses:
                for _ in range(min(count, 2)):
                    self._world.segments[interface].broadcast(self.name, ARP, Arp(GRATUITOUS, address, self.mac_of(address)))

    def mac_of(self, address: str) -> str:
        """The MAC that answers for an address of this machine."""
        return (virtual_mac(address) if self._world.options.use_vmac else "") or self.mac

    def _arp(self, interface: str, source: str, arp: Arp) -> None:
        if arp.address == self.service_address and not self._world.options.answers_arp:
            return
        if arp.what == ARP_REQUEST and HeldAddress(interface, arp.address) in self.addresses:
            self._world.segments[interface].send(self.name, source, ARP, arp._replace(what=ARP_REPLY, mac=self.mac_of(arp.address)))

    def set_carrier(self, interface: str, up: bool) -> None:
        """Plug or pull the cable."""
        port = self._world.segments[interface].ports[self.name]
        if port.carrier != up:
            port.carrier = up
            self._world.note(self.name, f"carrier {interface} {'up' if up else 'down'}")
            for listener in self.on_carrier:
                listener(interface, up)
            self._world.owners_may_have_changed()


class Host:
    """A host that only answers ARP: a gateway, or a stranger that takes an address."""

    def __init__(self, world: World, name: str, mac: str, addresses: tuple[str, ...], interface: str = "eth0") -> None:
        self._world = world
        self.interface = interface
        self.name = name
        self.mac = mac
        self.addresses = dict.fromkeys(addresses)
        self.silent = 0
        world.segments[interface].attach(name, self._receive)

    def _receive(self, kind: str, source: str, payload: Payload) -> None:
        asked = isinstance(payload, Arp) and payload.what == ARP_REQUEST and payload.address in self.addresses
        if asked and not self.silent:
            assert isinstance(payload, Arp)
            self._world.segments[self.interface].send(self.name, source, ARP, payload._replace(what=ARP_REPLY, mac=self.mac))

    def claim(self, address: str) -> None:
        """Take an address and say so."""
        self.addresses[address] = None
        self._world.segments[self.interface].broadcast(self.name, ARP, Arp(GRATUITOUS, address, self.mac))


class Machine:
    """A kernel and its processes by name; ``vrrp`` and ``braind`` live, hang and die independently of it."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.processes: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The node's name."""
        return self.kernel.name
