"""Who owns an IPv6 address, by neighbour discovery (RFC 4861).

Solicitations come from our own link-local address and not from "::": the latter is what duplicate address detection sends, and a
node that is just taking the address with detection on would give it up because of us (RFC 4862 section 5.4.3). An advertisement
without the Override flag is a proxy's or an anycast address and counts for nothing (RFC 4861 sections 7.2.7 and 7.2.8).
"""

from __future__ import annotations

from collections.abc import Iterable

from base.ndp import (
    ALL_NODES_MAC,
    OVERRIDE,
    SOLICITED,
    advertisement_filter,
    decode_advertisement,
    solicitation,
)
from base.packetsocket import ETH_P_IPV6, Instruction
from watchdog.probing.owner_prober import Claim, OwnerProber
from watchdog.probing.segment import Segment


class NdpProber(OwnerProber):
    """The IPv6 census."""

    family = 6
    ethertype = ETH_P_IPV6
    multicast_macs = (ALL_NODES_MAC,)

    def _filter(self, addresses: Iterable[str]) -> list[Instruction]:
        return advertisement_filter()

    def _can_ask_with(self, address: str) -> bool:
        return address.lower().startswith("fe80:")

    def _probe_frame(self, segment: Segment, address: str) -> bytes | str:
        own = self._own_address(segment.interface)
        if not own:
            return f"{segment.interface} has no link-local address to ask with"
        return solicitation(segment.mac, own, address)

    _reference_frame = _probe_frame

    def _read(self, segment: Segment, frame: bytes) -> Claim | None:
        heard = decode_advertisement(frame)
        if heard is None:
            return None
        overrides = bool(heard.flags & OVERRIDE)
        answer = bool(heard.flags & SOLICITED) and heard.destination_mac == segment.mac
        asserts = overrides and not heard.flags & SOLICITED
        return Claim(heard.target, heard.mac, heard.source_mac, answer and overrides, answer, asserts, asserts)
