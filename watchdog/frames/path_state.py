"""PURE: what each heartbeat path is worth right now.

``PeerSession`` (one for all paths) knows which incarnation of the peer lives and whether a frame answers *our* session.
``PathState`` (one a path) turns frames and silence into a status with hysteresis, and keeps loss, delay and reject figures.

Grades of a frame: *refused* (counted by reason, no effect) · *authentic* (key, session and sequence are right) · *proven* (it also
echoes our current nonce: it was made after our start, so it is no recording). Only proven frames make a path HEARING; frames that
are authentic and nothing more make it UNPROVEN: the peer lives but does not hear us on any path, or somebody replays.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from enum import Enum

from base.core import NS_PER_MS, NS_PER_S, JsonValue
from watchdog.frames.errors import RejectReason
from watchdog.frames.heartbeat import NO_NONCE, Heartbeat

WINDOW_FRAMES = 64
FRAMES_TO_RECOVER = 3
"""After a silence, this many proven frames in a row make a path HEARING again. Each of them is evidence of life at once."""
FLAPS = 3
FLAP_WINDOW_NS = 60 * NS_PER_S
FLAP_CALM_NS = 30 * NS_PER_S
CANDIDATE_NS = 3 * NS_PER_S
"""How long after its last frame a session that has not proved itself is still offered an echo."""
_MAX_CANDIDATES = 4
_MAX_WINDOWS = 32
_RETIRED_NONCES = 256
_FIGURE_FRAMES = 128


class PathStatus(Enum):
    """What the path is worth. FLAPPING hears the peer now but fell silent FLAPS times within a minute."""

    UNUSABLE = "unusable"
    WAITING = "waiting"
    HEARING = "hearing"
    FLAPPING = "flapping"
    UNPROVEN = "unproven"
    SILENT = "silent"

    @property
    def hears(self) -> bool:
        """True if the peer is heard, proven, now."""
        return self in (PathStatus.HEARING, PathStatus.FLAPPING)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one decoded heartbeat. ``new_session``: the peer's session was adopted with this frame. ``life``: an authentic
    frame that proves nothing, but was not heard before and names the live session or a later one: the peer lives, or somebody plays a
    recording
    once."""

    reject: RejectReason | None = None
    proven: bool = False
    new_session: bool = False
    life: bool = False

    @property
    def authentic(self) -> bool:
        """True if the frame was not refused."""
        return self.reject is None


