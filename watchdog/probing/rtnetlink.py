"""Addresses and links of this kernel over rtnetlink: typed changes out of messages, a full dump, and the deletion of an address.

pyroute2 decodes and encodes the messages; the sockets are our own, because its own reader ends with ENOBUFS and needs asyncio.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

NETLINK_ROUTE = 0
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWNETCONF, RTM_GETNETCONF = 80, 82
RTNLGRP_IPV6_NETCONF = 25
NLMSG_ERROR, NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _DUMP_INTERRUPTED = 0x1, 0x4, 0x300, 0x10
_IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_OPTIMISTIC = 0x08, 0x40, 0x04
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_AF_UNSPEC = 0
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1
_NETCONFA_IFINDEX, _NETCONFA_FORWARDING = 1, 2
_READ_BYTES = 1 << 17
_ANSWER_TIMEOUT = struct.pack("ll", 2, 0)
_MAX_DUMP_READS = 10_000
_LOWER_KINDS = frozenset({"macvlan", "ipvlan", "vlan"})
_marshal = MarshalRtnl()


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. ``carrier``: IFF_UP and IFF_RUNNING. ``mac`` "" if it has none; ``lower`` is the index of the
    interface that a macvlan, ipvlan or vlan rides on, else 0."""

    index: int
    name: str
    mac: str
    carrier: bool
    kind: str
    lower: int


@dataclass(frozen=True, slots=True)
class Address:
    """An address on an interface. ``usable`` is false while duplicate address detection runs, and when it failed."""

    index: int
    address: str
    prefix: int
    usable: bool


@dataclass(frozen=True, slots=True)
class Change:
    """One notification: a link or an address is there (``present``, with these values) or gone; or whether an interface forwards IPv6
    (index, yes or no)."""

    present: bool
    link: Link | None = None
    address: Address | None = None
    forwarding: tuple[int, bool] | None = None


@dataclass(frozen=True, slots=True)
class KernelDump:
    """Everything at one moment."""

    links: tuple[Link, ...]
    addresses: tuple[Address, ...]
    forwarding: tuple[tuple[int, bool], ...] = ()
    """(index, whether it forwards IPv6) of every interface that speaks it."""


def open_monitor() -> socket.socket:
    """A non-blocking socket on which every change of links and addresses is told."""
    monitor = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    try:
        monitor.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        monitor.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, RTNLGRP_IPV6_NETCONF)
        monitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    except BaseException:
        monitor.close()
        raise
    return monitor


def parse(data: bytes) -> Iterator[Change]:
    """The changes in one datagram of the kernel; everything else in it is skipped."""
    if len(data) >= 16 and struct.unpack_from("=IH", data)[1] == RTM_NEWNETCONF:
        yield from _forwarding(data)
        return
    for message in _marshal.parse(data):
        kind = message["header"]["type"]
        if kind in (RTM_NEWLINK, RTM_DELLINK) and message["family"] == _AF_UNSPEC:
            yield Change(kind == RTM_NEWLINK, link=_link(message))
        elif kind in (RTM_NEWADDR, RTM_DELADDR) and (address := _address(message)) is not None:
            yield Change(kind == RTM_NEWADDR, address=address)


def _forwarding(data: bytes) -> Iterator[Change]:
    """NETCONF messages (linux/netconf.h): one byte of family padded to four, then attributes of four bytes each."""
    at = 0
    while at + 20 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 20:
            return
        if kind == RTM_NEWNETCONF:
            values: dict[int, int] = {}
            place = at + 20
            while place + 8 <= min(at + length, len(data)):
                size, name = struct.unpack_from("=HH", data, place)
                if size == 8:
                    values[name] = struct.unpack_from("=i", data, place + 4)[0]
                place += max(4, size + 3 & ~3)
            index = values.get(_NETCONFA_IFINDEX, 0)
            if index > 0 and _NETCONFA_FORWARDING in values:
                yield Change(True, forwarding=(index, values[_NETCONFA_FORWARDING] != 0))
        at += length + 3 & ~3


