"""ARP packets for IPv4 over ethernet (RFC 826) and the filter that lets them through. The one encoder for vrrpd and braind."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from base.packetsocket import ACCEPT, DROP, ETH_P_ARP, Instruction, filter_ethertype

REQUEST, REPLY = 1, 2
MAX_FILTERED_ADDRESSES = 200
NO_ADDRESS = "0.0.0.0"
BROADCAST = b"\xff" * 6
_NO_MAC = bytes(6)
_PACKET = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_IPV4 = (1, 0x0800, 6, 4)
_LD_H_ABS, _LD_W_ABS, _JEQ = 0x28, 0x20, 0x15
_SENDER_IP_OFFSET = 28


@dataclass(frozen=True, slots=True)
class ArpPacket:
    """An ARP packet with its ethernet header. MACs are 6 bytes, addresses dotted text."""

    destination: bytes
    source: bytes
    operation: int
    sender_mac: bytes
    sender_ip: str
    target_ip: str
    target_mac: bytes = _NO_MAC


def encode_arp(packet: ArpPacket) -> bytes:
    """The frame."""
    sender, target = socket.inet_aton(packet.sender_ip), socket.inet_aton(packet.target_ip)
    ends = packet.sender_mac, sender, packet.target_mac, target
    return _PACKET.pack(packet.destination, packet.source, ETH_P_ARP, *_IPV4, packet.operation, *ends)


def gratuitous_arp(mac: bytes, address: str) -> bytes:
    """ "``address`` is at ``mac``", to everybody: a *request* whose sender and target are the address (RFC 5227 section 3 calls it an
    ARP announcement), target MAC all ones as keepalived sends it."""
    return encode_arp(ArpPacket(BROADCAST, mac, REQUEST, mac, address, address, BROADCAST))


def decode_arp(frame: bytes) -> ArpPacket | None:
    """The packet, or None if the frame is not ARP for IPv4 over ethernet."""
    if len(frame) < _PACKET.size:
        return None
    destination, source, ethertype, *kind, operation, sender_mac, sender, target_mac, target = _PACKET.unpack_from(frame)
    if ethertype != ETH_P_ARP or tuple(kind) != _IPV4 or operation not in (REQUEST, REPLY):
        return None
    return ArpPacket(destination, source, operation, sender_mac, socket.inet_ntoa(sender), socket.inet_ntoa(target), target_mac)


def sender_filter(addresses: Iterable[str]) -> list[Instruction]:
    """Accept ARP packets whose sender address is one of these, or all of them if there are many: a filter is charged to the socket
    (net.core.optmem_max, 20 kB on older kernels). The prober looks at the address again."""
    wanted = sorted(set(addresses))
    if len(wanted) > MAX_FILTERED_ADDRESSES:
        return filter_ethertype(ETH_P_ARP)
    program: list[Instruction] = [(_LD_H_ABS, 0, 0, 12), (_JEQ, 1, 0, ETH_P_ARP), DROP, (_LD_W_ABS, 0, 0, _SENDER_IP_OFFSET)]
    for address in wanted:
        program += [(_JEQ, 0, 1, int.from_bytes(socket.inet_aton(address), "big")), ACCEPT]
    return [*program, DROP]
