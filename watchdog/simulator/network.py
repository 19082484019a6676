"""Ethernet segments and a serial line, with what can go wrong on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from watchdog.config.model import GroupKey
from watchdog.simulator.scheduler import Scheduler, Streams

MS = 1_000_000
US = 1_000


class Question(NamedTuple):
    """Who asked by ARP, so that the answer finds its way: ``kind`` "owner" or "reference", and which life of which process."""

    kind: str
    ident: int | str
    starts: int


class Arp(NamedTuple):
    """An ARP packet. ``what`` is "request", "reply" or "gratuitous"."""

    what: str
    address: str
    mac: str
    question: Question | None = None
    number: int = 0


class AdvertBytes(NamedTuple):
    """A VRRP packet."""

    key: GroupKey
    source_ip: str
    mac: str
    data: bytes


class Beat(NamedTuple):
    """A heartbeat datagram or frame."""

    path: str
    data: bytes


Payload: TypeAlias = Arp | AdvertBytes | Beat
Handler: TypeAlias = Callable[[str, str, Payload], None]
"""Called with (traffic class, name of the sending host, payload)."""

VRRP, FRAME, UDP, ARP = "vrrp", "frame", "udp", "arp"
"""Traffic classes: VRRP adverts, raw heartbeat frames, UDP heartbeats, ARP."""


@dataclass(slots=True)
class Impairment:
    """What a direction of a link does to traffic, in per mille and ns."""

    cut: int = 0
    drop_vrrp: int = 0
    lose_pm: int = 0
    duplicate_pm: int = 0
    corrupt_pm: int = 0
    reorder_pm: int = 0
    delay_ns: int = 0
    drop: dict[str, int] = field(default_factory=dict)
    """Path name, or "arp": how many firewalls drop it."""

    @property
    def clean(self) -> bool:
        """True when nothing but the base delay applies."""
        return not (self.lose_pm or self.duplicate_pm or self.corrupt_pm or self.reorder_pm)


@dataclass(slots=True)
class Port:
    """Where a host is plugged in. ``blocked`` counts the faults that stop it from carrying anything."""

    handler: Handler
    blocked: int = 0
    carrier: bool = True

    @property
    def carries(self) -> bool:
        """True if frames pass."""
        return self.carrier and not self.blocked


class Segment:
    """A switch with its ports. Frames take 20-120 us; every direction between two hosts has its own troubles and RNG."""

    def __init__(self, name: str, scheduler: Scheduler, streams: Streams) -> None:
        self.name = name
        self._scheduler = scheduler
        self._streams = streams
        self.ports: dict[str, Port] = {}
        self.links: dict[tuple[str, str], Impairment] = {}
        self._last_ns: dict[tuple[str, str], int] = {}

    def attach(self, host: str, handler: Handler) -> None:
        """Plug ``host`` in."""
        for other in self.ports:
            self.links[host, other] = Impairment()
            self.links[other, host] = Impairment()
        self.ports[host] = Port(handler)

    def passes(self, source: str, target: str) -> bool:
        """True if a frame sent now would not be stopped for certain (loss apart)."""
        return self.ports[source].carries and self.ports[target].carries and not self.links[source, target].cut

    def broadcast(self, source: str, kind: str, payload: Payload) -> None:
        """Send to every other port."""
        for target in self.ports:
            if target != source:
                self.send(source, target, kind, payload)

    def send(self, source: str, target: str, kind: str, payload: Payload) -> None:
        """Send one frame from ``source`` to ``target``."""
        link = self.links[source, target]
        if link.cut or (link.drop_vrrp and kind == VRRP) or not (self.ports[source].carries and self.ports[target].carries):
            return
        if link.drop and link.drop.get(payload.path if isinstance(payload, Beat) else kind):
            return
        rng = self._streams.of(f"{source}/{self.name}>{target}/{kind}")
        delay_ns = 20 * US + int(rng.random() * 100 * US) + link.delay_ns
        if not link.clean:
            if rng.random() * 1000 < link.lose_pm:
                return
            if rng.random() * 1000 < link.corrupt_pm:
                damaged = corrupt(payload, rng.random())
                if damaged is None:
                    return
                payload = damaged
            if rng.random() * 1000 < link.duplicate_pm:
                self._scheduler.after(delay_ns + int(rng.random() * 5 * MS), self._arrive, source, target, kind, payload)
            if rng.random() * 1000 < link.reorder_pm:
                self._scheduler.after(delay_ns + int(rng.random() * 300 * MS), self._arrive, source, target, kind, payload)
                return
        at_ns = max(self._scheduler.now_ns + delay_ns, self._last_ns.get((source, target), 0))
        self._last_ns[source, target] = at_ns
        self._scheduler.at(at_ns, self._arrive, source, target, kind, payload)

    def _arrive(self, source: str, target: str, kind: str, payload: Payload) -> None:
        port = self.ports[target]
        if port.carries and not self.links[source, target].cut:
            port.handler(kind, source, payload)


def flip_bit(data: bytes, draw: float) -> bytes:
    """One bit of ``data``, chosen by ``draw`` in [0, 1), is wrong."""
    bit = int(draw * len(data) * 8)
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def corrupt(payload: Payload, draw: float) -> Payload | None:
    """A payload with one wrong bit; None where a kernel throws the packet away."""
    if isinstance(payload, Arp):
        return None
    return payload._replace(data=flip_bit(payload.data, draw))


class SerialLine:
    """A null-modem cable between two hosts: paced, in order, one frame at a time and nothing queued behind stale bytes."""

    def __init__(self, ends: tuple[str, str], baud: int, scheduler: Scheduler, streams: Streams) -> None:
        self._ns_per_byte = 10 * 1_000_000_000 // baud
        self._scheduler = scheduler
        self._streams = streams
        self._busy_until_ns = dict.fromkeys(ends, 0)
        self._other = {ends[0]: ends[1], ends[1]: ends[0]}
        self.links = {end: Impairment() for end in ends}
        self.handlers: dict[str, Callable[[bytes], None]] = {}

    def passes(self, source: str) -> bool:
        """True if bytes from ``source`` reach the other end."""
        return not self.links[source].cut

    def send(self, source: str, data: bytes) -> None:
        """Put one frame on the line, or drop it when the line is still busy."""
        now_ns = self._scheduler.now_ns
        if now_ns < self._busy_until_ns[source]:
            return
        done_ns = now_ns + len(data) * self._ns_per_byte
        self._busy_until_ns[source] = done_ns
        link = self.links[source]
        rng = self._streams.of(f"{source}/serial")
        if link.cut or rng.random() * 1000 < link.lose_pm:
            return
        if rng.random() * 1000 < link.corrupt_pm:
            data = flip_bit(data, rng.random())
        self._scheduler.at(done_ns, self._arrive, source, data)
        if rng.random() * 1000 < link.duplicate_pm:
            self._scheduler.at(done_ns + MS, self._arrive, source, data)

    def _arrive(self, source: str, data: bytes) -> None:
        if not self.links[source].cut:
            self.handlers[self._other[source]](data)