def _link(message: Any) -> Link:
    running = _IFF_UP | _IFF_RUNNING
    info = message.get_attr("IFLA_LINKINFO")
    kind = str(info.get_attr("IFLA_INFO_KIND") or "") if info else ""
    return Link(
        index=int(message["index"]),
        name=str(message.get_attr("IFLA_IFNAME") or ""),
        mac=str(message.get_attr("IFLA_ADDRESS") or "").lower(),
        carrier=message["flags"] & running == running,
        kind=kind,
        lower=int(message.get_attr("IFLA_LINK") or 0) if kind in _LOWER_KINDS else 0,
    )


def _address(message: Any) -> Address | None:
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    if not text:
        return None
    flags = message.get_attr("IFA_FLAGS")
    flags = int(message["flags"] if flags is None else flags)
    unsure = flags & _IFA_F_DADFAILED or (flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC)
    return Address(int(message["index"]), str(text), int(message["prefixlen"]), not unsure)


def _request_socket() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    sock.bind((0, 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _ANSWER_TIMEOUT)
    return sock


def dump() -> KernelDump:
    """All links and addresses. The kernel answers at once; a dump that a change interrupted is made again. Raises OSError."""
    with _request_socket() as sock:
        for attempt in range(1, 6):
            links, clean_links = _dump(sock, RTM_GETLINK, attempt * 2)
            addresses, clean_addresses = _dump(sock, RTM_GETADDR, attempt * 2 + 1)
            if clean_links and clean_addresses:
                break
        try:
            forwarding, _clean = _dump(sock, RTM_GETNETCONF, 99, socket.AF_INET6)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):  # a kernel without IPv6 forwards none
                raise
            forwarding = []
    return KernelDump(
        tuple(change.link for change in links if change.link is not None),
        tuple(change.address for change in addresses if change.address is not None),
        tuple(change.forwarding for change in forwarding if change.forwarding is not None),
    )


def _dump(sock: socket.socket, kind: int, sequence: int, family: int = _AF_UNSPEC) -> tuple[list[Change], bool]:
    sock.send(struct.pack("=IHHIIB15x", 32, kind, _REQUEST | _DUMP, sequence, 0, family))
    changes: list[Change] = []
    clean = True
    for _ in range(_MAX_DUMP_READS):
        data = sock.recv(_READ_BYTES)
        _, message_type, flags, answered, _ = struct.unpack_from("=IHHII", data)
        if answered != sequence:
            continue
        clean = clean and not flags & _DUMP_INTERRUPTED
        if message_type == NLMSG_ERROR:
            code = -struct.unpack_from("=i", data, 16)[0]
            raise OSError(code, os.strerror(code))
        if message_type == NLMSG_DONE:
            return changes, clean
        changes += parse(data)
        if _ends_with_done(data):
            return changes, clean
    raise OSError(errno.EOVERFLOW, "the kernel's dump does not end")


def _ends_with_done(data: bytes) -> bool:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if kind == NLMSG_DONE:
            return True
        if length < 16:
            return False
        at += length + 3 & ~3
    return False


def delete_address(address: Address) -> None:
    """Remove an address from this kernel. Raises OSError; EADDRNOTAVAIL if it is not there (any more)."""
    message = ifaddrmsg()
    message["family"] = socket.AF_INET6 if ":" in address.address else socket.AF_INET
    message["prefixlen"] = address.prefix
    message["index"] = address.index
    message["attrs"] = [("IFA_LOCAL", address.address), ("IFA_ADDRESS", address.address)]
    message["header"]["type"] = RTM_DELADDR
    message["header"]["flags"] = _REQUEST | _ACK
    message["header"]["sequence_number"] = 1
    message.encode()
    with _request_socket() as sock:
        sock.send(message.data)
        data = sock.recv(_READ_BYTES)
    code = -struct.unpack_from("=i", data, 16)[0]
    if code:
        raise OSError(code, os.strerror(code))
