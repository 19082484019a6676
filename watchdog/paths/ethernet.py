"""Heartbeats in raw ethernet frames: they need no IP address, no route and no firewall's permission.

EtherType 0x88B5 is the first "local experimental" one (IEEE 802); the destination is a locally administered multicast MAC,
which switches flood and IGMP snooping does not touch.
"""

from __future__ import annotations

from base.packetsocket import drain, filter_ethertype, join_multicast, open_packet_socket
from watchdog.paths.transport import MAX_FRAMES_PER_WAKE, Received

ETHERTYPE = 0x88B5
GROUP_MAC = b"\x03brain"
_HEADER_BYTES = 14


class EthernetTransport:
    """An AF_PACKET socket on one interface."""

    def __init__(self, interface: str) -> None:
        self._socket = open_packet_socket(interface, filter_ethertype(ETHERTYPE), ethertype=ETHERTYPE)
        try:
            join_multicast(self._socket, interface, GROUP_MAC)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """See Transport."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """See Transport."""
        source: bytes = self._socket.getsockname()[4]  # asked anew: a bond changes its MAC at failover
        self._socket.send(GROUP_MAC + source + ETHERTYPE.to_bytes(2, "big") + data)

    def receive(self) -> Received:
        """See Transport."""
        captured, error = drain(self._socket, MAX_FRAMES_PER_WAKE)
        return Received(tuple(c.data[_HEADER_BYTES:] for c in captured if not c.outgoing), 0, error)

    def close(self) -> None:
        """See Transport."""
        self._socket.close()
