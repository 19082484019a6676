"""Who owns an IPv4 address, by ARP (RFC 826, RFC 5227), on packet sockets of our own.

Passive: the sender mapping of every ARP packet about a watched address, gratuitous or not. Active: requests with sender IP 0, which
no neighbour cache learns from and to which Linux's proxy ARP stays silent; answers are heard for the whole window, so that the second
owner is not hidden by the first. Nothing is ever answered here.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from base.clock import now_ns
from base.core import NS_PER_S, JsonValue
from base.packetsocket import ACCEPT, DROP, ETH_P_ARP, Captured, Instruction
from base.pump import Pump
from watchdog.judgement.commands import ProbeOwners
from watchdog.judgement.events import OwnerClaimed, ReferenceAnswered, WatcherEvent
from watchdog.probing.kernel import KernelMonitor
from watchdog.probing.probe_book import ClaimLimiter, ProbeBook
from watchdog.probing.segment import BROADCAST, CHECK_INTERVAL_NS, Segment, mac_text

REQUEST, REPLY = 1, 2
MAX_ADDRESSES = 1500
REFERENCE_WINDOW_NS = 3 * NS_PER_S
_NO_MAC = bytes(6)
_PACKET = struct.Struct("!6s6sHHHBBH6s4s6s4s")
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


def encode_arp(packet: ArpPacket) -> bytes:
    """The frame, target MAC zero."""
    sender, target = socket.inet_aton(packet.sender_ip), socket.inet_aton(packet.target_ip)
    return _PACKET.pack(
        packet.destination, packet.source, ETH_P_ARP, 1, 0x0800, 6, 4, packet.operation, packet.sender_mac, sender, _NO_MAC, target
    )


def decode_arp(frame: bytes) -> ArpPacket | None:
    """The packet, or None if the frame is not ARP for IPv4 over ethernet."""
    if len(frame) < _PACKET.size:
        return None
    destination, source, ethertype, hardware, protocol, hlen, plen, operation, sender_mac, sender, _, target = _PACKET.unpack_from(frame)
    if (ethertype, hardware, protocol, hlen, plen) != (ETH_P_ARP, 1, 0x0800, 6, 4) or operation not in (REQUEST, REPLY):
        return None
    return ArpPacket(destination, source, operation, sender_mac, socket.inet_ntoa(sender), socket.inet_ntoa(target))


def sender_filter(addresses: Iterable[str]) -> list[Instruction]:
    """Accept ARP packets whose sender address is one of these (at most MAX_ADDRESSES of them)."""
    program: list[Instruction] = [(_LD_H_ABS, 0, 0, 12), (_JEQ, 1, 0, ETH_P_ARP), DROP, (_LD_W_ABS, 0, 0, _SENDER_IP_OFFSET)]
    for address in sorted(set(addresses))[:MAX_ADDRESSES]:
        program += [(_JEQ, 0, 1, int.from_bytes(socket.inet_aton(address), "big")), ACCEPT]
    return [*program, DROP]


class ArpProber:
    """The ARP census on every watched interface; a part with ``next_deadline`` and ``on_deadline``."""

    def __init__(self, pump: Pump, kernel: KernelMonitor, emit: Callable[[WatcherEvent], None]) -> None:
        self._pump = pump
        self._kernel = kernel
        self._emit = emit
        self._segments: dict[str, Segment] = {}
        self._watched: dict[str, set[str]] = {}
        self._asked: dict[str, set[str]] = {}
        self._references: dict[tuple[str, str], str] = {}
        self._reference_asked_ns: dict[tuple[str, str], int] = {}
        self._book = ProbeBook()
        self._limiter = ClaimLimiter()
        self._check_ns = now_ns()

    def watch(self, addresses: Iterable[tuple[str, str]]) -> None:
        """Listen passively for claims of these (interface, address) pairs, instead of those before. Other families are left out."""
        wanted: dict[str, set[str]] = {}
        for interface, address in addresses:
            if ":" not in address:
                wanted.setdefault(interface, set()).add(address)
        self._watched = wanted
        for interface in list(self._segments):
            if interface not in wanted and not self._asked.get(interface):
                self._segments.pop(interface).close()
        for interface in wanted:
            self._segment(interface)
            self._refilter(interface)

    def probe(self, order: ProbeOwners) -> None:
        """ProbeOwners: ask, listen for the whole window, and report the end."""
        at_ns = now_ns()
        refused = self._book.start(at_ns, order)
        if refused is not None:
            self._emit(refused)
            return
        self._listen_for(order.interface, order.address)
        self._send_due(at_ns)

    def probe_reference(self, name: str, interface: str, address: str) -> None:
        """Ask a reference target; an answer to us is reported as ReferenceAnswered."""
        key = (interface, address)
        self._references[key] = name
        self._reference_asked_ns[key] = now_ns()
        self._listen_for(interface, address)
        segment = self._segment(interface)
        mac, own = segment.mac, self._own_address(interface)
        segment.send(encode_arp(ArpPacket(BROADCAST, mac, REQUEST, mac, own, address)))

    def next_deadline(self) -> int | None:
        """The next request, end of a window, or look at the interfaces."""
        due_ns = self._book.next_deadline()
        if not self._segments:
            return due_ns
        return self._check_ns if due_ns is None else min(due_ns, self._check_ns)

    def on_deadline(self, at_ns: int) -> None:
        """Send what is due, close windows that are over."""
        if at_ns >= self._check_ns:
            self._check_ns = at_ns + CHECK_INTERVAL_NS
            for segment in self._segments.values():
                segment.check()
        self._send_due(at_ns)

    def snapshot(self) -> dict[str, JsonValue]:
        """Counters by interface."""
        return {name: {"problem": s.problem, **s.counters.to_json()} for name, s in sorted(self._segments.items())}

    def close(self) -> None:
        """Release every socket."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()

    def _segment(self, interface: str) -> Segment:
        segment = self._segments.get(interface)
        if segment is None:

            def hear(captured: Captured) -> None:
                self._hear(interface, captured)

            segment = Segment(self._pump, interface, ETH_P_ARP, sender_filter(()), hear)
            self._segments[interface] = segment
        return segment

    def _listen_for(self, interface: str, address: str) -> None:
        asked = self._asked.setdefault(interface, set())
        if address not in asked:
            if len(asked) >= MAX_ADDRESSES:
                asked.clear()
            asked.add(address)
            self._segment(interface)
            self._refilter(interface)

    def _refilter(self, interface: str) -> None:
        addresses = self._asked.get(interface, set()) | self._watched.get(interface, set())
        self._segments[interface].set_filter(sender_filter(addresses))

    def _own_address(self, interface: str) -> str:
        """An address of ours to ask with, never a VIP: a request with a VIP as sender would be a claim. 0.0.0.0 if there is none."""
        shared = {address for addresses in self._watched.values() for address in addresses}
        own = self._kernel.addresses_of(interface)
        return next((address for address in own if ":" not in address and address not in shared), "0.0.0.0")

    def _send_due(self, at_ns: int) -> None:
        for order in self._book.due_requests(at_ns):
            segment = self._segment(order.interface)
            mac = segment.mac
            error = segment.send(encode_arp(ArpPacket(BROADCAST, mac, REQUEST, mac, "0.0.0.0", order.address)))
            if error:
                self._book.failed(at_ns, order.probe_id, error)
            else:
                self._book.sent(at_ns, order.probe_id)
        for finished in self._book.finish(at_ns):
            self._emit(finished)

    def _hear(self, interface: str, captured: Captured) -> None:
        segment = self._segments[interface]
        packet = None if captured.outgoing else decode_arp(captured.data)
        if packet is None:
            segment.counters.malformed += not captured.outgoing
            return
        never_foreign = self._kernel.macs_never_foreign_on(interface)
        mac, sender = mac_text(packet.sender_mac), mac_text(packet.source)
        if mac in never_foreign or sender in never_foreign:
            return
        at_ns = now_ns()
        if packet.operation == REPLY and packet.destination in (segment.mac, BROADCAST):
            self._reference_answer(at_ns, interface, packet.sender_ip)
        gratuitous = packet.sender_ip == packet.target_ip
        if packet.operation == REPLY and not gratuitous:
            self._take_answer(interface, packet, mac, sender)
            return
        if (interface, packet.sender_ip) in self._references and packet.sender_ip not in self._watched.get(interface, ()):
            return
        if self._limiter.admits(at_ns, interface, packet.sender_ip, mac, sender):
            self._emit(OwnerClaimed(interface, packet.sender_ip, mac, sender, gratuitous=gratuitous))
        else:
            segment.counters.suppressed += 1

    def _take_answer(self, interface: str, packet: ArpPacket, mac: str, sender: str) -> None:
        """An answer to a probe repeats its sender IP 0, whether it comes to us alone or to all (RFC 5227 section 2.6). An answer to
        anything else may be a proxy's, even when our own kernel asked: it says nothing."""
        if packet.target_ip != "0.0.0.0":
            return
        for found in self._book.answered(packet.sender_ip, mac):
            self._emit(OwnerClaimed(interface, packet.sender_ip, mac, sender, found.probe_id, found.request_index))

    def _reference_answer(self, at_ns: int, interface: str, address: str) -> None:
        asked_ns = self._reference_asked_ns.get((interface, address))
        if asked_ns is not None and at_ns - asked_ns <= REFERENCE_WINDOW_NS:
            self._emit(ReferenceAnswered(self._references[interface, address]))
