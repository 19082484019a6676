"""Sockets and endpoints of every virtual router, as the configuration wants them and the interfaces allow.

``Wiring.build`` is called at start, at reload, and when an interface that matters appeared, vanished, or changed index, MAC or source
address; what still fits is kept open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from base.channel import JsonObject
from base.log import Log
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import VrrpInstance as InstanceModel
from vrrp.conversion import group_of, instance_parameters
from vrrp.protocol.instance import VrrpInstance
from vrrp.system.advert_socket import ReceiveSocket, SendSocket
from vrrp.system.announce import Announcer
from vrrp.system.endpoint import Endpoint, Held, MessageCache, all_addresses, build_endpoint, virtual_addresses
from vrrp.system.interfaces import InterfaceTable


class Wiring:
    """``on_open(interface, receiver)`` and ``on_close(receiver)`` let the shell watch the receive sockets."""

    def __init__(self, log: Log, on_open: Callable[[str, ReceiveSocket], None], on_close: Callable[[ReceiveSocket], None]) -> None:
        self.interfaces = InterfaceTable()
        self.config = VrrpConfig()
        self.endpoints: dict[str, Endpoint] = {}
        self.routers: dict[str, dict[int, list[str]]] = {}
        """Interface → VRID → names of the instances that adverts with this VRID may belong to."""
        self.receivers: dict[str, ReceiveSocket] = {}
        self.senders: dict[str, SendSocket] = {}
        self.announcers: dict[str, Announcer] = {}
        self.virtual: frozenset[Held] = frozenset()
        """Every (interface index, virtual address) there may be."""
        self._log = log
        self._on_open = on_open
        self._on_close = on_close
        self._encoded = MessageCache()
        self._signature: tuple[object, ...] = ()

    def build(self, config: VrrpConfig) -> None:
        """Make everything fit ``config`` and the interfaces as they are."""
        before = self.endpoints
        self.config = config
        self._open_sockets()
        virtual = virtual_addresses(config.instances)
        self.endpoints = {}
        for model in config.instances:
            endpoint = build_endpoint(
                model,
                self.interfaces,
                virtual=virtual,
                send_socket=self.senders.get(model.interface),
                announcers=self.announcers,
                encoded=self._encoded,
            )
            old = before.get(model.name)
            if old is not None:
                endpoint.inherit(old)
            self.endpoints[model.name] = endpoint
        self.virtual = frozenset(held for endpoint in self.endpoints.values() for held in endpoint.removal_of)
        self._signature = self._signature_now()

    @property
    def outdated(self) -> bool:
        """Did an interface change in a way that asks for ``build``? A veth of some container that comes and goes does not."""
        return self._signature_now() != self._signature

    def _signature_now(self) -> tuple[object, ...]:
        virtual = virtual_addresses(self.config.instances)
        names = {m.interface for m in self.config.instances}
        names |= {a.interface for m in self.config.instances for a in all_addresses(m)}
        found = ((name, self.interfaces.get(name)) for name in sorted(names))
        return tuple((name, None if i is None else (i.index, i.mac, i.primary_address(4, virtual=virtual))) for name, i in found)

    # ---- sockets --------------------------------------------------------------------------------------------------

    def _open_sockets(self) -> None:
        wanted: dict[str, list[InstanceModel]] = {}
        for model in self.config.instances:
            if model.interface and int(model.family) == 4:
                wanted.setdefault(model.interface, []).append(model)
        self.routers = {}
        for interface, models in wanted.items():
            by_vrid = self.routers[interface] = {}
            for model in models:
                by_vrid.setdefault(model.vrid, []).append(model.name)
        self._open_receivers(wanted)
        outgoing = set(wanted) | {a.interface for m in self.config.instances for a in all_addresses(m) if a.interface}
        self._open_senders(set(wanted), outgoing)

    def _open_receivers(self, wanted: dict[str, list[InstanceModel]]) -> None:
        old, self.receivers = self.receivers, {}
        for name, models in wanted.items():
            interface = self.interfaces.get(name)
            if interface is None:
                continue
            vrids = frozenset(m.vrid for m in models)
            groups = frozenset(g for m in models if not m.unicast and isinstance(g := group_of(m), IPv4Address))
            before = old.get(name)
            if before is not None and (before.index, before.vrids, before.groups) == (interface.index, vrids, groups):
                self.receivers[name] = old.pop(name)
                continue
            try:
                self.receivers[name] = ReceiveSocket(name, interface.index, vrids, groups)
            except OSError as error:
                self._log.error(f"cannot receive adverts on {name}: {error.strerror}")
                continue
            self._on_open(name, self.receivers[name])
        for receiver in old.values():
            self._on_close(receiver)
            receiver.close()

    def _open_senders(self, advertising: set[str], announcing: set[str]) -> None:
        old_senders, self.senders = self.senders, {}
        old_announcers, self.announcers = self.announcers, {}
        interval_ns = self.config.global_defs.vrrp.garp_interval_ns
        for name in sorted(announcing | advertising):
            interface = self.interfaces.get(name)
            if interface is None:
                continue
            try:
                if name in advertising:
                    before = old_senders.get(name)
                    if before is not None and before.index == interface.index:
                        self.senders[name] = old_senders.pop(name)
                    else:
                        self.senders[name] = SendSocket(name, interface.index)
                known = old_announcers.get(name)
                if known is not None and (known.index, known.mac, known.interval_ns) == (interface.index, interface.mac, interval_ns):
                    self.announcers[name] = old_announcers.pop(name)
                elif len(interface.mac) == 6:
                    self.announcers[name] = Announcer(name, interface.index, interface.mac, interval_ns)
            except OSError as error:
                self._log.error(f"cannot send on {name}: {error.strerror}")
        for sender in old_senders.values():
            sender.close()
        for announcer in old_announcers.values():
            announcer.close()

    def close(self) -> None:
        """Close every socket."""
        for receiver in self.receivers.values():
            receiver.close()
        for sender in self.senders.values():
            sender.close()
        for announcer in self.announcers.values():
            announcer.close()

    # ---- the will -------------------------------------------------------------------------------------------------

    def will(self) -> Iterator[JsonObject]:
        """What the parent does if this process dies: remove these addresses, say priority 0 for those that were MASTER."""
        yield {"op": "will_begins"}
        for name, endpoint in self.endpoints.items():
            packets: list[JsonObject] = []
            if endpoint.packets is not None:
                zero = VrrpInstance(instance_parameters(endpoint.model), local_address=None).advert(0)
                packets = [
                    {"packet": bytes(packet).hex(), "destination": destination, "direct": direct}
                    for packet, destination, direct in endpoint.packets.encode(zero)
                ]
            sender = endpoint.send_socket
            yield {
                "op": "will",
                "instance": name,
                "remove": endpoint.remove_blob.hex(),
                "interface": None if sender is None else sender.interface,
                "index": 0 if sender is None else sender.index,
                "adverts": packets,
            }
