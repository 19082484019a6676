"""What the observers saw, as intervals and durations. Reads only their events; knows nothing of the daemons.

All times are CLOCK_REALTIME nanoseconds. An *owner* is a switch port whose host answers ARP probes for the VIP.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Event = dict[str, Any]

MISSED_NS = 250_000_000
"""A silence of this length ends an ownership (the detector probes every 20 ms; a busy machine may be late)."""

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Ownership:
    """``node`` answered for the VIP from its first claim at ``began_ns`` to its last answer at ``ended_ns``."""

    node: str
    began_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True)
class Split:
    """Two owners at a time. ``began_ns``: the second owner's first claim on the wire; ``ended_ns``: the last
    answer of the one that left."""

    first: str
    second: str
    began_ns: int
    ended_ns: int

    @property
    def length_ms(self) -> float:
        """How long it lasted."""
        return (self.ended_ns - self.began_ns) / NS_PER_MS


def about(events: Iterable[Event], vip: str) -> list[Event]:
    """The events that are about one of the watched addresses."""
    return [event for event in events if event.get("vip") == vip]


def ownerships(events: Sequence[Event]) -> list[Ownership]:
    """Every interval of ownership of one address, by its beginning."""
    claims: dict[str, list[int]] = {}
    answers: dict[str, list[int]] = {}
    for event in events:
        if event["kind"] == "answer":
            answers.setdefault(event["node"], []).append(event["t"])
        elif event["kind"] == "claim":
            claims.setdefault(event["node"], []).append(event["t"])
    found = []
    for node, times in answers.items():
        begin = 0
        for index in range(1, len(times) + 1):
            if index == len(times) or times[index] - times[index - 1] > MISSED_NS:
                first = times[begin]
                earlier = [t for t in claims.get(node, ()) if first - MISSED_NS <= t < first]
                found.append(Ownership(node, min(earlier, default=first), times[index - 1]))
                begin = index
    return sorted(found, key=lambda ownership: ownership.began_ns)


def splits(owned: Iterable[Ownership]) -> list[Split]:
    """Every overlap of two ownerships of different nodes, by its beginning."""
    owned = list(owned)
    found = []
    for index, one in enumerate(owned):
        for other in owned[index + 1 :]:
            if other.node != one.node and other.began_ns < one.ended_ns:
                found.append(Split(one.node, other.node, other.began_ns, min(one.ended_ns, other.ended_ns)))
    return sorted(found, key=lambda split: split.began_ns)


def owners_at(owned: Iterable[Ownership], t_ns: int) -> list[str]:
    """Who owned the VIP at an instant."""
    return sorted({ownership.node for ownership in owned if ownership.began_ns <= t_ns <= ownership.ended_ns + MISSED_NS})


def recent_owners(events: Sequence[Event], now_ns: int, vip: str, window_ns: int = 150_000_000) -> list[str]:
    """Who answered for an address within the last moments: for the live view and for waiting."""
    owners = set()
    for event in reversed(events):
        if event["t"] < now_ns - window_ns:
            break
        if event["kind"] == "answer" and event["vip"] == vip:
            owners.add(event["node"])
    return sorted(owners)


def client_owner(events: Sequence[Event], now_ns: int) -> str:
    """The node that answered the client last, or "" if none did for 300 ms."""
    for event in reversed(events[-200:]):
        if "node" in event:
            return str(event["node"]) if event["t"] > now_ns - 300_000_000 else ""
    return ""


def client_outage_ms(events: Iterable[Event], since_ns: int, until_ns: int) -> float:
    """The longest time for which the client's questions had no answer, between two instants."""
    asked = sorted(event["asked"] for event in events if "node" in event and since_ns <= event["asked"] <= until_ns)
    edges = [since_ns, *asked, until_ns]
    return max(float(later - earlier) for earlier, later in itertools.pairwise(edges)) / NS_PER_MS


def silence_ms(capture: Path, mac: str, since_ns: int, until_ns: int) -> float:
    """The longest time between two instants in which the capture (nanosecond pcap) has no frame of this sender, in ms."""
    wanted = bytes.fromhex(mac.replace(":", ""))
    edges = [since_ns, *(t for t, frame in frames(capture) if frame[6:12] == wanted and since_ns <= t <= until_ns), until_ns]
    return max(float(later - earlier) for earlier, later in itertools.pairwise(edges)) / NS_PER_MS


def frames(capture: Path) -> Iterator[tuple[int, bytes]]:
    """Every whole frame of a capture in nanosecond format, with its time; a capture may be growing."""
    data, offset = capture.read_bytes(), 24
    while offset + 16 <= len(data):
        seconds, nanoseconds, length, _ = struct.unpack_from("<IIII", data, offset)
        if offset + 16 + length > len(data):
            return
        yield seconds * 1_000_000_000 + nanoseconds, data[offset + 16 : offset + 16 + length]
        offset += 16 + length
