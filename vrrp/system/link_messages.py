"""Routing netlink messages that make, set up and remove macvlans and ipvlans.

By hand: pyroute2 0.9 can write neither IFLA_INET_CONF nor the flags of an ipvlan.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

from vrrp.system.kernel_addresses import NLM_F_CREATE, NLM_F_EXCL
from vrrp.system.netlink import IFF_UP, MACVLAN_PRIVATE, NLM_F_REQUEST, RTM_DELLINK, RTM_NEWLINK

RP_FILTER, ARP_FILTER, ARP_IGNORE, PROMOTE_SECONDARIES, ACCEPT_LOCAL = 8, 13, 19, 20, 23
"""IPV4_DEVCONF_*"""
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_GROUP = 1, 3, 5, 18, 26, 27
_ADDR_GEN_MODE, _INET_CONF = 8, 1


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _u32(kind: int, number: int) -> bytes:
    return _attribute(kind, struct.pack("=I", number))


def _link_message(kind: int, flags: int, index: int, attributes: bytes = b"", *, up: bool = False) -> bytes:
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, IFF_UP if up else 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def macvlan_message(name: str, lower: int, mac: bytes, *, group: int) -> bytes:
    """RTM_NEWLINK: a macvlan in private mode, which takes frames from its own MAC that come from outside (another node's virtual MAC)."""
    data = _attribute(2, _u32(1, MACVLAN_PRIVATE))
    info = _attribute(_IFLA_LINKINFO, _attribute(1, b"macvlan") + data)
    return _new_link(name, lower, info + _attribute(_IFLA_ADDRESS, mac), group)


def ipvlan_message(name: str, lower: int, mode: str, *, group: int) -> bytes:
    """RTM_NEWLINK: an ipvlan in L2 mode. ``mode``: bridge (also for ""), private or vepa."""
    data = _attribute(1, struct.pack("=H", 0)) + _attribute(2, struct.pack("=H", _IPVLAN_FLAGS.get(mode, 0)))
    info = _attribute(_IFLA_LINKINFO, _attribute(1, b"ipvlan") + _attribute(2, data))
    return _new_link(name, lower, info, group)


def _new_link(name: str, lower: int, attributes: bytes, group: int) -> bytes:
    attributes += _u32(_IFLA_LINK, lower) + _attribute(_IFLA_IFNAME, name.encode() + b"\0") + _u32(_IFLA_GROUP, group)
    return _link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, attributes)


def no_link_local_message(index: int) -> bytes:
    """No address is made of the interface's MAC (RFC 5798 section 7.4: it would be the same on all routers)."""
    return _link_message(RTM_NEWLINK, 0, index, _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET6, _attribute(_ADDR_GEN_MODE, b"\1"))))


def ipv4_settings_message(index: int, settings: Mapping[int, int]) -> bytes:
    """Set net.ipv4.conf.* of one interface; the keys are IPV4_DEVCONF_*."""
    values = b"".join(_u32(kind, value) for kind, value in settings.items())
    return _link_message(RTM_NEWLINK, 0, index, _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET, _attribute(_INET_CONF, values))))


def link_up_message(index: int) -> bytes:
    """Switch an interface on."""
    return _link_message(RTM_NEWLINK, 0, index, up=True)


def link_group_message(index: int, group: int) -> bytes:
    """Set the group of an interface: also if it stays the same, the kernel tells everybody of the interface."""
    return _link_message(RTM_NEWLINK, 0, index, _u32(_IFLA_GROUP, group))


def link_removal_message(index: int) -> bytes:
    """RTM_DELLINK; its addresses go with it."""
    return _link_message(RTM_DELLINK, 0, index)
