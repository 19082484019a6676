"""PING_CHECK: one ICMP echo.

An ICMP datagram socket where net.ipv4.ping_group_range lets us (the kernel then sorts the replies), else a raw one, filtered
to echo replies of the probed host. keepalived changes that sysctl for the whole machine; we leave it alone.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct

from vrrp.lvs.checkers.connect import CheckFailed, connect
from vrrp.lvs.model.checker import ProbePassed
from vrrp.lvs.model.settings import PingProbe

PAYLOAD = b"brainctl PING_CHECK 0123456789abcdef"
MAX_REPLY = 2048
MAX_STRAY_REPLIES = 10_000
_SOL_RAW, _ICMP_FILTER = 255, 1
_ICMP6_FILTER = 1
_numbers = itertools.count(1)


async def probe(settings: PingProbe) -> ProbePassed:
    """Send an echo request and wait for its reply. Raises CheckFailed, OSError, TimeoutError."""
    is_ipv4 = settings.connection.address.version == 4
    try:
        opened, raw = await connect(settings.connection, socket.SOCK_DGRAM, _protocol(is_ipv4)), False
    except PermissionError:
        opened, raw = await connect(settings.connection, socket.SOCK_RAW, _protocol(is_ipv4)), True
        _only_replies(opened, is_ipv4)
    identity, sequence = os.getpid() & 0xFFFF, next(_numbers) & 0xFFFF
    # The sequence number alone names the probe; one that comes round after 65536 probes also differs in its payload.
    payload = PAYLOAD + os.urandom(8)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(settings.connection.timeout_ns / 1e9):
            await loop.sock_sendall(opened, echo_request(is_ipv4, identity, sequence, payload))
            for _ in range(MAX_STRAY_REPLIES):
                reply = await loop.sock_recv(opened, MAX_REPLY)
                if is_our_reply(reply, is_ipv4, raw, sequence, payload):
                    return ProbePassed(detail="replied")
    finally:
        opened.close()
    raise CheckFailed("only replies to other echoes")


def _protocol(is_ipv4: bool) -> int:
    return socket.IPPROTO_ICMP if is_ipv4 else socket.IPPROTO_ICMPV6


def _only_replies(opened: socket.socket, is_ipv4: bool) -> None:
    if is_ipv4:
        opened.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << 0)))
        return
    words = [0xFFFFFFFF] * 8  # a set bit blocks its type
    words[129 >> 5] &= ~(1 << (129 & 31))
    opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))


def echo_request(is_ipv4: bool, identity: int, sequence: int, payload: bytes) -> bytes:
    """RFC 792 / RFC 4443 echo request. The kernel fills the checksum in for ICMPv6 and for datagram sockets."""
    kind = 8 if is_ipv4 else 128
    head = struct.pack("!BBHHH", kind, 0, 0, identity, sequence)
    if not is_ipv4:
        return head + payload
    return struct.pack("!BBHHH", kind, 0, _checksum(head + payload), identity, sequence) + payload


def is_our_reply(packet: bytes, is_ipv4: bool, raw: bool, sequence: int, payload: bytes) -> bool:
    """Whether ``packet`` answers our request; a raw IPv4 socket gives the IP header, too."""
    if raw and is_ipv4:
        if not packet:
            return False
        packet = packet[(packet[0] & 0x0F) * 4 :]
    if len(packet) < 8:
        return False
    kind, code, _, _, number = struct.unpack_from("!BBHHH", packet)
    return kind == (0 if is_ipv4 else 129) and code == 0 and number == sequence and packet[8:] == payload


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
