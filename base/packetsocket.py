"""AF_PACKET sockets with a classic BPF filter, and the filters themselves.

The socket is opened with protocol 0 and bound only after its filter is in place, so that no foreign packet slips in between
(scapy needs libpcap for this and fails silently without it).
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_MR_MULTICAST = 0
PACKET_OUTGOING = 4
ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800
ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
SO_TIMESTAMPNS = 35

Instruction = tuple[int, int, int, int]

_LD_H_ABS, _LD_B_ABS, _JEQ, _RET = 0x28, 0x30, 0x15, 0x06
ACCEPT: Instruction = (_RET, 0, 0, 0x40000)
DROP: Instruction = (_RET, 0, 0, 0)


def filter_ethertype(ethertype: int) -> list[Instruction]:
    """Accept only frames of one EtherType."""
    return [(_LD_H_ABS, 0, 0, 12), (_JEQ, 0, 1, ethertype), ACCEPT, DROP]


def filter_ipv4_protocol(protocol: int) -> list[Instruction]:
    """Accept only IPv4 packets of one IP protocol (112 = VRRP)."""
    return [
        (_LD_H_ABS, 0, 0, 12),
        (_JEQ, 0, 3, ETH_P_IP),
        (_LD_B_ABS, 0, 0, 23),
        (_JEQ, 0, 1, protocol),
        ACCEPT,
        DROP,
    ]


def attach_filter(sock: socket.socket, program: Sequence[Instruction]) -> None:
    """Set a classic BPF program on a socket (SO_ATTACH_FILTER)."""
    blob = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(blob)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(buffer)))


def interface_index(name: str) -> int:
    """The index of an interface; raises OSError(ENODEV) naming it."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise OSError(errno.ENODEV, f"no interface {name}") from None


def open_packet_socket(
    interface: str, program: Sequence[Instruction], *, ethertype: int = ETH_P_ALL, receive_buffer_bytes: int = 1 << 20
) -> socket.socket:
    """A bound, non-blocking AF_PACKET socket that sees only what ``program`` accepts. With ETH_P_ALL it also sees outgoing frames."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        attach_filter(sock, program)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer_bytes)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        interface_index(interface)
        sock.bind((interface, ethertype))
    except BaseException:
        sock.close()
        raise
    return sock


def join_multicast(sock: socket.socket, interface: str, mac: bytes) -> None:
    """Make the interface receive a multicast MAC (6 bytes) for as long as the socket lives."""
    request = struct.pack("iHH8s", interface_index(interface), PACKET_MR_MULTICAST, 6, mac)
    sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)


@dataclass(frozen=True, slots=True)
class Captured:
    """One received link-layer frame. ``outgoing`` is true for frames that this host sent."""

    data: bytes
    outgoing: bool


def drain(sock: socket.socket, limit: int = 64, size: int = 2048) -> tuple[list[Captured], OSError | None]:
    """Read at most ``limit`` frames. An error such as ENETDOWN is returned beside what was read, not raised."""
    frames: list[Captured] = []
    for _ in range(limit):
        try:
            data, address = sock.recvfrom(size)
        except BlockingIOError:
            break
        except OSError as error:
            return frames, error
        frames.append(Captured(data, address[2] == PACKET_OUTGOING))
    return frames, None
