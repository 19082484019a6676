"""Routing netlink: messages built and read by pyroute2's classes, sockets of our own.

Two sockets, never mixed: a command socket (blobs encoded at configuration load, sent at the transition; the kernel works a message off
inside ``send``, so errors can be read right after) and a monitor (links and IPv4/IPv6 addresses). When the monitor's buffer overran, events
are lost: ``Monitor.drain`` says so, and the caller reads everything anew with ``dump``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from vrrp.protocol.packet import IPAddress
from vrrp.system.kernel_addresses import IFA_F_NODAD, addition, removal

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
IFF_UP, IFF_RUNNING = 0x1, 0x40
SO_RCVBUFFORCE = 33
MACVLAN_PRIVATE = 1
_MACVLAN_MODES = {"private": MACVLAN_PRIVATE, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
_MONITOR_BUFFER_BYTES = 1 << 20
_ERROR = struct.Struct("=IHHIIi")


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """An interface appeared, changed, or (``gone``) was deleted. ``up``: IFF_UP and IFF_RUNNING; ``switched_on``: IFF_UP.

    ``kind``: of a virtual interface (macvlan, ipvlan, vlan, …). ``lower``: index of the interface that it rides on, 0 = none.
    ``mode``: of a macvlan (MACVLAN_PRIVATE), or of an ipvlan (L2 = 0).
    """

    index: int
    name: str
    up: bool
    mac: bytes
    gone: bool = False
    switched_on: bool = False
    kind: str = ""
    lower: int = 0
    mode: int = 0
    group: int = 0


@dataclass(frozen=True, slots=True)
class AddressEvent:
    """An address was added to an interface, or (``gone``) removed from it."""

    index: int
    address: IPAddress
    prefix_length: int
    secondary: bool
    gone: bool = False


NetlinkEvent = LinkEvent | AddressEvent


def _encode(message: Any, kind: int, flags: int) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = flags | NLM_F_REQUEST
    message["header"]["sequence_number"] = 0
    message.encode()
    return bytes(message.data)


def address_message(
    *,
    add: bool,
    index: int,
    address: IPAddress,
    prefix_length: int,
    broadcast: IPv4Address | None = None,
    scope: int = 0,
    label: str = "",
    peer: IPAddress | None = None,
    flags: int = 0,
    preferred_lft_s: int | None = None,
    replace: bool = False,
) -> bytes:
    """One RTM_NEWADDR or RTM_DELADDR message. IPv6 addresses get IFA_F_NODAD: a takeover does not wait for DAD.

    A removal goes by interface, address and length, whatever the label. ``replace``: bring one that is there in line (times, IPv6 flags).
    """
    if not add:
        return removal(index, address.packed, prefix_length, b"" if peer is None else peer.packed)
    if address.version == 6:
        flags |= IFA_F_NODAD
    return addition(
        index,
        address.packed,
        prefix_length,
        peer=b"" if peer is None else peer.packed,
        scope=scope,
        flags=flags,
        label=label.encode(),
        broadcast=b"" if broadcast is None else broadcast.packed,
        preferred_s=preferred_lft_s,
        replace=replace,
    )


def _dump_message(kind: int) -> bytes:
    message = ifinfmsg() if kind == RTM_GETLINK else ifaddrmsg()
    return _encode(message, kind, NLM_F_DUMP)


def _netlink_socket(groups: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    sock.bind((0, groups))
    return sock


def set_receive_buffer(sock: socket.socket, size: int, *, force: bool = False) -> None:
    """``size`` bytes (the kernel counts twice as many), 0 = no change. ``force``: also more than net.core.rmem_max."""
    if size:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE if force else socket.SO_RCVBUF, min(size, (1 << 31) - 1))


class CommandSocket:
    """Sends encoded messages and returns the errno of those that failed."""

    def __init__(self) -> None:
        self._sock = _netlink_socket()

    def set_receive_buffer(self, size: int, *, force: bool) -> None:
        """So many bytes; 0 = as it is."""
        set_receive_buffer(self._sock, size, force=force)

    def execute(self, blob: bytes, *, tolerate: Sequence[int] = ()) -> list[int]:
        """Let the kernel work off a blob of messages; the errors that came back, without those to ``tolerate``."""
        if not blob:
            return []
        try:
            self._sock.send(blob)
        except OSError as error:
            return [error.errno or errno.EIO]
        failures: list[int] = []
        while True:
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                return failures
            except OSError as error:
                return [*failures, error.errno or errno.EIO]
            failures += [code for code in _errors_in(data) if code not in tolerate]

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def _errors_in(data: bytes) -> Iterator[int]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            return
        if kind == NLMSG_ERROR and at + _ERROR.size <= len(data):
            code = -_ERROR.unpack_from(data, at)[5]
            if code:
                yield code
        at += (length + 3) & ~3


class Monitor:
    """Hears every change of links and addresses."""

    def __init__(self) -> None:
        self._marshal = MarshalRtnl()
        self._sock = _netlink_socket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _MONITOR_BUFFER_BYTES)
        except OSError:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _MONITOR_BUFFER_BYTES)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._sock.fileno()

    def set_receive_buffer(self, size: int, *, force: bool) -> None:
        """So many bytes; 0 = as it is (1 MiB)."""
        set_receive_buffer(self._sock, size, force=force)

    def drain(self, limit: int = 64) -> tuple[list[NetlinkEvent], bool]:
        """What happened, and whether events were lost (then ``dump`` must be called)."""
        events: list[NetlinkEvent] = []
        lost = False
        for _ in range(limit):
            try:
                data = self._sock.recv(65536)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            events += decode(self._marshal, data)
        return events, lost

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def _link_event(message: Any, *, gone: bool) -> LinkEvent:
    mac = message.get_attr("IFLA_ADDRESS") or ""
    flags = message["flags"]
    up = flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING
    kind, mode = "", 0
    info = message.get_attr("IFLA_LINKINFO")
    if info is not None:
        kind = info.get_attr("IFLA_INFO_KIND") or ""
        data = info.get_attr("IFLA_INFO_DATA") if kind in ("macvlan", "ipvlan") else None
        if data is not None:
            given = data.get_attr("IFLA_MACVLAN_MODE" if kind == "macvlan" else "IFLA_IPVLAN_MODE")
            mode = _MACVLAN_MODES.get(given, 0) if isinstance(given, str) else given or 0
    return LinkEvent(
        message["index"],
        message.get_attr("IFLA_IFNAME") or "",
        up,
        bytes.fromhex(mac.replace(":", "")),
        gone,
        bool(flags & IFF_UP),
        kind,
        message.get_attr("IFLA_LINK") or 0,
        mode,
        message.get_attr("IFLA_GROUP") or 0,
    )


def decode(marshal: Any, data: bytes) -> list[NetlinkEvent]:
    """The link and address messages of one datagram from the kernel."""
    events: list[NetlinkEvent] = []
    for message in marshal.parse(data):
        kind = message["header"]["type"]
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            if message["family"] != socket.AF_UNSPEC:
                continue  # bridge port notifications repeat the link under AF_BRIDGE
            events.append(_link_event(message, gone=kind == RTM_DELLINK))
        elif kind in (RTM_NEWADDR, RTM_DELADDR):
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if text:
                flags = message.get_attr("IFA_FLAGS") or message["flags"]
                events.append(
                    AddressEvent(message["index"], ip_address(text), message["prefixlen"], bool(flags & 0x01), kind == RTM_DELADDR)
                )
    return events


def dump(kind: int) -> list[NetlinkEvent]:
    """All links (RTM_GETLINK) or addresses (RTM_GETADDR) of this network namespace, on a socket of its own. Blocks for the kernel only."""
    marshal = MarshalRtnl()
    events: list[NetlinkEvent] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 0))
        sock.settimeout(5)
        sock.send(_dump_message(kind))
        while True:
            data = sock.recv(1 << 20)
            events += decode(marshal, data)
            if _is_last(data):
                return events


def _is_last(data: bytes) -> bool:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if kind == NLMSG_DONE:
            return True
        if kind == NLMSG_ERROR:
            raise OSError(-_ERROR.unpack_from(data, at)[5], os.strerror(-_ERROR.unpack_from(data, at)[5]))
        at += max(16, (length + 3) & ~3)
    return False
