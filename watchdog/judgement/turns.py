"""PURE: whose turn it is to begin a fence when no witness says so (Promise 5; docs/adr/0210-turns-by-acknowledged-lease.md).

Rank 1 has a *lease*: s is the send time of its newest frame that rank 2 has acknowledged; an act of rank 1 must be over before s + d.
Rank 2 begins nothing earlier than d after the later of the last frame that it heard from rank 1 and its own session's start. A frame
that was acknowledged was heard, and not before it was sent: so rank 2 begins no earlier than s + d. That needs no synchronized clocks,
no guess how far apart the nodes detect a cut, and holds whatever is restarted, paused or healed for a moment.

d, rank, mode and everything else both must agree on are *terms*. They count when each has acknowledged the other's, and that is durable: a
node that comes back with other terms in the middle of a cut has no turn, nor has one whose peer's terms differ or cannot be known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from base.core import NS_PER_MS, JsonValue
from watchdog.config.model import Mode
from watchdog.frames.heartbeat import FrameId, NodeTerms

DRIFT_DIVISOR = 500
"""Two clocks may each be wrong by 0.1 %: whoever must be *finished* in time takes 0.2 % off."""
MAX_REMEMBERED = 4_096
"""Frames whose send times are kept for their acknowledgement. One that is older than that is not worth a turn."""


class TurnRefusal(Enum):
    """Why no act may begin now; the value is the sentence for the operator."""

    PEER_TOO_OLD = "the peer's braind is too old to take turns: it is watched only until both run this release"
    TERMS_UNKNOWN = "the nodes have not told each other their settings since one of them changed: none acts before they have"
    TERMS_DIFFER = "the nodes have different settings: make brain.toml equal and reload both"
    PEER_ACTS = "the peer says that it is fencing this node"
    NO_LEASE = "the peer has acknowledged nothing that this run of braind sent: only hearing it, a witness or a person can give a turn"
    LEASE_OVER = "the turn of rank 1 is over and rank 2 may be acting: only hearing the peer, a witness or a person can give a new turn"
    NOT_YET = "the turn of rank 1 is not over yet"
    SUSPECT = "this node ended without an orderly stop or was fenced, and has heard nobody since: it takes and fences nothing"


DISAGREEMENTS = frozenset({TurnRefusal.PEER_TOO_OLD, TurnRefusal.TERMS_UNKNOWN, TurnRefusal.TERMS_DIFFER, TurnRefusal.SUSPECT})
"""They forbid an act with a witness too."""


@dataclass(frozen=True, slots=True)
class OwnTerms:
    """Ours. ``digest`` of everything that must be equal on both nodes; ``delay_ms`` is d."""

    mode: Mode
    rank: int
    delay_ms: int
    digest: int

    def agrees_with(self, theirs: NodeTerms) -> bool:
        """Whether both nodes live by the same rules."""
        return (
            (self.mode, self.delay_ms, self.digest) == (theirs.mode, theirs.delay_ms, theirs.settings_digest)
            and theirs.rank != self.rank
            and theirs.rank in (1, 2)
        )

    def fingerprint(self) -> str:
        """What is kept on disk of terms that were agreed on."""
        return f"{self.mode.value}/{self.rank}/{self.delay_ms}/{self.digest:08x}"


class Turns:
    """One run of one node. All times are ns of this node's CLOCK_BOOTTIME.

    ``agreed``: the fingerprint that an earlier run left on disk ("" = none). ``acting_until_ns``: until when an act of an earlier run may
    still take effect.
    """

    def __init__(self, terms: OwnTerms, started_ns: int, *, agreed: str = "", acting_until_ns: int = 0) -> None:
        self.terms = terms
        self.peer_terms: NodeTerms | None = None
        self.peer_version: int | None = None
        self.agreed = agreed
        """The fingerprint that is, or shall be, on disk; the owner writes it down whenever it changes."""
        self._agreed_before = bool(agreed) and agreed == terms.fingerprint()
        self._told_terms = not agreed or self._agreed_before
        self._started_ns = started_ns
        self._acting_until_ns = acting_until_ns
        self._sent: dict[FrameId, int] = {}
        self._order: deque[FrameId] = deque()
        self.acknowledged_ns: int | None = None
        """s: when the newest frame that the peer has acknowledged was sent."""
        self.heard_ns: int | None = None
        """When any authentic frame of the peer arrived last."""
        self._newest: FrameId | None = None
        self._peer_acts = False
        if agreed and not self._agreed_before:
            self.agreed = ""

    # --- what we send ---

    def sent(self, now_ns: int, frame: FrameId) -> None:
        """A frame of ours leaves now."""
        self._sent[frame] = now_ns
        self._order.append(frame)
        while len(self._order) > MAX_REMEMBERED:
            del self._sent[self._order.popleft()]

    def sent_at_ns(self, frame: FrameId) -> int | None:
        """When a frame of ours left; None for one that is not remembered."""
        return self._sent.get(frame)

    def old_terms_forgotten(self) -> None:
        """It is durable that the terms of an earlier run are void: from now on ours may be acknowledged."""
        self._told_terms = True

    def acknowledges(self, now_ns: int) -> FrameId | None:
        """What our next frame acknowledges: nothing while an act of ours may still take effect, nor before it is durable that other terms
        than these are void."""
        return None if self.acting(now_ns) or not self._told_terms else self._newest

    def acting(self, now_ns: int) -> bool:
        """Whether an act of ours may still take effect."""
        return now_ns < self._acting_until_ns

    # --- what we hear ---

    def sign_of_life(self, now_ns: int) -> None:
        """An authentic frame of the peer, whatever session it names and whether or not it answers ours."""
        self.heard_ns = now_ns

    def heard(self, now_ns: int, frame: FrameId, version: int, terms: NodeTerms | None, *, acts: bool | None = None) -> None:
        """A proven frame of the peer's present session. ``acts``: it says ACTING; None = a newer frame has told that already."""
        self.heard_ns = now_ns
        self._newest = frame
        self._peer_acts = self._peer_acts if acts is None else acts
        self.peer_version = version
        if version < 2:
            self.peer_terms, self.agreed, self._agreed_before = None, "", False
            return
        if terms is None:
            return
        self.peer_terms = terms
        if not self.terms.agrees_with(terms):
            self.agreed, self._agreed_before = "", False
        elif terms.acknowledged is not None:
            sent_ns = self._sent.get(terms.acknowledged)
            if sent_ns is not None:
                self.acknowledged_ns = max(self.acknowledged_ns or 0, sent_ns)
                self.agreed, self._agreed_before = self.terms.fingerprint(), True

    def peer_restarted(self) -> None:
        """A new session of the peer was adopted: what the old one acknowledged, or said about itself, is not this one's word."""
        self.acknowledged_ns = None
        self._newest = None
        self._peer_acts = False

    # --- our own acts ---

    def act_begins(self, now_ns: int, act_ms: int) -> None:
        """A device is told now; the act has its effect or has failed for certain within ``act_ms``."""
        end_ns = now_ns + act_ms * NS_PER_MS
        self._acting_until_ns = max(self._acting_until_ns, end_ns + (end_ns - now_ns) // DRIFT_DIVISOR)

    def act_ended(self, now_ns: int) -> None:
        """It is certain that nothing can take effect any more."""
        self._acting_until_ns = min(self._acting_until_ns, now_ns)

    # --- may we? ---

    def may_begin(self, now_ns: int, act_ms: int) -> TurnRefusal | None:
        """Whether an act that is over within ``act_ms`` may begin now."""
        if self.peer_version is not None and self.peer_version < 2:
            return TurnRefusal.PEER_TOO_OLD
        if self.peer_terms is not None and not self.terms.agrees_with(self.peer_terms):
            return TurnRefusal.TERMS_DIFFER
        if not self._agreed_before:
            return TurnRefusal.TERMS_UNKNOWN
        delay_ns = self.terms.delay_ms * NS_PER_MS
        if self.terms.rank == 1:
            if self.acknowledged_ns is None:
                return TurnRefusal.NO_LEASE
            if self._peer_acts:
                return TurnRefusal.PEER_ACTS
            end_ns = now_ns + act_ms * NS_PER_MS
            return None if end_ns <= self.acknowledged_ns + delay_ns - delay_ns // DRIFT_DIVISOR else TurnRefusal.LEASE_OVER
        if now_ns >= self._second_turn_ns():
            return None
        return TurnRefusal.PEER_ACTS if self._peer_acts else TurnRefusal.NOT_YET

    def _second_turn_ns(self) -> int:
        """Rank 2: from when on it may begin. An act that the peer announced is over by then too: it fits into d."""
        return max(self._started_ns, self.heard_ns or 0) + self.terms.delay_ms * NS_PER_MS

    def next_turn_ns(self, now_ns: int) -> int | None:
        """From when on ``may_begin`` may allow what it refuses now; None if time alone brings nothing."""
        if self.terms.rank == 1 or not self._agreed_before:
            return None
        due_ns = self._second_turn_ns()
        return due_ns if due_ns > now_ns else None

    def to_json(self, now_ns: int) -> dict[str, JsonValue]:
        """For status; ages in ms."""
        lease_ns = None if self.acknowledged_ns is None else self.acknowledged_ns + self.terms.delay_ms * NS_PER_MS
        return {
            "rank": self.terms.rank,
            "delay_ms": self.terms.delay_ms,
            "agreed": self._agreed_before,
            "acting": self.acting(now_ns),
            "acknowledged_age_ms": None if self.acknowledged_ns is None else (now_ns - self.acknowledged_ns) // NS_PER_MS,
            "lease_left_ms": None if lease_ns is None else max(0, lease_ns - now_ns) // NS_PER_MS,
            "turn_in_ms": None if self.terms.rank == 1 else max(0, self._second_turn_ns() - now_ns) // NS_PER_MS,
            "peer_terms": None if self.peer_terms is None else terms_json(self.peer_terms),
            "peer_frame_version": self.peer_version,
        }


def terms_json(terms: NodeTerms) -> dict[str, JsonValue]:
    """One node's terms for status."""
    return {
        "mode": terms.mode.value,
        "rank": terms.rank,
        "delay_ms": terms.delay_ms,
        "settings_digest": f"{terms.settings_digest:08x}",
        "release": terms.release,
    }
