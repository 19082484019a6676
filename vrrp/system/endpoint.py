"""Everything of one virtual router that touches the kernel, encoded before it is needed."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.instance import VrrpInstance
from vrrp.conversion import authenticator, checksum_style, destinations, expectations, hmac_session
from vrrp.protocol.authentication_header import Authenticator
from vrrp.protocol.hmac_session import HmacSession
from vrrp.protocol.packet import MULTICAST_TTL, Expectations, IPAddress, RejectReason
from vrrp.support import instance_faults
from vrrp.system.address_changes import Wanted, distinct
from vrrp.system.advert_socket import AdvertPackets, AdvertSender
from vrrp.system.announce import Announcer
from vrrp.system.interfaces import InterfaceTable
from vrrp.system.routed_sockets import usable
from vrrp.system.virtual_links import LiveLink, VirtualLinks, link_local_of

ADD_TOLERATED = (errno.ENODEV,)
"""An interface that is gone is a fault of its own: the kernel tells of it."""
REMOVE_TOLERATED = (errno.EADDRNOTAVAIL, errno.ENODEV)

Held = tuple[int, IPAddress]
"""(interface index, address)."""


def all_addresses(model: VrrpInstance) -> tuple[VirtualAddress, ...]:
    """The addresses in adverts and the excluded ones, which move with them."""
    return (*model.addresses, *model.excluded_addresses)


@dataclass(slots=True)
class Endpoint:
    """Blobs, packets and sockets of one virtual router. ``problems``: faults that keep it from taking part."""

    model: VrrpInstance
    expected: Expectations
    local_address: IPAddress | None
    wanted: tuple[Wanted, ...] = ()
    """Its address lines, on the interfaces that are there."""
    add_blob: bytes = b""
    remove_blob: bytes = b""
    """Takes every address out in the form that the file gives it, in the opposite order."""
    places: dict[Held, frozenset[int]] = field(default_factory=dict)
    """Where its addresses live, and with which prefix lengths."""
    packets: AdvertPackets | None = None
    send_socket: AdvertSender | None = None
    authenticator: Authenticator | None = None
    hmac: HmacSession | None = None
    old_checksum: bool = False
    """We make checksums as keepalived before 1.3.6 does."""
    announcements: list[tuple[Announcer, IPAddress]] = field(default_factory=list)
    problems: tuple[str, ...] = ()
    links: tuple[LiveLink, ...] = ()
    """The macvlans and ipvlans that it uses."""
    extra: tuple[tuple[Announcer, IPAddress], ...] = ()
    """What ``garp_extra_if`` announces: an address on each interface that its adverts do not leave by."""
    source_announcer: Announcer | None = None
    """Tells the link of a unicast router where its own address lives."""
    untracked: frozenset[IPAddress] = frozenset()
    """Addresses with ``no_track``: whoever removes them may."""
    unsent: bool = False
    """The last advert left to nobody."""
    last_tail: bytes = b""
    """Source, destination and payload of the advert accepted last; empty where no advert may come twice (AH, auth_hmac)."""
    rejected: Counter[RejectReason] = field(default_factory=Counter)
    egress_errors: Counter[str] = field(default_factory=Counter)

    @property
    def asleep(self) -> bool:
        """A link of it must be woken before anything can leave."""
        return not all(link.awake for link in self.links)

    def wake(self) -> None:
        """It becomes MASTER."""
        for link in self.links:
            link.wake(self.model.name)

    def quiet(self) -> None:
        """It is MASTER no more."""
        for link in self.links:
            link.quiet(self.model.name)

    def speak_old_checksum(self, group: IPAddress) -> None:
        """From now on as keepalived before 1.3.6: a peer does not understand anything else."""
        self.old_checksum = True
        if self.packets is not None:
            self.packets.checksum_destination = group
            self.packets.forget()

    def inherit(self, before: Endpoint) -> None:
        """Keep the counters across a reload, and what is encoded if nothing changed."""
        self.rejected, self.egress_errors, self.unsent = before.rejected, before.egress_errors, before.unsent
        if self.authenticator is not None and before.authenticator is not None:
            self.authenticator.sequence = before.authenticator.sequence
        if self.hmac is not None and before.hmac is not None:
            self.hmac.adopt(before.hmac)
        if before.old_checksum and not self.old_checksum and self.expected.old_checksum_group is not None:
            self.speak_old_checksum(self.expected.old_checksum_group)
        same = (self.model, self.local_address) == (before.model, before.local_address)
        if same and self.send_socket is before.send_socket:
            self.packets, self.last_tail = before.packets, before.last_tail
            self.authenticator, self.hmac = before.authenticator, before.hmac


def local_address_of(model: VrrpInstance, interfaces: InterfaceTable, virtual: frozenset[IPAddress]) -> IPAddress | None:
    """The configured source, else the interface's primary address, else None.

    Over IPv6 a macvlan speaks with the link-local address of the interface below, or with what that would be (as keepalived).
    """
    if model.source is not None:
        return model.source
    interface = interfaces.get(model.interface)
    if interface is None:
        return None
    address = interface.primary_address(int(model.family), virtual=virtual)
    if address is None and int(model.family) == 6 and model.speaks_on_link and len(interface.mac) == 6:
        return link_local_of(interface.mac)
    return address


def linked_peers(model: VrrpInstance, interfaces: InterfaceTable, virtual: frozenset[IPAddress]) -> frozenset[IPAddress]:
    """The unicast peers within a connected prefix of the instance's interface."""
    interface = interfaces.get(model.interface)
    networks = () if interface is None else interface.connected(virtual=virtual)
    return frozenset(peer.address for peer in model.unicast_peers if any(peer.address in network for network in networks))


