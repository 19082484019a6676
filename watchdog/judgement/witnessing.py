"""PURE: the witness as the watcher sees it: is it there, is the turn ours, and which rule of Promise 5 counts now.

Two nodes that judge by different rules could both fence: one because it holds the lease, the other because its turn has come. So there
are three rules, and only LEASE beside TURNS is dangerous:

    LEASE   only who holds the lease begins an act
    BOTH    the lease *and* a turn by the rules without a witness are needed
    TURNS   the rules without a witness count alone

Each node shows in its frames whether the witness is out for it (WITNESS_OUT), and each frame acknowledges the newest one that its sender
accepted. A node judges by LEASE only while its flag is down and the peer has acknowledged a frame that said so, after which the peer
cannot believe that it is up; by TURNS only while its flag is up, acknowledged, and the newest frame of the peer has its flag up too; by
BOTH at any other time. That LEASE and TURNS never meet is proved by search in tests/watchdog/judgement/test_witnessing.py.

Only frames that carry their send time (every path but serial) count here: of a late serial frame nobody can say what it overtook.
"""

from __future__ import annotations

from enum import Enum

from base.core import NS_PER_MS, JsonValue
from watchdog.config.model import WitnessSettings
from watchdog.judgement.commands import ReleaseLease, RequestLease, WatcherCommand
from watchdog.judgement.events import LeaseGranted, LeaseLost, LeaseRefused, WitnessChanged

RETRY_MS = 250
"""How long after a refusal the witness is asked again while a fence is still due."""
PATIENCE_MS = 5_000
"""An answer that did not come by then is given up: the request is taken back and a new one made."""


class TurnRule(Enum):
    """Which condition of Promise 5 an act has to meet; see the module docstring."""

    LEASE = "lease"
    BOTH = "both"
    TURNS = "turns"


class WitnessRefusal(Enum):
    """Why the witness gives this node no turn now; the value is the sentence for the operator."""

    ASKED = "the witness is being asked for the turn"
    PEER_HAS_IT = "the peer holds the turn at the witness: this node gives way"
    OWN_EARLIER_TURN = "an earlier run of this node still holds the turn: it runs out by itself"
    OUT = "the witness cannot be reached, and the peer had not agreed to do without it"
    TOO_SHORT = "the lease is shorter than an act may take: raise witness.lease_ms"


