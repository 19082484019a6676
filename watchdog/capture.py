"""The last packets that the senses heard, as bytes, so that an incident keeps what it was judged by (``brainctl explain --pcap``)."""

from __future__ import annotations

from collections import deque

from base.channel import JsonObject
from base.clock import now_ns, wall_ns
from base.core import NS_PER_S
from base.packetsocket import Captured

RING_PACKETS = 400
MAX_PACKET_BYTES = 512
BEFORE_NS = 10 * NS_PER_S
AFTER_NS = 5 * NS_PER_S
LINK_TYPE_ETHERNET = 1


class CaptureRing:
    """Bounded by count and bytes. ``open_incident`` takes what was heard before it; ``due`` what came in the seconds after."""

    def __init__(self) -> None:
        self._ring: deque[tuple[int, str, Captured]] = deque(maxlen=RING_PACKETS)
        self._waiting: dict[str, tuple[int, int]] = {}

    def note(self, interface: str, captured: Captured) -> None:
        """Remember one packet."""
        self._ring.append((now_ns(), interface, captured))

    def open_incident(self, incident: str) -> JsonObject:
        """The recorder's ``packets`` message with what was heard in the seconds before."""
        at_ns = now_ns()
        self._waiting[incident] = (at_ns, at_ns + AFTER_NS)
        return self._message(incident, at_ns - BEFORE_NS, at_ns)

    def next_deadline(self) -> int | None:
        """When the seconds after an incident's opening are over."""
        return min((until for _since, until in self._waiting.values()), default=None)

    def due(self, at_ns: int) -> list[JsonObject]:
        """The messages with what came after the opening of each incident whose time is over."""
        over = [(incident, since) for incident, (since, until) in self._waiting.items() if until <= at_ns]
        for incident, _since in over:
            del self._waiting[incident]
        return [self._message(incident, since, at_ns) for incident, since in over]

    def _message(self, incident: str, since_ns: int, until_ns: int) -> JsonObject:
        packets = [
            {
                "interface": interface,
                "direction": "out" if captured.outgoing else "in",
                "link_type": LINK_TYPE_ETHERNET,
                "at_ns": at_ns,
                "data": captured.data[:MAX_PACKET_BYTES].hex(),
            }
            for at_ns, interface, captured in self._ring
            if since_ns <= at_ns < until_ns
        ]
        return {"op": "packets", "incident": incident, "packets": packets, "wall_ns": wall_ns(), "boottime_ns": now_ns()}
