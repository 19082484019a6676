"""PURE: the peer as heard over the heartbeat paths: which of its incarnations lives, what it said last, on which paths."""

from __future__ import annotations

from base.core import NS_PER_MS, JsonValue
from watchdog.config.model import BrainSettings, PathKind, PathSettings
from watchdog.frames.codec import DecodeError, open_codec
from watchdog.frames.heartbeat import VERSION, FrameId, GroupReport, Heartbeat, NodeFlags
from watchdog.frames.path_state import PathState, PathStatus, PeerSession, Receipt
from watchdog.frames.peer_groups import PeerGroups
from watchdog.judgement.terms import own_terms
from watchdog.judgement.turns import Turns

MAX_SESSIONS = 16
SERIAL_LAG_MS = 300
"""A frame needs up to 66 ms on a 9600 baud line and may have waited for another: what it says is older than what a fast path said
meanwhile, so it is believed only when no fast path has spoken for this long."""


class PeerContact:
    """All heartbeat paths to the one peer. ``order`` of the paths is the configured one: it numbers the bits of ``hears``."""

    def __init__(self, settings: BrainSettings, key: bytes, nonce: bytes, now_ns: int, turns: Turns | None = None) -> None:
        self.settings = {path.name: path for path in settings.paths}
        self.order = tuple(path.name for path in settings.paths)
        names = {"node": settings.self_name, "peer": settings.peer.name}
        self._codecs = {p.name: open_codec(p.kind, key, settings.cluster, p.name, **names) for p in settings.paths}
        self.paths = {p.name: PathState(p.name, p.silent_after_ms * NS_PER_MS, now_ns) for p in settings.paths}
        self.slowest_silent_ns = max((p.silent_after_ms for p in settings.paths), default=1_000) * NS_PER_MS
        self.session = PeerSession(settings.self_name, settings.peer.name, nonce, self.slowest_silent_ns)
        self.groups = PeerGroups()
        self.turns = turns or Turns(own_terms(settings), now_ns)
        self.life_ns: int | None = None
        """When an authentic frame arrived last, proven or not: a sign of life, which stops a fence and proves nothing else."""
        self.peer_version: int | None = None
        """Of the newest authentic frame; None while there was none."""
        self.last: Heartbeat | None = None
        self.last_ns: int | None = None
        self.ever_heard = False
        self._fast_ns: int | None = None
        self._flickers = False
        self._lived = False
        self._sequences = dict.fromkeys(self.order, 0)
        self._versions: dict[bytes, int] = {}

    def receive(self, now_ns: int, name: str, data: bytes) -> tuple[Receipt | None, Heartbeat | None]:
        """A frame arrived. No receipt for what is refused; a heartbeat only if it is *proven* (nothing else is evidence) and not
        overtaken by a faster path."""
        path = self.paths.get(name)
        if path is None:
            return None, None
        try:
            heartbeat = self._codecs[name].decode(data)
        except DecodeError as error:
            path.reject(error.reason)
            return None, None
        if self._versions.get(heartbeat.nonce, heartbeat.version) > heartbeat.version:
            return None, None  # a copy in the older version, for a peer that knew no other
        receipt = path.accept(now_ns, heartbeat, self.session.admit(now_ns, heartbeat), bit=self.order.index(name))
        if not receipt.authentic:
            return None, None
        self._remember_version(heartbeat)
        if receipt.life:
            self.life_ns = now_ns
            self._lived = True
            self.turns.sign_of_life(now_ns)
        if not receipt.proven:
            return receipt, None
        if receipt.new_session:
            self.turns.peer_restarted()
        self.ever_heard = True
        self.last_ns = now_ns
        self._flickers = self._flickers or not path.hears
        overtaken = self._is_overtaken(now_ns, name, heartbeat)
        acts = None if overtaken else bool(heartbeat.flags & NodeFlags.ACTING)
        self.turns.heard(now_ns, FrameId(self.order.index(name), heartbeat.sequence), heartbeat.version, heartbeat.terms, acts=acts)
        if overtaken:
            return receipt, None
        self.groups.update(now_ns, heartbeat, name)
        self.last = heartbeat
        return receipt, heartbeat

    def _is_overtaken(self, now_ns: int, name: str, heartbeat: Heartbeat) -> bool:
        """Whether another path has brought something newer already."""
        if self.settings[name].kind is PathKind.SERIAL:
            return self._fast_ns is not None and now_ns - self._fast_ns < SERIAL_LAG_MS * NS_PER_MS
        self._fast_ns = now_ns
        return self.last is not None and self.last.nonce == heartbeat.nonce and heartbeat.sent_ns < self.last.sent_ns

    def _remember_version(self, heartbeat: Heartbeat) -> None:
        self.peer_version = heartbeat.version
        self._versions[heartbeat.nonce] = heartbeat.version
        if len(self._versions) > MAX_SESSIONS:
            del self._versions[next(iter(self._versions))]

    def lives(self, now_ns: int) -> bool:
        """Whether an authentic frame, proven or not, arrived lately: the peer's machine and its watcher run, so it is not to be fenced for
        silence."""
        return self.life_ns is not None and now_ns - self.life_ns <= self.slowest_silent_ns

    @property
    def speaks_old(self) -> bool:
        """Whether our frames must also go out in version 1: the peer knows no other, or was not heard yet."""
        return self.peer_version is None or self.peer_version < VERSION

    @property
    def peer_uses_second_key(self) -> bool:
        """While a key is changed: whether the peer still sends with the key that is our second one."""
        return any(codec.peer_uses_second_key for codec in self._codecs.values())

    def behind(self, name: str) -> bool:
        """Whether changes wait for another frame on this path."""
        return self._codecs[name].behind

    def encode(self, name: str, heartbeat: Heartbeat) -> bytes:
        """The frame for a path."""
        return self._codecs[name].encode(heartbeat)

    def answer(self, now_ns: int) -> tuple[bytes, FrameId | None]:
        """What our next frame says to the peer: the nonce that it echoes, and the frame that it acknowledges. Frames are numbered anew
        in every
        session: one that offers an echo to a session that has not proved itself acknowledges nothing."""
        nonce = self.session.echo(now_ns)
        return nonce, self.turns.acknowledges(now_ns) if nonce == self.session.nonce else None

    def next_frame(self, now_ns: int, name: str) -> FrameId:
        """The name of the frame that leaves now; counts the frames of one path from 1."""
        self._sequences[name] = (self._sequences[name] + 1) & 0xFFFFFFFF
        frame = FrameId(self.order.index(name), self._sequences[name])
        self.turns.sent(now_ns, frame)
        return frame

    def hears_mask(self) -> int:
        """On which paths we hear the peer now."""
        return sum(1 << bit for bit, name in enumerate(self.order) if self.paths[name].hears)

    def heard_paths(self) -> list[str]:
        """Names of the paths that hear the peer."""
        return [name for name in self.order if self.paths[name].hears]

    def on_a_path(self, now_ns: int) -> bool:
        """Whether the peer is heard on any path. One proven frame is enough to know that it lives, although a path that was silent
        needs several in a row before it counts as working again."""
        for path in self.paths.values():  # no generator: this is asked dozens of times per event
            if path.hears:
                return True
        return self._flicker_end_ns(now_ns) is not None

    def _flicker_ends_ns(self) -> list[int]:
        return [
            path.last_proven_ns + self.settings[path.name].silent_after_ms * NS_PER_MS
            for path in self.paths.values()
            if not path.hears and path.last_proven_ns is not None
        ]

    def _flicker_end_ns(self, now_ns: int) -> int | None:
        """Until when the last frames on paths that do not count as working (again) are a sign of life."""
        end_ns = max(self._flicker_ends_ns(), default=-1)
        return end_ns if end_ns >= now_ns else None

    def is_heard_by_peer(self) -> bool:
        """Whether the peer says that it hears us on a path on which we hear it."""
        return any(path.hears and path.peer_hears for path in self.paths.values())

    def on_every_path(self) -> bool:
        """Whether every path works in both directions: we hear the peer, and it hears us as far as it says."""
        return all(path.status is PathStatus.HEARING and path.peer_hears is not False for path in self.paths.values())

    def flags(self) -> NodeFlags:
        """What the peer last said about itself."""
        return self.last.flags if self.last is not None else NodeFlags.NONE

    def report_fresh_ns(self, path: str, partial: bool) -> int:
        """How long a report that came on ``path`` stays true; pages rotate."""
        settings = self.settings[path]
        base_ns = settings.silent_after_ms * NS_PER_MS * (4 if partial else 1)
        if not partial or settings.kind is not PathKind.SERIAL:
            return base_ns
        # A line that has many groups to tell takes its time: what it says of one is good until it has come round twice.
        slowest_ns = len(self.groups.reports) * settings.interval_ms * NS_PER_MS
        return max(base_ns, 2 * min(self.groups.round_ns, slowest_ns))

    def reports(self) -> dict[str, GroupReport]:
        """The peer's last word per group."""
        return {str(key): received.report for key, received in self.groups.reports.items()}

    def void(self, now_ns: int) -> None:
        """Promise 8: our silence was not the peer's."""
        for path in self.paths.values():
            path.restart_listening(now_ns)

    def on_deadline(self, now_ns: int) -> bool:
        """True if a path's status changed."""
        changed = [path.on_deadline(now_ns) for path in self.paths.values()]
        flickers = self._flicker_end_ns(now_ns) is not None
        changed += [flickers != self._flickers, self._lived and not self.lives(now_ns)]
        self._flickers = flickers
        self._lived = self.lives(now_ns)
        return any(changed)

    def next_deadline(self) -> int | None:
        """The next silence."""
        times = [path.next_deadline() for path in self.paths.values()]
        if self._lived and self.life_ns is not None:
            times.append(self.life_ns + self.slowest_silent_ns + 1)
        if self._flickers:
            times.append(max(self._flicker_ends_ns(), default=0) + 1)
        return min((d for d in times if d is not None), default=None)

    def to_json(self, now_ns: int) -> list[JsonValue]:
        """The paths for status, with what was configured."""
        rows: list[JsonValue] = []
        for name in self.order:
            path: PathSettings = self.settings[name]
            rows.append({**self.paths[name].snapshot(now_ns), "kind": path.kind.value, "medium": path.medium})
        return rows
