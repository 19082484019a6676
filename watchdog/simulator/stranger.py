"""A host on the service LAN that has no key: what it can take, claim, forge and replay."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from base.core import NS_PER_MS
from vrrp.protocol.packet import DEFAULT_GROUP_IPV4, Advert, Family, encode_advert
from watchdog.simulator.machine import ARP_REPLY, ARP_REQUEST, GRATUITOUS, Host
from watchdog.simulator.network import ARP, FRAME, VRRP, AdvertBytes, Arp, Beat, Payload
from watchdog.simulator.options import ADDRESSES, MACS, VIPS

if TYPE_CHECKING:
    from watchdog.simulator.world import World

AGAIN_NS = 100 * NS_PER_MS
FLOOD = 20
"""Claims of random MACs in each tenth of a second of a flood."""


class Stranger(Host):
    """Sends what anybody on the segment can send. It knows no key; it may have recorded every frame that passed."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "stranger", MACS["stranger"], ())
        self.gateway_to: dict[str, int] = {}
        """Nodes for which it answers in the reference's place, on their side of any cut."""
        self._rng = world.streams.of("stranger")

    def repeatedly(self, act: Callable[[], None]) -> Callable[[], None]:
        """Do it now and ten times a second until the returned function is called."""
        going = [True]

        def again() -> None:
            if going[0]:
                act()
                self._world.scheduler.after(AGAIN_NS, again)

        def stop() -> None:
            going[0] = False

        again()
        return stop

    def forge_adverts(self, node: str, priority: int) -> None:
        """One advert of every group in ``node``'s name."""
        for group in self._world.groups[node]:
            if group.interface != self.interface:
                continue
            addresses = tuple(IPv4Address(vip) for vip in group.vips)
            advert = Advert(group.version, Family.IPV4, group.key.vrid, priority, addresses, group.advert_interval_ms // 10)
            data = encode_advert(advert, IPv4Address(ADDRESSES[node]), DEFAULT_GROUP_IPV4)
            payload = AdvertBytes(group.key, ADDRESSES[node], self.mac, data)
            self._world.segments[self.interface].broadcast(self.name, VRRP, payload)

    def forge_arp(self, node: str) -> None:
        """Say that ``node``'s own address and the first virtual address are here."""
        for address in (ADDRESSES[node], VIPS[0]):
            self._world.segments[self.interface].broadcast(self.name, ARP, Arp(GRATUITOUS, address, self.mac))

    def answer_for_gateway(self, node: str) -> Callable[[], None]:
        """Answer ``node`` in the reference's place until the returned function is called."""
        self.gateway_to[node] = self.gateway_to.get(node, 0) + 1

        def stop() -> None:
            self.gateway_to[node] -= 1

        return stop

    def overhear(self, node: str, interface: str, request: Arp) -> None:
        """A request of ``node`` for a reference passes by, whatever is cut behind this host."""
        if self.gateway_to.get(node) and request.what == ARP_REQUEST and interface == self.interface:
            reply = request._replace(what=ARP_REPLY, mac=self.mac)
            port = self._world.segments[interface].ports[node]
            if port.carrier:
                self._world.scheduler.after(50_000, port.handler, ARP, self.name, reply)

    def flood(self) -> None:
        """Many claims of the first virtual address by MACs that nobody ever saw."""
        for _ in range(FLOOD):
            mac = "06:" + ":".join(f"{self._rng.randrange(256):02x}" for _ in range(5))
            self._world.segments[self.interface].broadcast(self.name, ARP, Arp(GRATUITOUS, VIPS[0], mac))

    def replay(self, node: str) -> None:
        """A frame that ``node`` sent before, on the first path, to its peer."""
        sent = self._world.recorded[node]
        if sent:
            path, data = sent[self._rng.randrange(len(sent))]
            payload: Payload = Beat(path, data)
            self._world.segments[self.interface].send(self.name, "B" if node == "A" else "A", FRAME, payload)
