"""PURE: a pair without any fence device (Promise 3c): one named node resets itself when the other acknowledges it no longer.

The *named* node arms its hardware watchdog (W) once both nodes have acknowledged the same settings, and feeds it only while s, the send
time of its newest acknowledged frame, is younger than X: whether or not it could give its addresses up, it is gone by s + X + W. The
*other* node heard that frame at s or later, so it may count the named one gone at ``heard + X + W + margin``: only it may, and only a node
that said in an authenticated frame that it feeds (NodeFlags.SELF_FENCING). A node whose peer has stopped in order, or is proved off, feeds
without acknowledgement: nobody is left who could count.

The price: the named node alone gives no service. What it rests on: the watchdog resets a machine whose kernel hangs, and each clock is
right to 0.1 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from base.core import NS_PER_MS, JsonValue
from watchdog.config.model import SelfFenceSettings

MARGIN_MS = 1_000
"""For what lies between the decision not to feed and the driver, and for the driver's own steps."""
DRIFT_DIVISOR = 500
FEEDS_A_TIMEOUT = 4
"""How often a fed watchdog is fed within its timeout."""


class WatchdogOrder(Enum):
    """What the shell does with the device."""

    ARM = "arm"
    FEED = "feed"
    DISARM = "disarm"


@dataclass(frozen=True, slots=True)
class SelfFenceFacts:
    """What is known now. Times are CLOCK_BOOTTIME ns of this node; None = never in this run.

    ``acknowledged_ns``: send time of our newest frame that the peer has acknowledged; ``heard_ns``: the last authentic frame of the peer.
    ``agreed``: both have acknowledged the same settings. ``peer_feeds``: the newest proven frame of the peer says SELF_FENCING.
    ``peer_out``: the peer's watcher stopped in order (it counts nothing any more, and its own watchdog may be disarmed), or the peer is
    proved off. ``may_act``: mode resolve or strict. ``stopping_ns``: when this daemon began to stop in order.
    """

    acknowledged_ns: int | None
    heard_ns: int | None
    agreed: bool
    peer_feeds: bool
    peer_out: bool
    may_act: bool
    stopping_ns: int | None = None


class SelfFence:
    """One run of one node. ``settings`` None: the pair has no such arrangement, and nothing ever follows. ``armed``: an earlier run in this
    process (a reload) left the device armed."""

    def __init__(self, settings: SelfFenceSettings | None, self_name: str, *, armed: bool = False) -> None:
        self._settings = settings
        self.named = settings is not None and settings.node == self_name
        self.other = settings is not None and settings.node != self_name
        self.armed = armed
        self.starving_ns: int | None = None
        """Since when the armed watchdog is not fed any more."""
        self._feed_due_ns = 0

    @property
    def _x_ns(self) -> int:
        assert self._settings is not None
        return self._settings.after_ms * NS_PER_MS

    @property
    def _w_ns(self) -> int:
        assert self._settings is not None
        return self._settings.timeout_s * 1_000 * NS_PER_MS

    # --- the named node ---

    def orders(self, now_ns: int, facts: SelfFenceFacts) -> list[WatchdogOrder]:
        """What to do with our own device now; call it at every turn of the loop and at ``next_deadline``."""
        if not self.named:
            # A reload took the arrangement away. The peer counts on it until it has acknowledged our new settings.
            if not self.armed or facts.acknowledged_ns is None:
                return []
            self.armed = False
            return [WatchdogOrder.DISARM]
        if facts.stopping_ns is not None:
            return self._stopping(facts)
        fresh = self._fresh(now_ns, facts)
        if not self.armed:
            # Without one acknowledged exchange the other node does not count on us: arming would only cost service.
            if not (facts.may_act and facts.agreed and fresh and facts.acknowledged_ns is not None):
                return []
            self.armed, self._feed_due_ns = True, now_ns + self._w_ns // FEEDS_A_TIMEOUT
            return [WatchdogOrder.ARM]
        if not fresh:
            if self.starving_ns is None:
                self.starving_ns = now_ns
            return []
        was_starving, self.starving_ns = self.starving_ns is not None, None
        if now_ns < self._feed_due_ns and not was_starving:
            return []
        self._feed_due_ns = now_ns + self._w_ns // FEEDS_A_TIMEOUT
        return [WatchdogOrder.FEED]

    def _fresh(self, now_ns: int, facts: SelfFenceFacts) -> bool:
        if facts.peer_out:
            return True
        age_ns = None if facts.acknowledged_ns is None else now_ns - facts.acknowledged_ns
        return age_ns is not None and age_ns + age_ns // DRIFT_DIVISOR < self._x_ns

    def _stopping(self, facts: SelfFenceFacts) -> list[WatchdogOrder]:
        """An orderly stop ends the arrangement only when the other node has acknowledged a frame that said so; else it goes on counting,
        and the machine must be gone by then."""
        assert facts.stopping_ns is not None
        told = facts.acknowledged_ns is not None and facts.acknowledged_ns > facts.stopping_ns
        if not self.armed or not (told or facts.peer_out):
            return []
        self.armed = False
        return [WatchdogOrder.DISARM]

    def resets_ns(self, facts: SelfFenceFacts) -> int | None:
        """By when this machine is reset if nothing more is acknowledged; None while that does not threaten."""
        if not self.armed or facts.peer_out or facts.acknowledged_ns is None:
            return None
        return facts.acknowledged_ns + self._x_ns + self._w_ns

    # --- the other node ---

    def expires_ns(self, facts: SelfFenceFacts) -> int | None:
        """When the named peer counts as gone, if nothing more is heard of it; None while it must not be counted at all."""
        if not self.other or not (facts.agreed and facts.peer_feeds and facts.may_act) or facts.heard_ns is None or facts.peer_out:
            return None
        bound_ns = self._x_ns + self._w_ns
        return facts.heard_ns + bound_ns + bound_ns // DRIFT_DIVISOR + MARGIN_MS * NS_PER_MS

    # --- both ---

    def next_deadline(self, now_ns: int, facts: SelfFenceFacts) -> int | None:
        """When ``orders`` or ``expires_ns`` must be looked at again."""
        if self.named and self.armed and self.starving_ns is None and facts.stopping_ns is None:
            silent_ns = None if facts.peer_out or facts.acknowledged_ns is None else facts.acknowledged_ns + self._x_ns
            return self._feed_due_ns if silent_ns is None or silent_ns <= now_ns else min(self._feed_due_ns, silent_ns)
        expires_ns = self.expires_ns(facts)
        return expires_ns if expires_ns is not None and expires_ns > now_ns else None

    def to_json(self, now_ns: int, facts: SelfFenceFacts) -> JsonValue:
        """For status; None without the arrangement. Times from now in ms, negative = past."""
        if self._settings is None:
            return None

        def left_ms(at_ns: int | None) -> int | None:
            return None if at_ns is None else (at_ns - now_ns) // NS_PER_MS

        return {
            "node": self._settings.node,
            "after_ms": self._settings.after_ms,
            "timeout_s": self._settings.timeout_s,
            "armed": self.armed if self.named else facts.peer_feeds,
            "starving": self.starving_ns is not None,
            "resets_in_ms": left_ms(self.resets_ns(facts)),
            "expires_in_ms": left_ms(self.expires_ns(facts)),
        }


def bound_ms(settings: SelfFenceSettings) -> int:
    """From the last frame that the other node heard until it may count the named one gone: what ``brainctl check`` prints."""
    raw_ms = settings.after_ms + settings.timeout_s * 1_000
    return raw_ms + raw_ms // DRIFT_DIVISOR + 1 + MARGIN_MS
