"""Who owns an IPv4 address, by ARP (RFC 826, RFC 5227).

Requests have sender IP 0: no neighbour cache learns from them, and Linux's proxy ARP stays silent to them.
"""

from __future__ import annotations

from collections.abc import Iterable

from base.arp import NO_ADDRESS, REPLY, REQUEST, ArpPacket, decode_arp, encode_arp, sender_filter
from base.packetsocket import ETH_P_ARP, Instruction
from watchdog.probing.owner_prober import Claim, OwnerProber
from watchdog.probing.segment import BROADCAST, Segment


class ArpProber(OwnerProber):
    """The IPv4 census."""

    family = 4
    ethertype = ETH_P_ARP

    def _filter(self, addresses: Iterable[str]) -> list[Instruction]:
        return sender_filter(addresses)

    def _probe_frame(self, segment: Segment, address: str) -> bytes:
        mac = segment.mac
        return encode_arp(ArpPacket(BROADCAST, mac, REQUEST, mac, NO_ADDRESS, address))

    def _reference_frame(self, segment: Segment, address: str) -> bytes:
        mac, own = segment.mac, self._own_address(segment.interface) or NO_ADDRESS
        return encode_arp(ArpPacket(BROADCAST, mac, REQUEST, mac, own, address))

    def _read(self, segment: Segment, frame: bytes) -> Claim | None:
        packet = decode_arp(frame)
        if packet is None:
            return None
        # An answer to a probe repeats its sender IP 0, whether it comes to us alone or to all (RFC 5227 section 2.6). An answer to
        # anything else may be a proxy's, even when our own kernel asked: it says nothing about the owner.
        gratuitous = packet.sender_ip == packet.target_ip
        answer = packet.operation == REPLY and not gratuitous
        return Claim(
            address=packet.sender_ip,
            mac=packet.sender_mac,
            source=packet.source,
            answers_probe=answer and packet.target_ip == NO_ADDRESS,
            answers_us=answer and packet.destination in (segment.mac, BROADCAST),
            asserts=not answer,
            gratuitous=gratuitous,
        )
