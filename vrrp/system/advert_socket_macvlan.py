"""Hears adverts on a macvlan.

The kernel gives a multicast frame whose Ethernet source is the MAC of a private macvlan only to that macvlan: so a BACKUP with a virtual
MAC hears its master there and nowhere else, and other masters there too. A packet socket is used because it needs no group joined on the
macvlan: a join would send reports with the virtual MAC from a BACKUP, and switches would send the clients' frames to the wrong node until
the master's next advert. The group is joined on the interface below instead, with its own MAC, for switches that want to know.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from base.packetsocket import ETH_P_IP, ETH_P_IPV6, SO_TIMESTAMPNS, Instruction, attach_filter, join_multicast
from vrrp.protocol.authentication_header import HEADER_BYTES, IPPROTO_AH
from vrrp.protocol.packet import IPPROTO_VRRP, IPV6_HEADER_BYTES, IPAddress, internet_checksum
from vrrp.system.advert_socket import (
    DRAIN_LIMIT,
    MAX_FILTERED_VRIDS,
    RET_ALL,
    RET_NONE,
    Carrier,
    filter_vrids,
    received,
    set_receive_buffer,
    with_ages,
)

_LD_W_ABS, _LD_B_ABS, _JEQ = 0x20, 0x30, 0x15
_PACKET_TYPE, _VLAN_TAG_PRESENT = 0xFFFFF000 + 4, 0xFFFFF000 + 48
_OTHER_HOST = 3
_PROTOCOL_AT, _NEXT_HEADER_AT = 9, 6


def group_mac(group: IPAddress) -> bytes:
    """The Ethernet address of a multicast group (RFC 1112 section 6.4, RFC 2464 section 7)."""
    if isinstance(group, IPv4Address):
        return bytes((1, 0, 0x5E, group.packed[1] & 0x7F, *group.packed[2:]))
    return b"\x33\x33" + group.packed[-4:]


def _only(load: Instruction, value: int) -> list[Instruction]:
    """Go on only if what is loaded equals ``value``."""
    return [load, (_JEQ, 1, 0, value), RET_NONE]


def filter_frames(carrier: Carrier, vrids: Iterable[int]) -> list[Instruction]:
    """What a packet socket that begins at the IP header must let through: our VRIDs, for this host, not out of a VLAN."""
    program = [*_only((_LD_W_ABS, 0, 0, _VLAN_TAG_PRESENT), 0), (_LD_W_ABS, 0, 0, _PACKET_TYPE), (_JEQ, 0, 1, _OTHER_HOST), RET_NONE]
    if carrier is not Carrier.IPV6:
        protocol, offset = (IPPROTO_AH, HEADER_BYTES) if carrier is Carrier.IPV4_AH else (IPPROTO_VRRP, 0)
        return [*program, *_only((_LD_B_ABS, 0, 0, _PROTOCOL_AT), protocol), *filter_vrids(vrids, offset)]
    program += _only((_LD_B_ABS, 0, 0, _NEXT_HEADER_AT), IPPROTO_VRRP)
    wanted = sorted(set(vrids))
    if len(wanted) > MAX_FILTERED_VRIDS:
        return [*program, RET_ALL]
    tests: list[Instruction] = [(_JEQ, len(wanted) - at, 0, vrid) for at, vrid in enumerate(wanted)]
    return [*program, (_LD_B_ABS, 0, 0, IPV6_HEADER_BYTES + 1), *tests, RET_NONE, RET_ALL]


class MacvlanReceiver:
    """Adverts of one carrier that arrive on one macvlan; an ``AdvertReceiver``. ``base_index``: the interface below."""

    def __init__(
        self,
        interface: str,
        index: int,
        base_index: int,
        vrids: Iterable[int],
        groups: Iterable[IPAddress],
        *,
        carrier: Carrier,
        buffer_bytes: int = 0,
    ) -> None:
        self.interface = interface
        self.index = index
        self.base_index = base_index
        self.carrier = carrier
        self.vrids = frozenset(vrids)
        self.buffer_bytes = buffer_bytes
        self.groups = frozenset(groups)
        self._is_v6 = carrier is Carrier.IPV6
        self.ttl_at, self.tail_from = (7, 8) if self._is_v6 else (8, 12)
        self._offset = HEADER_BYTES if carrier is Carrier.IPV4_AH else 0
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        self._member = socket.socket(socket.AF_INET6 if self._is_v6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            attach_filter(self._sock, filter_frames(carrier, self.vrids))
            self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            set_receive_buffer(self._sock, buffer_bytes)
            for group in sorted(self.groups, key=int):
                join_multicast(self._sock, interface, group_mac(group))
                self._join(group, base_index)
            self._sock.bind((interface, ETH_P_IPV6 if self._is_v6 else ETH_P_IP))
        except BaseException:
            self.close()
            raise

    def _join(self, group: IPAddress, base_index: int) -> None:
        if self._is_v6:
            self._member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group.packed + struct.pack("=i", base_index))
        else:
            request = struct.pack("=4s4si", group.packed, b"\0\0\0\0", base_index)
            self._member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._sock.fileno()

    def vrid_of(self, data: bytes) -> int:
        """The VRID in a packet, 0 if the packet is too short to have one."""
        at = IPV6_HEADER_BYTES + 1 if self._is_v6 else (data[0] & 0x0F) * 4 + self._offset + 1
        return data[at] if at < len(data) else 0

    def drain(self, limit: int = DRAIN_LIMIT) -> list[tuple[int, bytes]]:
        """At most ``limit`` packets from their IP header on, without Ethernet padding, each with its age; as ``ReceiveSocket.drain``.

        A wrong IPv4 header checksum is dropped here: the kernel's IP layer, which else does it, has not seen these packets.
        """
        packets: list[tuple[bytes, bytes]] = []
        for frame, ancillary, _address in received(self._sock, limit, 64):
            data = self._packet(frame)
            if data:
                packets.append((ancillary[0][2] if ancillary else b"", data))
        return with_ages(packets)

    def _packet(self, frame: bytes) -> bytes:
        if self._is_v6:
            return frame[: IPV6_HEADER_BYTES + int.from_bytes(frame[4:6], "big")] if len(frame) > IPV6_HEADER_BYTES else b""
        if len(frame) < 20 or internet_checksum(frame[: (frame[0] & 0x0F) * 4]):
            return b""
        return frame[: int.from_bytes(frame[2:4], "big")]

    def close(self) -> None:
        """Leave the groups and close."""
        self._sock.close()
        self._member.close()
