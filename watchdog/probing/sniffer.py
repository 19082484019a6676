"""Hears every VRRP advert on the segments of our groups, our own outgoing ones too, and says what a VRRP daemon would find wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv6Address

from base.clock import now_ns
from base.core import NS_PER_MS, JsonValue
from base.packetsocket import ACCEPT, DROP, ETH_P_ALL, ETH_P_IP, ETH_P_IPV6, Captured, Instruction
from base.pump import Pump
from vrrp.config.model.instance import VrrpInstance
from vrrp.conversion import authenticator, expectations
from vrrp.protocol.authentication_header import IPPROTO_AH, is_sealed, unauthenticated
from vrrp.protocol.packet import (
    IPPROTO_VRRP,
    Advert,
    Datagram,
    DecodeError,
    Family,
    RejectReason,
    decode_advert,
    parse_ipv4,
    receive_advert,
)
from watchdog.config.model import GroupKey
from watchdog.judgement.events import AdvertHeard, WatcherEvent
from watchdog.probing.kernel import KernelMonitor
from watchdog.probing.probe_book import Limiter
from watchdog.probing.segment import CHECK_INTERVAL_NS, Segment, Tap, mac_text

REPEAT_INTERVAL_NS = 5 * NS_PER_MS
"""Equal adverts within this time count once; VRRPv3 sends every 10 ms at most."""
MAX_ADVERTS_PER_INTERVAL = 300
MAX_FOREIGN_VRIDS = 64
_MS_PER_CS = 10
_ETHERNET_BYTES, _IPV6_BYTES = 14, 40
_LD_H_ABS, _LD_B_ABS, _LD_B_IND, _LDX_IHL, _JEQ = 0x28, 0x30, 0x50, 0xB1, 0x15
_VLAN_TAG_PRESENT = 0xFFFFF000 + 48
"""SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT of linux/filter.h."""


def advert_filter() -> list[Instruction]:
    """Accept untagged IPv4 packets of protocol 112, or of 51 (AH) with 112 next, and IPv6 packets whose first next header is 112.

    A socket on eth0 also gets the frames of eth0.10, with the VLAN tag beside and not in them: they are eth0.10's to hear.
    """
    return [
        (_LD_B_ABS, 0, 0, _VLAN_TAG_PRESENT),
        (_JEQ, 0, 11, 0),
        (_LD_H_ABS, 0, 0, 12),
        (_JEQ, 0, 6, ETH_P_IP),
        (_LD_B_ABS, 0, 0, 23),
        (_JEQ, 8, 0, IPPROTO_VRRP),
        (_JEQ, 0, 6, IPPROTO_AH),
        (_LDX_IHL, 0, 0, _ETHERNET_BYTES),
        (_LD_B_IND, 0, 0, _ETHERNET_BYTES),
        (_JEQ, 4, 3, IPPROTO_VRRP),
        (_JEQ, 0, 2, ETH_P_IPV6),
        (_LD_B_ABS, 0, 0, 20),
        (_JEQ, 1, 0, IPPROTO_VRRP),
        DROP,
        ACCEPT,
    ]


def parse_frame(frame: bytes) -> Datagram:
    """The IP datagram in an ethernet frame that passed the filter; an authentication header is taken off unchecked. Raises DecodeError."""
    packet = frame[_ETHERNET_BYTES:]
    if frame[12:14] == ETH_P_IP.to_bytes(2, "big"):
        return unauthenticated(packet) if is_sealed(packet) else parse_ipv4(packet)
    if len(packet) < _IPV6_BYTES or packet[0] >> 4 != 6:
        raise DecodeError(RejectReason.IP_HEADER, f"{len(packet)} bytes")
    end = _IPV6_BYTES + int.from_bytes(packet[4:6], "big")
    if end > len(packet):
        raise DecodeError(RejectReason.IP_LENGTH, f"{len(packet)} bytes received")
    return Datagram(IPv6Address(packet[8:24]), IPv6Address(packet[24:40]), packet[7], packet[_IPV6_BYTES:end])


def authenticated(datagram: Datagram, packet: bytes, model: VrrpInstance) -> Datagram:
    """As the VRRP daemon of ``model`` sees it. Raises DecodeError for a wrong authentication header; replays are not looked for."""
    if not is_sealed(packet):
        return datagram
    opener = authenticator(model)
    return replace(datagram, authenticated=True) if opener is None else opener.open(packet)


def problem_of(datagram: Datagram, packet: bytes, advert: Advert, model: VrrpInstance, own_addresses: Iterable[str]) -> str:
    """Why a VRRP daemon with this configuration would drop the advert, with the remedy; "" if it would take it.

    ``packet`` is the whole of ``datagram``, from the IP header on.
    """
    try:
        receive_advert(authenticated(datagram, packet, model), expectations(model, None))
    except DecodeError as error:
        return f"{error} ({error.reason.remedy})"
    if str(datagram.source) in own_addresses:
        return f"{RejectReason.OWN_ADDRESS.value}: from {datagram.source} ({RejectReason.OWN_ADDRESS.remedy})"
    ours = {a.address for a in model.addresses if a.address.version == int(model.family)}
    theirs = set(advert.addresses)
    if ours != theirs and not model.skip_check_adv_addr:
        differing = ", ".join(sorted(str(address) for address in ours ^ theirs)[:5])
        return f"vip_list: differs in {differing} (give virtual_ipaddress the same addresses on both nodes)"
    return ""


class AdvertSniffer:
    """Reports AdvertHeard for the configured groups; a part with ``next_deadline`` and ``on_deadline``."""

    def __init__(self, pump: Pump, kernel: KernelMonitor, emit: Callable[[WatcherEvent], None], tap: Tap | None = None) -> None:
        self._pump = pump
        self._tap = tap
        self._kernel = kernel
        self._emit = emit
        self._segments: dict[str, Segment] = {}
        self._instances: dict[tuple[str, GroupKey], VrrpInstance] = {}
        self._limiter = Limiter(REPEAT_INTERVAL_NS, MAX_ADVERTS_PER_INTERVAL)
        self._check_ns = now_ns()
        self.foreign_vrids: Counter[str] = Counter()
        """Adverts of virtual routers that keepalived.conf does not know, by "interface vrid/family from address"."""
        self.reflected = 0
        """Our own adverts that came back: a loop in the network."""

    def watch(self, instances: Iterable[VrrpInstance]) -> None:
        """Listen for the adverts of these instances instead of those before."""
        self._instances = {(m.interface, GroupKey(m.vrid, int(m.family))): m for m in instances if m.interface}
        wanted = {interface for interface, _ in self._instances}
        for interface in [name for name in self._segments if name not in wanted]:
            self._segments.pop(interface).close()
        for interface in sorted(wanted - set(self._segments)):
            self._open(interface)

    def _open(self, interface: str) -> None:
        def hear(captured: Captured) -> None:
            self._hear(interface, captured)

        self._segments[interface] = Segment(self._pump, interface, ETH_P_ALL, advert_filter(), hear, tap=self._tap)

    def next_deadline(self) -> int | None:
        """The next look at the interfaces."""
        return self._check_ns if self._segments else None

    def on_deadline(self, at_ns: int) -> None:
        """Look whether interfaces vanished or came back."""
        if at_ns >= self._check_ns:
            self._check_ns = at_ns + CHECK_INTERVAL_NS
            for segment in self._segments.values():
                segment.check()

    def snapshot(self) -> dict[str, JsonValue]:
        """Counters."""
        return {
            "interfaces": {name: {"problem": s.problem, **s.counters.to_json()} for name, s in sorted(self._segments.items())},
            "foreign_vrids": dict(sorted(self.foreign_vrids.items())),
            "reflected": self.reflected,
        }

    def close(self) -> None:
        """Release every socket."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()

    def _hear(self, interface: str, captured: Captured) -> None:
        segment = self._segments[interface]
        try:
            datagram = parse_frame(captured.data)
            advert = decode_advert(datagram.payload, Family(datagram.source.version))
        except DecodeError:
            segment.counters.malformed += 1
            return
        source_mac = mac_text(captured.data[6:12])
        if not captured.outgoing and source_mac in self._kernel.macs_never_foreign_on(interface):
            self.reflected += 1
            return
        key = GroupKey(advert.vrid, int(advert.family))
        model = self._instances.get((interface, key))
        if model is None:
            self._count_foreign(f"{interface} {key} from {datagram.source}")
            return
        problem = ""
        if not captured.outgoing:
            problem = problem_of(datagram, captured.data[_ETHERNET_BYTES:], advert, model, self._kernel.addresses_of(interface))
        heard = AdvertHeard(
            interface=interface,
            key=key,
            priority=advert.priority,
            source_ip=str(datagram.source),
            source_mac=source_mac,
            outgoing=captured.outgoing,
            interval_ms=advert.interval_cs * _MS_PER_CS,
            vips=tuple(str(address) for address in advert.addresses),
            problem=problem,
        )
        if self._limiter.admits(now_ns(), heard):
            self._emit(heard)
        else:
            segment.counters.suppressed += 1

    def _count_foreign(self, name: str) -> None:
        if name in self.foreign_vrids or len(self.foreign_vrids) < MAX_FOREIGN_VRIDS:
            self.foreign_vrids[name] += 1
