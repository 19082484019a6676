"""Sockets of instances without an interface: unicast adverts that the routing tables carry, the main ones or those of a VRF.

Each (source, VRF) has one receive socket for each carrier, bound to the source address, and one send socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from base.log import Log
from vrrp.config.model.daemon import BufferSettings
from vrrp.config.model.instance import VrrpInstance
from vrrp.protocol.packet import IPAddress
from vrrp.system.advert_buffers import receive_buffer_bytes
from vrrp.system.advert_socket import AdvertReceiver, AdvertSender, Carrier, ReceiveSocket, SendSocket
from vrrp.system.advert_socket6 import ReceiveSocket6, SendSocket6
from vrrp.system.interfaces import InterfaceTable

Medium = tuple[str, Carrier]


def way_of(model: VrrpInstance) -> str:
    """What stands for the interface: the source address, and the VRF if there is one."""
    return f"{model.source} in {model.vrf}" if model.vrf else str(model.source)


def usable(model: VrrpInstance, interfaces: InterfaceTable) -> str:
    """ "" if the instance's sockets can be opened, else what is missing."""
    if model.source is None or not interfaces.holds(model.source):
        return f"no source address {model.source} on this node"
    if model.vrf and interfaces.get(model.vrf) is None:
        return f"no VRF {model.vrf}"
    return ""


class RoutedSockets:
    """``on_open(receiver)`` and ``on_close(receiver)`` let the shell watch the receive sockets."""

    def __init__(self, log: Log, on_open: Callable[[AdvertReceiver], None], on_close: Callable[[AdvertReceiver], None]) -> None:
        self.routers: dict[Medium, dict[int, list[str]]] = {}
        self.receivers: dict[Medium, AdvertReceiver] = {}
        self.senders: dict[str, AdvertSender] = {}
        self._log = log
        self._on_open = on_open
        self._on_close = on_close

    def open(
        self,
        models: Iterable[VrrpInstance],
        interfaces: InterfaceTable,
        buffers: BufferSettings,
        carriers_of: Callable[[VrrpInstance], Iterable[Carrier]],
    ) -> None:
        """For those of ``models`` that have no interface; what still fits is kept open."""
        wanted: dict[Medium, list[VrrpInstance]] = {}
        for model in models:
            if not model.interface and not usable(model, interfaces):
                for carrier in carriers_of(model):
                    wanted.setdefault((way_of(model), carrier), []).append(model)
        self.routers = {medium: _by_vrid(found) for medium, found in wanted.items()}
        old, self.receivers = self.receivers, {}
        old_senders, self.senders = self.senders, {}
        for medium, found in wanted.items():
            index = _index(found[0], interfaces)
            vrids, size = frozenset(model.vrid for model in found), receive_buffer_bytes(buffers, found)
            before = old.get(medium)
            if before is not None and (before.index, before.vrids, before.buffer_bytes) == (index, vrids, size):
                self.receivers[medium] = old.pop(medium)
            else:
                self._receive(medium, found[0], index, vrids, size)
            self._send(medium[0], found[0], index, old_senders)
        for receiver in old.values():
            self._on_close(receiver)
            receiver.close()
        for sender in old_senders.values():
            sender.close()

    def _receive(self, medium: Medium, model: VrrpInstance, index: int, vrids: frozenset[int], size: int) -> None:
        try:
            made = _receiver(medium, model.source, model.vrf, index, vrids, size)
        except OSError as error:
            self._log.error(f"cannot receive adverts at {medium[0]}: {error.strerror}")
            return
        self.receivers[medium] = made
        self._on_open(made)

    def _send(self, way: str, model: VrrpInstance, index: int, old: dict[str, AdvertSender]) -> None:
        before = old.get(way)
        if way in self.senders:
            return
        if before is not None and before.index == index:
            self.senders[way] = old.pop(way)
            return
        try:
            made = SendSocket6(model.vrf or None, index) if int(model.family) == 6 else SendSocket(model.vrf or None, index)
        except OSError as error:
            self._log.error(f"cannot send adverts from {way}: {error.strerror}")
            return
        self.senders[way] = made

    def sender_of(self, model: VrrpInstance) -> AdvertSender | None:
        """The socket of an instance without an interface."""
        return None if model.interface else self.senders.get(way_of(model))

    def signature(self, models: Iterable[VrrpInstance], interfaces: InterfaceTable) -> tuple[object, ...]:
        """Changes when ``open`` has to be called again."""
        return tuple((usable(model, interfaces), _index(model, interfaces)) for model in models if not model.interface)

    def close(self) -> None:
        """Close every socket."""
        for receiver in self.receivers.values():
            receiver.close()
        for sender in self.senders.values():
            sender.close()


def _by_vrid(models: Iterable[VrrpInstance]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for model in models:
        found.setdefault(model.vrid, []).append(model.name)
    return found


def _index(model: VrrpInstance, interfaces: InterfaceTable) -> int:
    vrf = interfaces.get(model.vrf) if model.vrf else None
    return 0 if vrf is None else vrf.index


def _receiver(medium: Medium, source: IPAddress | None, vrf: str, index: int, vrids: frozenset[int], size: int) -> AdvertReceiver:
    way, carrier = medium
    if isinstance(source, IPv4Address):
        return ReceiveSocket(way, index, vrids, (), carrier=carrier, buffer_bytes=size, device=vrf, source=source)
    return ReceiveSocket6(way, index, vrids, (), size, device=vrf, source=source)
