"""Sockets and endpoints of every virtual router, as the configuration wants them and the interfaces allow.

``Wiring.build`` is called at start, at reload, and when an interface that matters appeared, vanished, or changed index, MAC or source
address; what still fits is kept open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

from base.channel import JsonObject
from base.clock import now_ns
from base.log import Log
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import VrrpInstance as InstanceModel
from vrrp.conversion import authenticator, group_of, instance_parameters
from vrrp.protocol.instance import VrrpInstance
from vrrp.protocol.packet import IPAddress
from vrrp.system.advert_buffers import receive_buffer_bytes
from vrrp.system.advert_socket import AdvertReceiver, AdvertSender, Carrier, ReceiveSocket, SendSocket
from vrrp.system.advert_socket6 import ReceiveSocket6, SendSocket6
from vrrp.system.advert_socket_macvlan import MacvlanReceiver
from vrrp.system.announce import Announcer, Pace
from vrrp.system.endpoint import Endpoint, Held, all_addresses, build_endpoint, local_address_of, virtual_addresses
from vrrp.system.interfaces import Interface, InterfaceTable
from vrrp.system.neighbour_advertisement import NeighbourAnnouncer
from vrrp.system.routed_sockets import RoutedSockets
from vrrp.system.virtual_links import VirtualLinks

Medium = tuple[str, Carrier]
"""(interface, carrier): what one receive socket listens to."""
SenderKey = tuple[str, int, IPAddress | None]
"""(interface, IP version, source): what one send socket is for. The source matters on an IPv6 macvlan, which has no address of its own."""


def carriers_of(model: InstanceModel) -> tuple[Carrier, ...]:
    """Where to listen for adverts of this instance. One with AH listens for bare adverts too: to refuse them with a word."""
    if int(model.family) == 6:
        return (Carrier.IPV6,)
    return (Carrier.IPV4,) if authenticator(model) is None else (Carrier.IPV4_AH, Carrier.IPV4)


def heard_on(model: InstanceModel) -> str:
    """The interface on which adverts for this instance arrive."""
    return model.virtual_interface if model.hears_on_link else model.interface


def spoken_on(model: InstanceModel) -> str:
    """The interface by which its adverts leave."""
    return model.virtual_interface if model.speaks_on_link else model.interface


class Wiring:
    """``on_open(receiver)`` and ``on_close(receiver)`` let the shell watch the receive sockets; ``on_restored(instance, detail)`` hears of
    a macvlan that had to be made again."""

    def __init__(
        self,
        log: Log,
        on_open: Callable[[AdvertReceiver], None],
        on_close: Callable[[AdvertReceiver], None],
        on_restored: Callable[[str, str], None],
    ) -> None:
        self.interfaces = InterfaceTable()
        self.links = VirtualLinks(log, self.interfaces, on_restored)
        self.config = VrrpConfig()
        self.endpoints: dict[str, Endpoint] = {}
        self.routers: dict[Medium, dict[int, list[str]]] = {}
        """Medium → VRID → names of the instances that adverts with this VRID may belong to."""
        self.receivers: dict[Medium, AdvertReceiver] = {}
        self.senders: dict[SenderKey, AdvertSender] = {}
        self.announcers: dict[tuple[str, int], Announcer] = {}
        """(interface, IP version of the addresses) → socket."""
        self.virtual: frozenset[Held] = frozenset()
        """Every (interface index, virtual address) there may be."""
        self.routed = RoutedSockets(log, on_open, on_close)
        self._log = log
        self._on_open = on_open
        self._on_close = on_close
        self._paces: dict[tuple[tuple[str, ...], int, int], Pace] = {}
        self._retired: list[AdvertSender] = []
        self._signature: tuple[object, ...] = ()

    def build(self, config: VrrpConfig) -> None:
        """Make everything fit ``config`` and the interfaces as they are. ``tidy`` ends what a removed instance needs for its last words."""
        before = self.endpoints
        self.config = config
        self.links.ensure(now_ns(), config.links)
        virtual = virtual_addresses(config.instances)
        self.receivers = {medium: receiver for medium, receiver in self.receivers.items() if medium not in self.routed.receivers}
        self._open_sockets(virtual)
        self.routed.open(config.instances, self.interfaces, config.global_defs.buffers, carriers_of)
        self.receivers.update(self.routed.receivers)
        self.routers.update(self.routed.routers)
        self.endpoints = {}
        for model in config.instances:
            endpoint = build_endpoint(
                model,
                self.interfaces,
                virtual=virtual,
                send_socket=self.routed.sender_of(model) or self.senders.get(self._sender_key(model, virtual)),
                announcers=self.announcers,
                links=self.links,
            )
            old = before.get(model.name)
            if old is not None:
                endpoint.inherit(old)
            self.endpoints[model.name] = endpoint
        self.virtual = frozenset(held for endpoint in self.endpoints.values() for held in endpoint.places)
        self._signature = self._signature_now()

    def tidy(self) -> None:
        """Close and remove what ``build`` replaced."""
        for sender in self._retired:
            sender.close()
        self._retired = []
        self.links.tidy()

    def _sender_key(self, model: InstanceModel, virtual: frozenset[IPAddress]) -> SenderKey:
        family = int(model.family)
        source = local_address_of(model, self.interfaces, virtual) if family == 6 and model.speaks_on_link else None
        return spoken_on(model), family, source

    @property
    def outdated(self) -> bool:
        """Did an interface change in a way that asks for ``build``? A veth of some container that comes and goes does not."""
        return self._signature_now() != self._signature

    def _signature_now(self) -> tuple[object, ...]:
        virtual = virtual_addresses(self.config.instances)
        names = {m.interface for m in self.config.instances} | {m.virtual_interface for m in self.config.instances if m.virtual_interface}
        names |= {a.interface for m in self.config.instances for a in all_addresses(m)}
        found = ((name, self.interfaces.get(name)) for name in sorted(names))
        sources = tuple(self._placed(m) for m in self.config.instances if m.source is not None)
        return (
            sources,
            self.routed.signature(self.config.instances, self.interfaces),
            self.links.signature(),
            *((name, None if i is None else (i.index, i.mac, i.connected(virtual=virtual), *_sources(i, virtual))) for name, i in found),
        )

    def _placed(self, model: InstanceModel) -> tuple[bool, bool]:
        """Is the configured source on this node, and on the instance's interface?"""
        interface = self.interfaces.get(model.interface)
        assert model.source is not None
        return self.interfaces.holds(model.source), interface is not None and model.source in interface.addresses

    # ---- sockets --------------------------------------------------------------------------------------------------

    def _open_sockets(self, virtual: frozenset[IPAddress]) -> None:
        wanted: dict[Medium, list[InstanceModel]] = {}
        for model in self.config.instances:
            for carrier in carriers_of(model) if model.interface else ():
                wanted.setdefault((heard_on(model), carrier), []).append(model)
        self.routers = {}
        for medium, models in wanted.items():
            by_vrid = self.routers[medium] = {}
            for model in models:
                by_vrid.setdefault(model.vrid, []).append(model.name)
        self._open_receivers(wanted)
        self._open_senders({self._sender_key(m, virtual) for m in self.config.instances if m.interface})
        announced = {(a.interface or m.interface, int(a.address.version)) for m in self.config.instances for a in all_addresses(m)}
        announced |= {(m.interface, int(m.family)) for m in self.config.instances if m.unicast}
        self._open_announcers({key for key in announced if key[0]})

    def _open_receivers(self, wanted: dict[Medium, list[InstanceModel]]) -> None:
        old, self.receivers = self.receivers, {}
        for medium, models in wanted.items():
            interface = self.interfaces.get(medium[0])
            base = self.interfaces.get(models[0].interface) if models[0].hears_on_link else None
            if interface is None or (base is None and models[0].hears_on_link):
                continue
            base_index = 0 if base is None else base.index
            everything = self.config.global_defs.vrrp.log_unknown_vrids
            vrids = frozenset(range(1, 256)) if everything else frozenset(m.vrid for m in models)
            size = receive_buffer_bytes(self.config.global_defs.buffers, models)
            groups = frozenset(group_of(m) for m in models if not m.unicast)
            before = old.get(medium)
            wanted_now = (interface.index, base_index, vrids, groups, size)
            if before is not None and (before.index, before.base_index, before.vrids, before.groups, before.buffer_bytes) == wanted_now:
                self.receivers[medium] = old.pop(medium)
                continue
            try:
                self.receivers[medium] = _receiver(medium, interface, base_index, vrids, groups, size)
            except OSError as error:
                self._log.error(f"cannot receive adverts over {medium[1].value} on {medium[0]}: {error.strerror}")
                continue
            self._on_open(self.receivers[medium])
        for receiver in old.values():
            self._on_close(receiver)
            receiver.close()

    def _open_senders(self, wanted: set[SenderKey]) -> None:
        old, self.senders = self.senders, {}
        for key in sorted(wanted, key=str):
            name, version, source = key
            interface = self.interfaces.get(name)
            if interface is None:
                continue
            before = old.get(key)
            if before is not None and before.index == interface.index:
                self.senders[key] = old.pop(key)
                continue
            try:
                made = SendSocket6(name, interface.index, source) if version == 6 else SendSocket(name, interface.index)
            except OSError as error:
                self._log.error(f"cannot send adverts over IPv{version} on {name}: {error.strerror}")
                continue
            self.senders[key] = made
        self._retired += old.values()

    def _open_announcers(self, wanted: set[tuple[str, int]]) -> None:
        old, self.announcers = self.announcers, {}
        for name, version in sorted(wanted):
            interface = self.interfaces.get(name)
            if interface is None or len(interface.mac) != 6:
                continue
            kind = NeighbourAnnouncer if version == 6 else Announcer
            pace = self._pace(name, version)
            known = old.get((name, version))
            if known is not None and (known.index, known.mac) == (interface.index, interface.mac) and known.pace is pace:
                self.announcers[name, version] = old.pop((name, version))
                continue
            try:
                self.announcers[name, version] = kind(name, interface.index, interface.mac, pace)
            except OSError as error:
                self._log.error(f"cannot announce addresses on {name}: {error.strerror}")
        for announcer in old.values():
            announcer.close()

    def _pace(self, name: str, version: int) -> Pace:
        """The budget of an interface, shared with those in the same garp_group; kept across reloads."""
        vrrp = self.config.global_defs.vrrp
        interval_ns = vrrp.gna_interval_ns if version == 6 else vrrp.garp_interval_ns
        sharing: tuple[str, ...] = (name,)
        for group in self.config.garp_groups:
            if name in group.interfaces:
                interval_ns = group.gna_interval_ns if version == 6 else group.garp_interval_ns
                sharing = tuple(sorted(group.interfaces))
        return self._paces.setdefault((sharing, version, interval_ns), Pace(interval_ns))

    def close(self) -> None:
        """Close every socket."""
        for receiver in self.receivers.values():
            receiver.close()
        for sender in self.senders.values():
            sender.close()
        for announcer in self.announcers.values():
            announcer.close()
        self.routed.close()
        self.tidy()
        self.links.close()

    # ---- the will -------------------------------------------------------------------------------------------------

    def will(self) -> Iterator[JsonObject]:
        """What the parent does if this process dies: remove these addresses, say priority 0 for those that were MASTER."""
        yield {"op": "will_begins"}
        for name, endpoint in self.endpoints.items():
            packets: list[JsonObject] = []
            if endpoint.packets is not None and not endpoint.packets.numbered:
                zero = VrrpInstance(instance_parameters(endpoint.model), local_address=None).advert(0)
                packets = [
                    {"packet": bytes(packet).hex(), "destination": destination, "direct": direct}
                    for packet, destination, direct in endpoint.packets.encode(zero)
                ]
            sender = endpoint.send_socket
            yield {
                "op": "will",
                "instance": name,
                "remove": self.links.will_of(name).hex(),
                "addresses": [[index, address.packed.hex()] for index, address in endpoint.places],
                "interface": None if sender is None else sender.interface,
                "index": 0 if sender is None else sender.index,
                "adverts": packets,
            }


def _sources(interface: Interface, virtual: frozenset[IPAddress]) -> tuple[IPAddress | None, ...]:
    return tuple(interface.primary_address(version, virtual=virtual) for version in (4, 6))


def _receiver(
    medium: Medium, interface: Interface, base_index: int, vrids: frozenset[int], groups: frozenset[IPAddress], size: int
) -> AdvertReceiver:
    name, carrier = medium
    if base_index:
        return MacvlanReceiver(name, interface.index, base_index, vrids, groups, carrier=carrier, buffer_bytes=size)
    if carrier is Carrier.IPV6:
        return ReceiveSocket6(name, interface.index, vrids, [g for g in groups if isinstance(g, IPv6Address)], size)
    return ReceiveSocket(
        name, interface.index, vrids, [g for g in groups if isinstance(g, IPv4Address)], carrier=carrier, buffer_bytes=size
    )
