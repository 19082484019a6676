"""Interfaces that the daemon makes for virtual routers: macvlans with a virtual MAC, and ipvlans."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vrrp.config.model.addresses import VirtualAddress


class LinkKind(Enum):
    """The kernel's name of the kind of link."""

    MACVLAN = "macvlan"
    IPVLAN = "ipvlan"


@dataclass(frozen=True, slots=True)
class VirtualLink:
    """One such interface, on top of ``base``.

    ``owner``: the first instance that uses it. ``mac``: 6 bytes, empty for an ipvlan (it has that of ``base``). ``ipv6``: it carries
    IPv6, else IPv6 is switched off on it. ``group``: the kernel's interface group, 0 = that of ``base``. ``notify_base``: after its end
    the kernel is made to tell of ``base`` (keepalived's netlink_notify_msg). ``address``, ``ipvlan_mode``: of an ipvlan.
    """

    name: str
    base: str
    owner: str
    kind: LinkKind = LinkKind.MACVLAN
    mac: bytes = b""
    ipv6: bool = False
    group: int = 0
    notify_base: bool = False
    address: VirtualAddress | None = None
    ipvlan_mode: str = ""