class PeerSession:
    """Which incarnation of the peer is alive, over all paths. ``peer`` and ``node`` are names, ``nonce`` is our session.

    A session is adopted only when it echoes our nonce: a recording cannot. Until then it is a *candidate*: our frames echo it too (every
    other one), so that it can prove itself, and its frames are a sign of life and nothing more.
    """

    def __init__(self, node: str, peer: str, nonce: bytes, silent_after_ns: int) -> None:
        self._node = node
        self._peer = peer
        self._nonce = nonce
        self._silent_after_ns = silent_after_ns
        self._retired: deque[bytes] = deque(maxlen=_RETIRED_NONCES)
        self._heard_ns: int | None = None
        self._candidates: OrderedDict[bytes, int] = OrderedDict()
        self._echoes = 0
        self.boot = b""
        self.epoch = -1
        self.nonce = NO_NONCE
        """The nonce of the adopted session."""
        self.went_back = False
        """Whether the adopted session's epoch is not above that of the one before, as every start's is: the peer lost its state directory,
        or another machine took over its name."""

    def echo(self, now_ns: int) -> bytes:
        """What our next frame says as ``receiver_nonce``: the adopted session's nonce; in every other frame a candidate's, while there
        is one."""
        self._echoes += 1
        for nonce in [n for n, seen_ns in self._candidates.items() if now_ns - seen_ns > CANDIDATE_NS]:
            del self._candidates[nonce]
        alive = self._heard_ns is not None and now_ns - self._heard_ns <= self._silent_after_ns
        if self._candidates and (not alive or self._echoes % 2 == 0):
            self._candidates.move_to_end(nonce := next(iter(self._candidates)))
            return nonce
        return self.nonce

    def admit(self, now_ns: int, heartbeat: Heartbeat) -> Receipt:
        """Grade a decoded frame by its names; the path still has to check the sequence."""
        if heartbeat.node == self._node:
            return Receipt(RejectReason.OWN_FRAME)
        if heartbeat.node != self._peer:
            return Receipt(RejectReason.UNKNOWN_NODE)
        proven = heartbeat.receiver_nonce == self._nonce and self._nonce != NO_NONCE
        new = heartbeat.nonce != self.nonce
        if not new and (heartbeat.epoch != self.epoch or heartbeat.boot != self.boot):
            return Receipt(RejectReason.OLD_SESSION)
        if new and (heartbeat.nonce in self._retired or heartbeat.nonce == NO_NONCE):
            return Receipt(RejectReason.OLD_SESSION)
        if new and not proven:
            return self._candidate(now_ns, heartbeat)
        if new:
            alive = self._heard_ns is not None and now_ns - self._heard_ns <= self._silent_after_ns
            if heartbeat.epoch <= self.epoch and alive:
                return Receipt(RejectReason.OLD_SESSION)
            self._adopt(heartbeat)
        if proven:
            self._heard_ns = now_ns
        return Receipt(None, proven, new, life=True)

    def _candidate(self, now_ns: int, heartbeat: Heartbeat) -> Receipt:
        """Not the session that we know, and no proof. Of an earlier epoch it may prove itself, but is no sign of life: recordings have
        those."""
        if heartbeat.nonce not in self._candidates and len(self._candidates) >= _MAX_CANDIDATES:
            self._candidates.popitem(last=False)
        self._candidates[heartbeat.nonce] = now_ns
        return Receipt(life=heartbeat.epoch > self.epoch)

    def _adopt(self, heartbeat: Heartbeat) -> None:
        if self.nonce != NO_NONCE:
            self._retired.append(self.nonce)
        self._candidates.pop(heartbeat.nonce, None)
        self.went_back = self.epoch >= heartbeat.epoch
        self.boot, self.epoch, self.nonce = heartbeat.boot, heartbeat.epoch, heartbeat.nonce


