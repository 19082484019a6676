"""Heartbeats as UDP from address to address; the only path that may cross a router."""

from __future__ import annotations

from watchdog.paths.datagram import DatagramTransport, open_udp


def open_unicast(own: str, peer: str, port: int, interface: str) -> DatagramTransport:
    """Bound to our own address and, if given, to the interface; only the peer's address is listened to. Raises OSError."""
    udp = open_udp(own, port, interface)
    return DatagramTransport(udp, peer, port, peer)