class Witnessing:
    """``handle``-style methods take the witness's events; ``take_commands`` hands out what they and ``want`` asked for, in order."""

    def __init__(self, settings: WitnessSettings | None, now_ns: int, self_name: str = "") -> None:
        self._settings = settings
        self._self_name = self_name
        self.out = False
        """Our flag WITNESS_OUT."""
        self.holder = ""
        """Who has the turn, as the witness said last; "" for nobody."""
        self.detail = "not asked yet"
        self.took_ms: int | None = None
        self._since_ns = now_ns
        self._answered_ns = now_ns
        self._ever_answered = False
        self._peer_out = False
        self._peer_sent_ns = -1
        self._acknowledged_ns = -1
        self._commands: list[WatcherCommand] = []
        self._requests = 0
        self._request: int | None = None
        self._until_ns: int | None = None
        self._asked_ns: int | None = None
        self._retry_ns = now_ns
        self._wanted = False
        self._refusal = WitnessRefusal.ASKED

    # --- which rule counts ---

    @property
    def configured(self) -> bool:
        """Whether there is a witness at all."""
        return self._settings is not None

    def rule(self) -> TurnRule:
        """See the module docstring."""
        if self._settings is None:
            return TurnRule.TURNS
        acknowledged = self._acknowledged_ns > self._since_ns
        if not self.out:
            return TurnRule.LEASE if acknowledged else TurnRule.BOTH
        return TurnRule.TURNS if acknowledged and self._peer_out else TurnRule.BOTH

    def peer_said(self, sent_ns: int, out: bool) -> None:
        """A frame of the peer's present session: its send time (0 on serial) and its flag. Older than the newest one: ignored."""
        if sent_ns > self._peer_sent_ns and sent_ns > 0:
            self._peer_sent_ns, self._peer_out = sent_ns, out

    def peer_acknowledged(self, own_sent_ns: int) -> None:
        """The peer accepted our frame of that send time (this session's)."""
        self._acknowledged_ns = max(self._acknowledged_ns, own_sent_ns)

    def peer_restarted(self) -> None:
        """A new session of the peer: send times start anew, and it knows nothing that we said before; nor do we know its flag."""
        self._peer_sent_ns, self._peer_out = -1, False

    # --- is it there ---

    def changed(self, now_ns: int, event: WitnessChanged) -> bool:
        """WitnessChanged; True if our flag changed."""
        self.detail = event.detail
        if not event.up:
            return self._look(now_ns)
        self.took_ms, self.holder = event.took_ms, event.holder
        self._answered_ns, self._ever_answered = now_ns, True
        return self._set_out(now_ns, False)

    def stalled(self, now_ns: int) -> None:
        """Promise 8: what the witness answered meanwhile waits unread; its silence counts from now."""
        self._answered_ns = now_ns

    def _look(self, now_ns: int) -> bool:
        if self._settings is None or now_ns - self._answered_ns <= self._settings.silent_after_ms * NS_PER_MS:
            return False
        return self._set_out(now_ns, True)

    def _set_out(self, now_ns: int, out: bool) -> bool:
        if self.out == out:
            return False
        self.out, self._since_ns = out, now_ns
        return True

    # --- the turn ---

    def holds_lease(self, now_ns: int, needed_ms: int) -> bool:
        """Whether the turn is ours for at least ``needed_ms`` (F) from now."""
        return self._until_ns is not None and now_ns + needed_ms * NS_PER_MS <= self._until_ns

    def want(self, now_ns: int, needed_ms: int) -> WitnessRefusal | None:
        """An act is due: None if it may begin now as far as the witness is concerned; otherwise the witness is asked (again) and the
        reason is returned. Call it again whenever something changed, and ``done`` when no act is due any more."""
        self._wanted = True
        if self._settings is None or self.holds_lease(now_ns, needed_ms):
            return None
        if needed_ms > self._settings.lease_ms:
            return WitnessRefusal.TOO_SHORT
        if self._asked_ns is not None and now_ns - self._asked_ns > PATIENCE_MS * NS_PER_MS:
            self._give_up(now_ns)
        if self._asked_ns is None and now_ns >= self._retry_ns:
            self._ask(now_ns)
        return self._refusal

    def done(self, now_ns: int) -> None:
        """No act is due and none of ours can still take effect: the turn goes back."""
        self._wanted = False
        if self._request is not None:
            self._commands.append(ReleaseLease(self._request))
        self._forget(now_ns)

    def leave(self) -> None:
        """No act is due, but the last one may still take effect: the turn is kept until it runs out by itself."""
        self._wanted = False

    def granted(self, now_ns: int, event: LeaseGranted) -> None:
        """LeaseGranted; one that was given up meanwhile goes back at once."""
        if event.request != self._request:
            self._commands.append(ReleaseLease(event.request))
            return
        self._asked_ns, self._until_ns = None, event.until_ns
        self._retry_ns, self._refusal = now_ns, WitnessRefusal.ASKED

    def refused(self, now_ns: int, event: LeaseRefused) -> None:
        """LeaseRefused. What was granted before stays ours until its time."""
        if event.request != self._request:
            return
        if event.holder:
            self.holder = event.holder
        if event.holder:
            self._refusal = WitnessRefusal.OWN_EARLIER_TURN if event.holder == self._self_name else WitnessRefusal.PEER_HAS_IT
        else:
            self._refusal = WitnessRefusal.OUT
        self.detail = event.detail or self.detail
        self._asked_ns, self._retry_ns = None, now_ns + RETRY_MS * NS_PER_MS
        if self._until_ns is None or self._until_ns <= now_ns:
            self._request = self._until_ns = None

    def lost(self, now_ns: int, event: LeaseLost) -> None:
        """LeaseLost."""
        if event.request == self._request:
            self.detail = event.detail or self.detail
            self._forget(now_ns)
            self._retry_ns = now_ns + RETRY_MS * NS_PER_MS

    def _ask(self, now_ns: int) -> None:
        assert self._settings is not None
        if self._until_ns is not None and self._until_ns <= now_ns:
            self._forget(now_ns)
        if self._request is None:
            self._requests += 1
            self._request = self._requests
        self._asked_ns = now_ns
        self._commands.append(RequestLease(self._request, self._settings.lease_ms))

    def _give_up(self, now_ns: int) -> None:
        assert self._request is not None
        if self._until_ns is None or self._until_ns <= now_ns:
            self._commands.append(ReleaseLease(self._request))
            self._forget(now_ns)
        self._asked_ns, self._refusal = None, WitnessRefusal.OUT

    def _forget(self, now_ns: int) -> None:
        self._request = self._until_ns = self._asked_ns = None
        self._retry_ns, self._refusal = now_ns, WitnessRefusal.ASKED

    def take_commands(self) -> list[WatcherCommand]:
        """What is to be sent to the witness, once."""
        commands, self._commands = self._commands, []
        return commands

    # --- time and status ---

    def on_deadline(self, now_ns: int) -> bool:
        """Called when ``next_deadline`` has come; True if our flag changed."""
        return self._look(now_ns)

    def next_deadline(self, now_ns: int) -> int | None:
        """When the witness counts as out, or a turn that is wanted is to be asked for again."""
        if self._settings is None:
            return None
        times = []
        if not self.out:
            times.append(self._answered_ns + self._settings.silent_after_ms * NS_PER_MS + 1)
        if self._wanted:
            asked_ns = self._asked_ns
            times.append(self._retry_ns if asked_ns is None else asked_ns + PATIENCE_MS * NS_PER_MS + 1)
        return min((t for t in times if t > now_ns), default=None)

    def to_json(self, now_ns: int) -> JsonValue:
        """For status; None without a witness."""
        if self._settings is None:
            return None
        return {
            "kind": self._settings.kind.value,
            "answers": not self.out and self._ever_answered,
            "out": self.out,
            "peer_says_out": self._peer_out,
            "answered_ms": (now_ns - self._answered_ns) // NS_PER_MS if self._ever_answered else None,
            "took_ms": self.took_ms,
            "detail": self.detail,
            "holder": self.holder,
            "lease_ms": self._settings.lease_ms,
            "lease_left_ms": None if self._until_ns is None else max(0, (self._until_ns - now_ns) // NS_PER_MS),
            "rule": self.rule().value,
        }