class PathState:
    """One heartbeat path. ``name`` as configured; times in ns; ``started_ns`` is when listening began."""

    def __init__(self, name: str, silent_after_ns: int, started_ns: int) -> None:
        self.name = name
        self.status = PathStatus.WAITING
        self.hears = False
        """The bit of ``Heartbeat.hears``: the peer is heard, proven, on this path now. Kept beside ``status``: it is read all the time."""
        self.reason = "nothing heard yet"
        self.last_proven_ns: int | None = None
        self.last_authentic_ns: int | None = None
        self.rejects: Counter[RejectReason] = Counter()
        self.frames = 0
        self.peer_hears: bool | None = None
        self._silent_after_ns = silent_after_ns
        self._listening_since_ns = started_ns
        self._usable = True
        self._window = _ReplayWindow()
        self._others: OrderedDict[bytes, _ReplayWindow] = OrderedDict()
        self._figures = _Figures()
        self._in_a_row = 0
        self._announced = NO_NONCE
        self._falls: deque[int] = deque(maxlen=FLAPS)

    def accept(self, now_ns: int, heartbeat: Heartbeat, session: Receipt, *, bit: int) -> Receipt:
        """Take a decoded heartbeat that PeerSession has graded. ``bit`` is this path's place in the configured order.

        Returns the final grade. A refused frame is counted and changes nothing else.
        """
        reject = session.reject
        if reject is None and not self._window_of(heartbeat).admit(heartbeat):
            reject = RejectReason.REPLAYED
        if reject is None and session.proven:
            self._promote(heartbeat)
        if reject is not None:
            self.reject(reject)
            return Receipt(reject)
        if heartbeat.nonce != self._announced:
            self._announced = NO_NONCE
        self.frames += 1
        self._figures.add(now_ns, heartbeat)
        self.last_authentic_ns = now_ns
        if session.proven:
            self.peer_hears = bool(heartbeat.hears >> bit & 1)
            self._prove(now_ns)
        elif self.status in (PathStatus.WAITING, PathStatus.SILENT):
            self._set(PathStatus.UNPROVEN, "the peer's frames do not answer our session: it does not hear us, or they are replayed")
        return session

    def _window_of(self, heartbeat: Heartbeat) -> _ReplayWindow:
        """Sessions that have not proved themselves have windows of their own: a recording plays once and does not disturb the live
        session."""
        if heartbeat.nonce == self._window.nonce:
            return self._window
        window = self._others.setdefault(heartbeat.nonce, _ReplayWindow())
        self._others.move_to_end(heartbeat.nonce)
        while len(self._others) > _MAX_WINDOWS:
            self._others.popitem(last=False)
        return window

    def _promote(self, heartbeat: Heartbeat) -> None:
        """The session has proved itself: loss is counted in its window."""
        if heartbeat.nonce in self._others:
            self._window = self._others.pop(heartbeat.nonce)

    def reject(self, reason: RejectReason) -> None:
        """Count a frame that was refused (here or by the codec)."""
        self.rejects[reason] += 1

    def set_usable(self, now_ns: int, usable: bool, reason: str = "") -> None:
        """PathChanged: the transport can or cannot be used. Listening starts anew when it can again."""
        if usable == self._usable:
            return
        self._usable = usable
        if usable:
            self._set(PathStatus.WAITING, "the transport is usable again; nothing heard yet")
            self._listening_since_ns = now_ns
        else:
            self._fall(now_ns)
            self._set(PathStatus.UNUSABLE, reason or "the transport cannot be used")

    def expect_silence(self, session: bytes) -> None:
        """The peer said that it stops or restarts: the silence of this session of it is no fall that would make the path FLAPPING.
        NO_NONCE: it goes on after all."""
        self._announced = session

    def restart_listening(self, now_ns: int) -> None:
        """We were stalled: what we did not hear proves nothing. Nothing is called silent before a full timeout from now."""
        self._listening_since_ns = now_ns
        if self.status is PathStatus.SILENT:
            self._set(PathStatus.WAITING, "listening anew after a stall of this node")

    def on_deadline(self, now_ns: int) -> bool:
        """Let silence and calm take effect; True if the status changed."""
        deadline_ns = self.next_deadline()
        if deadline_ns is None or now_ns < deadline_ns:
            return False
        if self.status is PathStatus.FLAPPING and now_ns < self._silent_at_ns():
            self._falls.clear()
            self._set(PathStatus.HEARING, "")
            return True
        self._fall(now_ns)
        if self.last_authentic_ns is not None and now_ns - self.last_authentic_ns < self._silent_after_ns:
            self._set(PathStatus.UNPROVEN, "the peer's frames no longer answer our session: it does not hear us any more")
        else:
            waited_ms = self._silent_after_ns // NS_PER_MS
            self._set(PathStatus.SILENT, f"no frame of the peer for {waited_ms} ms")
        return True

    def next_deadline(self) -> int | None:
        """When silence or calm would change the status, or None."""
        if self.status in (PathStatus.UNUSABLE, PathStatus.SILENT):
            return None
        if self.status is PathStatus.FLAPPING:
            return min(self._silent_at_ns(), self._falls[-1] + FLAP_CALM_NS)
        return self._silent_at_ns()

    def silence_ns(self, now_ns: int) -> int | None:
        """How long this path has listened and heard no authentic frame; None if it is not usable, so its silence means nothing."""
        if not self._usable:
            return None
        return max(0, now_ns - max(self._listening_since_ns, self.last_authentic_ns or 0))

    def snapshot(self, now_ns: int) -> dict[str, JsonValue]:
        """For status and goldens; times are ages in ms."""
        loss, gap_ms, delay_ms = self._window.loss_percent, self._figures.longest_gap_ms, self._figures.delay_ms
        return {
            "name": self.name,
            "status": self.status.value,
            "reason": self.reason,
            "hears": self.hears,
            "peer_hears": self.peer_hears,
            "age_ms": None if self.last_proven_ns is None else (now_ns - self.last_proven_ns) // NS_PER_MS,
            "frames": self.frames,
            "loss_percent": loss,
            "longest_gap_ms": gap_ms,
            "delay_ms": delay_ms,
            "rejects": {reason.value: count for reason, count in sorted(self.rejects.items(), key=lambda item: item[0].value)},
        }

    def _prove(self, now_ns: int) -> None:
        if self.last_proven_ns is not None and now_ns - self.last_proven_ns > self._silent_after_ns:
            self._in_a_row = 0
        self.last_proven_ns = now_ns
        self._in_a_row += 1
        if self.status.hears or not self._usable:
            return
        if self._falls and self._in_a_row < FRAMES_TO_RECOVER:
            return
        if len(self._falls) == FLAPS and now_ns - self._falls[0] < FLAP_WINDOW_NS:
            self._set(PathStatus.FLAPPING, f"fell silent {FLAPS} times within a minute")
        else:
            self._set(PathStatus.HEARING, "")

    def _fall(self, now_ns: int) -> None:
        if self.status.hears and self._announced == NO_NONCE:
            self._falls.append(now_ns)
        self._in_a_row = 0

    def _set(self, status: PathStatus, reason: str) -> None:
        self.status = status
        self.hears = status.hears
        self.reason = reason

    def _silent_at_ns(self) -> int:
        heard_ns = self.last_authentic_ns if self.status is PathStatus.UNPROVEN else self.last_proven_ns
        return max(self._listening_since_ns, heard_ns or 0) + self._silent_after_ns


