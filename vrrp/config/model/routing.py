"""Routes and policy rules: virtual_routes, virtual_rules, static_routes, static_rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from base.diagnostics import Position
from vrrp.config.model.common import NOWHERE, Family, IpAddress, IpNetwork

ENCAP_OPTIONS = {
    "mpls": ("ttl",),
    "ip": ("id", "dst", "src", "ttl", "tos", "flags"),
    "ip6": ("id", "dst", "src", "hoplimit", "tc", "flags"),
    "ila": ("csum-mode", "ident-type", "hook-type"),
}
"""Kind of tunnel → the words that may follow, each with a value. mpls and ila begin with their labels or locator."""
TARGETED_ENCAPS = ("mpls", "ila")


@dataclass(frozen=True, slots=True)
class NextHop:
    """One gateway of a route. ``weight`` counts from 1. ``encap``: the words after it, of a lightweight tunnel.

    The gateway may be of the other family than the route (``via inet6``, RFC 5549).
    """

    gateway: IpAddress | None = None
    interface: str = ""
    weight: int = 1
    onlink: bool = False
    realms: str = ""
    encap: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One route line, words as in ``ip route add``.

    ``destination`` None = default. ``kind``: unicast, blackhole, unreachable, prohibit, throw, … ``scope``, ``table``
    and ``protocol`` keep the configured word (a number or a name of /etc/iproute2), "" = the kernel's default.
    ``metrics``: (name, value) in the order of the line; a locked value ends in `` lock``. ``options``: further words
    that are kept as they stand (features …, congctl …).
    """

    family: Family
    destination: IpNetwork | None = None
    kind: str = "unicast"
    source: IpAddress | None = None
    next_hops: tuple[NextHop, ...] = ()
    scope: str = ""
    table: str = ""
    protocol: str = ""
    priority: int | None = None
    tos: str = ""
    vrf: str = ""
    metrics: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()
    no_track: bool = False
    track_group: str = ""
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule line, words as in ``ip rule add``. ``selectors`` and ``actions``: (word, value) in the order of the line."""

    family: Family
    selectors: tuple[tuple[str, str], ...] = ()
    actions: tuple[tuple[str, str], ...] = ()
    inverted: bool = False
    priority: int | None = None
    no_track: bool = False
    track_group: str = ""
    position: Position = field(default=NOWHERE, compare=False)
