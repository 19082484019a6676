"""A configured bfd_instance as the BFD process needs it, and its form as JSON between parent and process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from base.channel import JsonObject
from vrrp.bfd.session import SessionSettings
from vrrp.config.model.tracking import BfdInstance

IPAddress: TypeAlias = "IPv4Address | IPv6Address"

SINGLE_HOP_PORT = 3784
MULTIHOP_PORT = 4784
ANY_HOPS = 255
"""``max_hops`` of this (keepalived's rule) or -1 switches the check of TTL and hop limit off."""


@dataclass(frozen=True, slots=True)
class Peering:
    """A session and the two addresses it runs between. ``source`` None: whatever the kernel chooses, and any local address receives.

    ``min_hop_limit``: a received packet with a smaller TTL or hop limit is dropped; with 255 nobody behind a router can forge one
    (RFC 5881 section 5, RFC 5082).
    """

    session: SessionSettings
    neighbor: IPAddress
    source: IPAddress | None = None
    hop_limit: int = 255
    min_hop_limit: int = 255
    multihop: bool = False

    @property
    def name(self) -> str:
        """Of the bfd_instance."""
        return self.session.name

    @property
    def port(self) -> int:
        """Where both sides listen: RFC 5881 section 4, RFC 5883 section 5."""
        return MULTIHOP_PORT if self.multihop else SINGLE_HOP_PORT

    @property
    def path(self) -> tuple[object, ...]:
        """What makes it another session when it changes; everything else is adopted by a running one."""
        return (self.neighbor, self.source, self.hop_limit, self.multihop)


def peering(model: BfdInstance) -> Peering:
    """From keepalived.conf. As in keepalived, max_hops counts down from the own ttl or hoplimit."""
    unchecked = model.max_hops in (-1, ANY_HOPS)
    return Peering(
        session=SessionSettings(
            name=model.name,
            min_tx_ns=model.min_tx_ns,
            min_rx_ns=model.min_rx_ns,
            idle_tx_ns=model.idle_tx_ns,
            multiplier=model.multiplier,
            passive=model.passive,
        ),
        neighbor=model.neighbor,
        source=model.source,
        hop_limit=model.hop_limit,
        min_hop_limit=0 if unchecked else max(0, model.hop_limit - model.max_hops),
        multihop=model.multihop,
    )


def to_json(settings: Peering) -> JsonObject:
    """One flat object."""
    session = settings.session
    return {
        "name": session.name,
        "min_tx_ns": session.min_tx_ns,
        "min_rx_ns": session.min_rx_ns,
        "idle_tx_ns": session.idle_tx_ns,
        "multiplier": session.multiplier,
        "passive": session.passive,
        "neighbor": str(settings.neighbor),
        "source": None if settings.source is None else str(settings.source),
        "hop_limit": settings.hop_limit,
        "min_hop_limit": settings.min_hop_limit,
        "multihop": settings.multihop,
    }


def from_json(value: JsonObject) -> Peering:
    """The reverse of ``to_json``; it comes from our own parent."""
    rest = dict(value)
    neighbor, source = ip_address(rest.pop("neighbor")), rest.pop("source")
    path = {key: rest.pop(key) for key in ("hop_limit", "min_hop_limit", "multihop")}
    found = Peering(SessionSettings(**rest), neighbor, None if source is None else ip_address(source))
    return replace(found, **path)
