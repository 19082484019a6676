"""The addresses that the kernel holds, read and removed as they are and not as we would have added them.

An IPv4 address may be on one interface several times, with several lengths; the kernel finds one to remove by address, length and label.
Whoever removes what he *would* have added leaves the others behind, and the other node's takeover makes two owners.
Standard library only and small: the guardian and the last will (docs/adr/0103-last-will.md) use it after the vrrp process is dead.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 1, 0x300, 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 3, 4, 6, 8
IFA_F_NODAD, IFA_F_DEPRECATED = 0x02, 0x20
FOREVER_S = 0xFFFFFFFF
ROUNDS = 3
"""Removing a primary address may bring a secondary one back under another form; so often is looked again."""
_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")
_PATIENCE_S = 5
_DUMP = 1
"""The sequence number of a dump; removals have 0."""
_BATCH = 64

Place = tuple[int, bytes]
"""(interface index, packed address)."""


class KernelAddress(NamedTuple):
    """One entry of the kernel. ``interface``: its index. ``packed``: IFA_LOCAL. ``peer``: IFA_ADDRESS, the same unless point to point.

    Times in seconds."""

    interface: int
    packed: bytes
    length: int
    peer: bytes
    scope: int
    flags: int
    label: bytes
    broadcast: bytes
    preferred_s: int
    valid_s: int

    @property
    def place(self) -> Place:
        """Where it lives."""
        return self.interface, self.packed


def removal(index: int, packed: bytes, length: int, peer: bytes = b"") -> bytes:
    """RTM_DELADDR for exactly this entry, whatever its label."""
    attributes = _attribute(IFA_LOCAL, packed) + _attribute(IFA_ADDRESS, peer or packed)
    body = _ADDRESS.pack(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, length, 0, 0, index) + attributes
    return _HEADER.pack(_HEADER.size + len(body), RTM_DELADDR, NLM_F_REQUEST, 0, 0) + body


def addition(
    index: int,
    packed: bytes,
    length: int,
    *,
    peer: bytes = b"",
    scope: int = 0,
    flags: int = 0,
    label: bytes = b"",
    broadcast: bytes = b"",
    preferred_s: int | None = None,
    replace: bool = False,
) -> bytes:
    """RTM_NEWADDR. ``preferred_s`` None: for ever; 0 makes it deprecated. ``replace``: an entry that is there gets these times and
    flags."""
    attributes = _attribute(IFA_LOCAL, packed) + _attribute(IFA_ADDRESS, peer or packed)
    if flags:
        attributes += _attribute(IFA_FLAGS, struct.pack("=I", flags))
    if broadcast:
        attributes += _attribute(IFA_BROADCAST, broadcast)
    if preferred_s is not None or replace:
        attributes += _attribute(IFA_CACHEINFO, struct.pack("=IIII", FOREVER_S if preferred_s is None else preferred_s, FOREVER_S, 0, 0))
    if label:
        attributes += _attribute(IFA_LABEL, label + b"\0")
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    body = _ADDRESS.pack(family, length, flags & 0xFF, scope, index) + attributes
    how = NLM_F_REPLACE if replace else NLM_F_CREATE | NLM_F_EXCL
    return _HEADER.pack(_HEADER.size + len(body), RTM_NEWADDR, NLM_F_REQUEST | how, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def addresses(sock: socket.socket) -> list[KernelAddress]:
    """Everything that this network namespace holds. ``sock``: of ``open_socket``. Raises OSError."""
    body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    sock.send(_HEADER.pack(_HEADER.size + len(body), RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, _DUMP, 0) + body)
    found: list[KernelAddress] = []
    while True:
        for kind, sequence, payload in _messages(sock.recv(1 << 18)):
            if sequence != _DUMP:
                continue  # the answer to a removal
            if kind == NLMSG_DONE:
                return found
            if kind == NLMSG_ERROR:
                code = -_CODE.unpack_from(payload)[0]
                raise OSError(code, os.strerror(code))
            entry = _entry(payload)
            if entry is not None:
                found.append(entry)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _flags, sequence, _port = _HEADER.unpack_from(data, at)
        yield kind, sequence, data[at + _HEADER.size : at + length]
        at += max(_HEADER.size, (length + 3) & ~3)


def _entry(payload: bytes) -> KernelAddress | None:
    _family, length, flags, scope, index = _ADDRESS.unpack_from(payload)
    found: dict[int, bytes] = {}
    at = _ADDRESS.size
    while at + _ATTRIBUTE.size <= len(payload):
        size, kind = _ATTRIBUTE.unpack_from(payload, at)
        found[kind] = payload[at + _ATTRIBUTE.size : at + size]
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if packed is None:
        return None
    preferred_s, valid_s = struct.unpack_from("=II", found[IFA_CACHEINFO]) if IFA_CACHEINFO in found else (FOREVER_S, FOREVER_S)
    wide = found.get(IFA_FLAGS)
    return KernelAddress(
        index,
        packed,
        length,
        found.get(IFA_ADDRESS, packed),
        scope,
        flags if wide is None else struct.unpack("=I", wide)[0],
        found.get(IFA_LABEL, b"").rstrip(b"\0"),
        found.get(IFA_BROADCAST, b""),
        preferred_s,
        valid_s,
    )


def open_socket() -> socket.socket:
    """For ``addresses`` and ``remove``: not one that anything else is read from."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    sock.bind((0, 0))
    sock.settimeout(_PATIENCE_S)
    return sock


def remove(sock: socket.socket, places: Collection[Place]) -> list[Place]:
    """Take every form of these addresses out; those that are still there. Raises OSError."""
    for _ in range(ROUNDS):
        left = [entry for entry in addresses(sock) if entry.place in places]
        if not left:
            return []
        for at in range(0, len(left), _BATCH):
            sock.send(b"".join(removal(e.interface, e.packed, e.length, e.peer) for e in left[at : at + _BATCH]))
    return [entry.place for entry in addresses(sock) if entry.place in places]