class _ReplayWindow:
    """Sliding window over the sequence numbers of one session (as in RFC 4303 section 3.4.3), and what is missing in it."""

    __slots__ = ("_highest", "_seen", "_started", "nonce")

    def __init__(self) -> None:
        self.nonce = NO_NONCE
        self._highest = 0
        self._seen = 0
        self._started = 0

    def admit(self, heartbeat: Heartbeat) -> bool:
        """True if the frame is neither a duplicate nor older than the window."""
        if heartbeat.nonce != self.nonce:
            self.nonce = heartbeat.nonce
            self._highest = heartbeat.sequence
            self._started = heartbeat.sequence
            self._seen = 1
            return True
        ahead = heartbeat.sequence - self._highest
        if ahead > 0:
            self._seen = ((self._seen << ahead) | 1) & ((1 << WINDOW_FRAMES) - 1) if ahead < WINDOW_FRAMES else 1
            self._highest = heartbeat.sequence
            return True
        if -ahead >= WINDOW_FRAMES or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        self._started = min(self._started, heartbeat.sequence)
        return True

    @property
    def loss_percent(self) -> int:
        """Share of the last WINDOW_FRAMES frames of this session that did not arrive."""
        if self.nonce == NO_NONCE:
            return 0
        expected = min(WINDOW_FRAMES, self._highest - self._started + 1)
        return round(100 * (expected - self._seen.bit_count()) / expected)


class _Figures:
    """Delay and gaps over the last frames. The clocks of the nodes differ by a constant: delay is counted above the fastest frame."""

    __slots__ = ("_boot", "_gaps_ns", "_last_ns", "_offsets_ns")

    def __init__(self) -> None:
        self._boot = b""
        self._last_ns: int | None = None
        self._offsets_ns: deque[int] = deque(maxlen=_FIGURE_FRAMES)
        self._gaps_ns: deque[int] = deque(maxlen=_FIGURE_FRAMES)

    def add(self, now_ns: int, heartbeat: Heartbeat) -> None:
        if heartbeat.boot != self._boot:
            self._boot = heartbeat.boot
            self._offsets_ns.clear()
        if self._last_ns is not None:
            self._gaps_ns.append(now_ns - self._last_ns)
        self._last_ns = now_ns
        if heartbeat.sent_ns:
            self._offsets_ns.append(now_ns - heartbeat.sent_ns)

    @property
    def longest_gap_ms(self) -> float | None:
        """The longest time between two frames: what ``silent_after_ms`` must stay well above."""
        return max(self._gaps_ns) / NS_PER_MS if self._gaps_ns else None

    @property
    def delay_ms(self) -> float | None:
        """How much slower the last frame was than the fastest of the last ones."""
        return (self._offsets_ns[-1] - min(self._offsets_ns)) / NS_PER_MS if self._offsets_ns else None
