"""Heartbeats as UDP multicast with TTL 1: they never leave the segment."""

from __future__ import annotations

import socket
import struct

from watchdog.paths.datagram import DatagramTransport, open_udp

TTL = 1


def open_multicast(group: str, port: int, interface: str, own: str = "", peer: str = "") -> DatagramTransport:
    """A member of ``group`` on ``interface``. ``own``: the source address to send from ("" = the kernel's
    choice). ``peer``: listen to this source address only ("" = any). Raises OSError."""
    udp = open_udp(group, port, interface, shared=True)
    try:
        index = socket.if_nametoindex(interface)
        if ":" in group:
            membership = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", index)
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, TTL)
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        else:
            source = struct.pack("4s4si", b"", socket.inet_aton(own) if own else b"", index)
            membership = struct.pack("4s4si", socket.inet_aton(group), b"", index)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, source)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    except BaseException:
        udp.close()
        raise
    return DatagramTransport(udp, group, port, peer)
