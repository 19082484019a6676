"""What the two UDP transports share: a socket held to one interface, and the source filter."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from base.packetsocket import SO_RCVBUFFORCE
from watchdog.paths.transport import MAX_FRAMES_PER_WAKE, Received

_READ_BYTES = 2048
_RECEIVE_BUFFER_BYTES = 1 << 20
"""Room for a flood between two wake-ups, so that it does not push the peer's frames out."""


def open_udp(address: str, port: int, interface: str, *, shared: bool = False) -> socket.socket:
    """A non-blocking UDP socket bound to ``address`` (own or multicast) that neither sends nor receives elsewhere than on
    ``interface`` ("" = anywhere). ``shared``: other clusters on this host may use the same group and port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _enlarge_buffer(udp)
        if interface:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        if shared:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        link_local = family == socket.AF_INET6 and (ip_address(address).is_link_local or ip_address(address).is_multicast)
        scope = socket.if_nametoindex(interface) if link_local and interface else 0
        udp.bind((address, port, 0, scope) if family == socket.AF_INET6 else (address, port))
    except BaseException:
        udp.close()
        raise
    return udp


def _enlarge_buffer(udp: socket.socket) -> None:
    try:
        udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    except PermissionError:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)


class DatagramTransport:
    """A UDP socket with one destination. ``peer`` is the only source address that is listened to, "" = any."""

    def __init__(self, udp: socket.socket, destination: str, port: int, peer: str) -> None:
        self._socket = udp
        self._destination = (destination, port)
        self._peer = ip_address(peer) if peer else None

    def fileno(self) -> int:
        """See Transport."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """See Transport."""
        self._socket.sendto(data, self._destination)

    def receive(self) -> Received:
        """See Transport."""
        frames: list[bytes] = []
        foreign = 0
        for _ in range(MAX_FRAMES_PER_WAKE):
            try:
                data, address = self._socket.recvfrom(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                return Received(tuple(frames), foreign, error)
            if self._peer is not None and ip_address(address[0].partition("%")[0]) != self._peer:
                foreign += 1
            else:
                frames.append(data)
        return Received(tuple(frames), foreign)

    def close(self) -> None:
        """See Transport."""
        self._socket.close()