def build_endpoint(
    model: VrrpInstance,
    interfaces: InterfaceTable,
    *,
    virtual: frozenset[IPAddress],
    send_socket: AdvertSender | None,
    announcers: dict[tuple[str, int], Announcer],
    links: VirtualLinks,
) -> Endpoint:
    """Encode everything. What is missing now (an interface, a source address) becomes a problem, not an exception."""
    local = local_address_of(model, interfaces, virtual)
    expected = expectations(model, local, linked_peers(model, interfaces, virtual))
    endpoint = Endpoint(model, expected, local, authenticator=authenticator(model), hmac=hmac_session(model))
    problems = list(instance_faults(model))
    problems += _missing_link(model, interfaces, links)
    if not model.interface:
        problems += [missing] if (missing := usable(model, interfaces)) else []
    elif local is None:
        problems.append(f"no IPv{int(model.family)} source address on {model.interface}")
    elif model.source is not None:
        problems += _missing_source(model, model.source, interfaces)
    if local is not None and send_socket is not None:
        ttl = MULTICAST_TTL if model.unicast_ttl is None or not model.unicast else model.unicast_ttl
        endpoint.packets = AdvertPackets(
            local,
            destinations(model),
            ttl=ttl,
            checksum=checksum_style(model),
            authenticator=endpoint.authenticator,
            hmac=endpoint.hmac,
        )
        endpoint.send_socket = send_socket
        if model.old_unicast_checksum and endpoint.expected.old_checksum_group is not None:
            endpoint.speak_old_checksum(endpoint.expected.old_checksum_group)
    wanted: list[Wanted] = []
    for address in all_addresses(model):
        name = address.interface or model.interface
        interface = interfaces.get(name)
        if interface is None:
            if name not in (model.interface, model.virtual_interface):
                problems.append(f"no interface {name} for {address}")
            continue
        wanted.append(Wanted(interface.index, name, address))
        announcer = announcers.get((name, address.address.version))
        if announcer is not None and (interface.index, address.address) not in endpoint.places:
            announcer.prepare(address.address)
            endpoint.announcements.append((announcer, address.address))
        endpoint.places[interface.index, address.address] = frozenset()
    names = {model.virtual_interface, *(address.interface for address in all_addresses(model))}
    endpoint.links = tuple(live for name, live in links.live.items() if name in names)
    endpoint.extra = _extra(model, endpoint, links)
    if model.unicast and local is not None:
        endpoint.source_announcer = announcers.get((model.interface, local.version))
    endpoint.untracked = frozenset(address.address for address in all_addresses(model) if address.no_track)
    endpoint.wanted = distinct(wanted)
    for item in endpoint.wanted:
        endpoint.places[item.index, item.line.address] |= {item.line.prefix_length}
    endpoint.add_blob = b"".join(item.message() for item in endpoint.wanted)
    endpoint.remove_blob = b"".join(item.message(add=False) for item in reversed(endpoint.wanted))
    endpoint.problems = tuple(problems)
    return endpoint


def _missing_link(model: VrrpInstance, interfaces: InterfaceTable, links: VirtualLinks) -> list[str]:
    """A fault for a macvlan or ipvlan that is not there, where the interface below is (else that is the fault)."""
    name = model.virtual_interface
    if not name or interfaces.get(model.interface) is None or (interfaces.get(name) is not None and name not in links.problems):
        return []
    return [f"no {name}: {links.problems.get(name, 'it is not made yet')}"]


def _extra(model: VrrpInstance, endpoint: Endpoint, links: VirtualLinks) -> tuple[tuple[Announcer, IPAddress], ...]:
    """Keepalived's choice: the first address on each macvlan by which no adverts leave; with ``all``, on any such interface."""
    found: dict[int, tuple[Announcer, IPAddress]] = {}
    speaking = -1 if endpoint.send_socket is None else endpoint.send_socket.index
    for announcer, address in endpoint.announcements:
        if announcer.index != speaking and (model.garp.extra_interface_all or links.on(announcer.index) is not None):
            found.setdefault(announcer.index, (announcer, address))
    return tuple(found.values())


def _missing_source(model: VrrpInstance, source: IPAddress, interfaces: InterfaceTable) -> list[str]:
    """Adverts from an address that is not ours get no answers, and unicast ones do not reach us: a MASTER beside the MASTER."""
    interface = interfaces.get(model.interface)
    if model.track_source and (interface is None or source not in interface.addresses):
        return [f"no source address {source} on {model.interface} (track_src_ip)"]
    return [] if interfaces.holds(source) else [f"no source address {source} on any interface"]


def virtual_addresses(models: Iterable[VrrpInstance]) -> frozenset[IPAddress]:
    """Every address of every instance: none of them may be picked as a source."""
    return frozenset(address.address for model in models for address in all_addresses(model))
