"""The ownership census of one address family: what ARP and NDP have in common.

Passive: claims about watched addresses, heard on packet sockets of our own. Active: requests that no neighbour learns a wrong thing from,
answers heard for the whole window, so that the second owner is not hidden by the first. Nothing is ever answered here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from base.clock import now_ns
from base.core import NS_PER_S, JsonValue
from base.packetsocket import Captured, Instruction
from base.pump import Pump
from watchdog.config.model import LinkAddress
from watchdog.judgement.commands import ProbeOwners
from watchdog.judgement.events import OwnerClaimed, ReferenceAnswered, WatcherEvent
from watchdog.probing.kernel import KernelMonitor
from watchdog.probing.probe_book import CLAIM_INTERVAL_NS, MAX_CLAIMS_PER_INTERVAL, Limiter, ProbeBook
from watchdog.probing.segment import CHECK_INTERVAL_NS, Segment, Tap, mac_text

MAX_ASKED = 1500
REFERENCE_WINDOW_NS = 3 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Claim:
    """A packet that says "``address`` is at ``mac``" from link-layer source ``source`` (MACs are 6 bytes).

    ``answers_probe``: it can be the answer to a probe of ours. ``answers_us``: it is an answer to this host. ``asserts``: it counts as
    a claim although nobody asked; ``gratuitous`` then tells an announcement from mere use of the address.
    """

    address: str
    mac: bytes
    source: bytes
    answers_probe: bool
    answers_us: bool
    asserts: bool
    gratuitous: bool = False


class OwnerProber(ABC):
    """The census of one family on every watched interface; a part with ``next_deadline`` and ``on_deadline``."""

    family: int
    ethertype: int
    multicast_macs: tuple[bytes, ...] = ()

    def __init__(self, pump: Pump, kernel: KernelMonitor, emit: Callable[[WatcherEvent], None], tap: Tap | None = None) -> None:
        self._pump = pump
        self._tap = tap
        self._kernel = kernel
        self._emit = emit
        self._segments: dict[str, Segment] = {}
        self._watched: dict[str, set[str]] = {}
        self._asked: dict[str, set[str]] = {}
        self._references: dict[tuple[str, str], str] = {}
        self._reference_asked_ns: dict[tuple[str, str], int] = {}
        self._book = ProbeBook()
        self._limiter = Limiter(CLAIM_INTERVAL_NS, MAX_CLAIMS_PER_INTERVAL)
        self._check_ns = now_ns()

    @abstractmethod
    def _filter(self, addresses: Iterable[str]) -> list[Instruction]:
        """Accept packets that may be claims about these addresses."""

    @abstractmethod
    def _read(self, segment: Segment, frame: bytes) -> Claim | None:
        """The claim in a received frame, None if it is malformed."""

    @abstractmethod
    def _probe_frame(self, segment: Segment, address: str) -> bytes | str:
        """A request for the owners of ``address``, or why none can be made."""

    @abstractmethod
    def _reference_frame(self, segment: Segment, address: str) -> bytes | str:
        """A request to a reference target, or why none can be made."""

    def is_mine(self, address: str) -> bool:
        """True for an address of this family."""
        return (":" in address) == (self.family == 6)

    def watch(self, addresses: Iterable[LinkAddress]) -> None:
        """Listen passively for claims of these addresses, each on its link, instead of those before. Other families are left out."""
        wanted: dict[str, set[str]] = {}
        for at in addresses:
            if self.is_mine(at.address):
                wanted.setdefault(at.interface, set()).add(at.address)
        self._watched = wanted
        for interface in [name for name in self._segments if name not in wanted and not self._asked.get(name)]:
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
        frame = self._reference_frame(segment, address)
        if isinstance(frame, bytes):
            segment.send(frame)

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

            segment = Segment(self._pump, interface, self.ethertype, self._filter(()), hear, self.multicast_macs, self._tap)
            self._segments[interface] = segment
        return segment

    def _listen_for(self, interface: str, address: str) -> None:
        asked = self._asked.setdefault(interface, set())
        if address not in asked:
            if len(asked) >= MAX_ASKED:
                asked.clear()
            asked.add(address)
            self._segment(interface)
            self._refilter(interface)

    def _refilter(self, interface: str) -> None:
        self._segments[interface].set_filter(self._filter(self._heard_for(interface)))

    def _heard_for(self, interface: str) -> set[str]:
        return self._asked.get(interface, set()) | self._watched.get(interface, set())

    def _own_address(self, interface: str) -> str:
        """An address of ours to ask with, never a VIP: a request with a VIP as sender would be a claim. "" if there is none."""
        shared = self._watched.get(interface, set())
        own = self._kernel.addresses_of(interface)
        return next((address for address in own if self._can_ask_with(address) and address not in shared), "")

    def _can_ask_with(self, address: str) -> bool:
        return self.is_mine(address)

    def _send_due(self, at_ns: int) -> None:
        for order in self._book.due_requests(at_ns):
            segment = self._segment(order.interface)
            frame = self._probe_frame(segment, order.address)
            error = segment.send(frame) if isinstance(frame, bytes) else frame
            if error:
                self._book.failed(at_ns, order.probe_id, error)
            else:
                self._book.sent(at_ns, order.probe_id)
        for finished in self._book.finish(at_ns):
            self._emit(finished)

    def _hear(self, interface: str, captured: Captured) -> None:
        segment = self._segments[interface]
        if captured.outgoing:
            return
        claim = self._read(segment, captured.data)
        if claim is None:
            segment.counters.malformed += 1
            return
        if claim.address not in self._heard_for(interface):
            return
        never_foreign = self._kernel.macs_never_foreign_on(interface)
        mac, source = mac_text(claim.mac), mac_text(claim.source)
        if mac in never_foreign or source in never_foreign:
            return
        at_ns = now_ns()
        if claim.answers_us:
            self._reference_answer(at_ns, interface, claim.address, source)
        if claim.answers_probe:
            for found in self._book.answered(LinkAddress(interface, claim.address), mac):
                self._emit(OwnerClaimed(interface, claim.address, mac, source, found.probe_id, found.request_index))
        if not claim.asserts or self._is_only_reference(interface, claim.address):
            return
        if self._limiter.admits(at_ns, interface, claim.address, mac, source):
            self._emit(OwnerClaimed(interface, claim.address, mac, source, gratuitous=claim.gratuitous))
        else:
            segment.counters.suppressed += 1

    def _is_only_reference(self, interface: str, address: str) -> bool:
        return (interface, address) in self._references and address not in self._watched.get(interface, ())

    def _reference_answer(self, at_ns: int, interface: str, address: str, mac: str) -> None:
        asked_ns = self._reference_asked_ns.get((interface, address))
        if asked_ns is not None and at_ns - asked_ns <= REFERENCE_WINDOW_NS:
            self._emit(ReferenceAnswered(self._references[interface, address], mac))
