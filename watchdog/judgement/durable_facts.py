"""PURE: what a new run of the watcher takes over from the runs before it: the newest NODE row of each key, as typed values.

The recorder and the simulator's disk both read them with ``durable_facts``; the core writes them with ``WatcherState.record_node``. A value
that cannot be meant (another version, damage) is read as if it were not there: no row ends a daemon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from base.core import NS_PER_MS, JsonValue
from watchdog.frames.heartbeat import LinkMac

LONGEST_MS = 24 * 3_600_000
"""No window that a person opens lasts longer: a wall clock that was set wrong must not excuse a node for years."""
MAX_KEPT = 512


@dataclass(frozen=True, slots=True)
class SavedWindow:
    """A time until which something holds. In the boot that wrote it CLOCK_BOOTTIME counts (the wall clock may be set); later only the
    wall clock can tell. ``boot`` is the boot id in hex."""

    until_wall_ns: int
    until_ns: int
    boot: str

    def until(self, now_ns: int, wall_ns: int, boot: str) -> int | None:
        """The same time by this run's CLOCK_BOOTTIME; None when it is over."""
        left_ns = self.until_ns - now_ns if boot == self.boot else self.until_wall_ns - wall_ns
        return now_ns + min(left_ns, LONGEST_MS * NS_PER_MS) if left_ns > 0 else None

    def to_json(self) -> JsonValue:
        """As the NODE row holds it."""
        return {"until_wall_ns": self.until_wall_ns, "until_ns": self.until_ns, "boot": self.boot}


@dataclass(frozen=True, slots=True)
class DurableFacts:
    """``maintenance``: of this node; ``peer_maintenance``: what the peer told of its own. ``acknowledged``: incidents that a person has
    taken (ids). ``handovers``: groups ("51/4") that an operator gave away and that this node must not take back by itself yet.
    ``turn_terms``: fingerprint of the terms that both nodes had acknowledged (turns.py). ``fence_starts``: boot id (hex) and
    CLOCK_BOOTTIME of the fences of the last hour. ``ended_in_order``: whether the last run said goodbye, None = there was none.
    ``suspect``: see suspicion.py. ``peer_gone``: see peer_gone.py. ``peer_macs``: what the peer told of its interfaces; ``reference_macs``:
    (reference, MAC) learnt while all was well."""

    maintenance: SavedWindow | None = None
    peer_maintenance: SavedWindow | None = None
    acknowledged: tuple[str, ...] = ()
    handovers: tuple[str, ...] = ()
    turn_terms: str = ""
    fence_starts: tuple[tuple[str, int], ...] = ()
    ended_in_order: bool | None = None
    suspect: bool = False
    peer_gone: bool = False
    peer_macs: tuple[LinkMac, ...] = ()
    reference_macs: tuple[tuple[str, str], ...] = ()


NOTHING_DURABLE = DurableFacts()
"""What a first run finds."""


def durable_facts(values: Mapping[str, JsonValue]) -> DurableFacts:
    """Typed facts from the newest value of every key."""
    return DurableFacts(
        maintenance=_window(values.get("maintenance")),
        peer_maintenance=_window(values.get("peer_maintenance")),
        acknowledged=_words(values.get("acknowledged")),
        handovers=_words(values.get("handovers")),
        turn_terms=_word(values.get("turn_terms")),
        fence_starts=_starts(values.get("fence_starts")),
        ended_in_order=None if not isinstance(ended := values.get("ended_in_order"), bool) else ended,
        suspect=values.get("suspect") is True,
        peer_gone=values.get("peer_gone") is True,
        peer_macs=tuple(LinkMac(name, mac) for name, mac in _pairs(values.get("peer_macs"))),
        reference_macs=_pairs(values.get("reference_macs")),
    )


def _word(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _starts(value: JsonValue) -> tuple[tuple[str, int], ...]:
    pairs = value if isinstance(value, list) else []
    good = [
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int) and 0 <= pair[1] < 1 << 63
    ]
    return tuple(good)[-MAX_KEPT:]


def _window(value: JsonValue) -> SavedWindow | None:
    if not isinstance(value, dict):
        return None
    wall_ns, until_ns, boot = value.get("until_wall_ns"), value.get("until_ns"), value.get("boot")
    if not isinstance(wall_ns, int) or not isinstance(until_ns, int) or not isinstance(boot, str) or max(wall_ns, until_ns) >= 1 << 63:
        return None
    return SavedWindow(wall_ns, until_ns, boot)


def _pairs(value: JsonValue) -> tuple[tuple[str, str], ...]:
    pairs = [_words(item) for item in value[:MAX_KEPT]] if isinstance(value, list) else []
    return tuple((pair[0], pair[1]) for pair in pairs if len(pair) == 2)


def _words(value: JsonValue) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str))[:MAX_KEPT] if isinstance(value, list) else ()
