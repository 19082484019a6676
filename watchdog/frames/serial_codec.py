"""PURE: heartbeats on a serial line of 9600 baud: at most 64 bytes on the wire, delimiter included.

    header (16)  version(4 bits) kind(3) sender(1) | hears | flags(2) | health | partial(1 bit) count(7) | sequence(4)
                 session(2) | receiver-nonce(4, its first bytes)
    body         [kind SESSION: boot(8) epoch(4) nonce(8)] episode(2) digest(4) group-entries
    tag (16)     keyed blake2b over the names of the session (boot, epoch, nonce) and header and body

then COBS and one zero byte. Boot id, epoch and nonce take 20 bytes, too many for every frame: a SESSION frame tells them, at least
every fourth time, and a STATE frame names its session by two bytes *and* proves it in the tag, which covers all 20. Sender is one
bit: which of the two node names, in alphabetical order. A SESSION frame is a heartbeat with an empty page of groups.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from watchdog.frames.cobs import DELIMITER, MAX_FRAME_BYTES, stuff, unstuff
from watchdog.frames.errors import DecodeError, RejectReason
from watchdog.frames.group_fields import COARSE_AGES, GroupPager, is_urgent, state_digest, unpack_groups
from watchdog.frames.heartbeat import NO_NONCE, NONCE_BYTES, GroupReport, Heartbeat, NodeFlags, check_fields
from watchdog.frames.keys import TAG_BYTES, FrameKey

VERSION = 1
MAX_GROUPS = 6
SESSION_EVERY = 4
"""At least every fourth frame tells the session; every second one while the peer does not echo our nonce."""
_PURPOSE = "brain-serial-1"
_STATE, _SESSION = 0, 1
_HEADER = struct.Struct("!BBHBBI2s4s")
_NAMES = struct.Struct("!8sI8s")
_SUMMARY = struct.Struct("!HI")
_SHORT_NONCE_BYTES = 4
_PARTIAL = 0x80
_MAX_SESSIONS = 4
_ENTRY_BUDGET = MAX_FRAME_BYTES - len(DELIMITER) - 1 - _HEADER.size - _SUMMARY.size - TAG_BYTES


@dataclass(frozen=True, slots=True)
class _Session:
    boot: bytes
    epoch: int
    nonce: bytes

    @property
    def names(self) -> bytes:
        return _NAMES.pack(self.boot, self.epoch, self.nonce)

    @property
    def selector(self) -> bytes:
        return blake2b(self.names, digest_size=2, person=b"brain-session").digest()


class SerialCodec:
    """Frames of one serial line, both directions. Remembers which groups it sent last and which sessions the peer told."""

    def __init__(self, key: bytes, cluster: str, path: str, *, node: str, peer: str) -> None:
        if node == peer:
            raise ValueError("the two nodes must have different names")
        self._key = FrameKey(key, cluster, path, _PURPOSE)
        self._names = sorted((node, peer))
        self._sender = self._names.index(node)
        self._pager = GroupPager(_ENTRY_BUDGET, MAX_GROUPS)
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._my_nonce = NO_NONCE
        self._echoed = False
        self._turn = 0

    def encode(self, heartbeat: Heartbeat) -> bytes:
        """One frame for the wire, delimiter included, at most MAX_FRAME_BYTES long. See PathCodec."""
        check_fields(heartbeat)
        session = _Session(heartbeat.boot, heartbeat.epoch, heartbeat.nonce)
        if heartbeat.nonce != self._my_nonce:
            self._my_nonce, self._turn, self._echoed = heartbeat.nonce, 0, False
        kind = self._kind(heartbeat.groups)
        self._turn += 1
        if kind == _SESSION:
            entries: list[bytes] = []
            partial = bool(heartbeat.groups)
        else:
            entries, partial = self._pager.page(heartbeat.groups, COARSE_AGES)
        header = _HEADER.pack(
            VERSION << 4 | kind << 1 | self._sender,
            heartbeat.hears,
            heartbeat.flags,
            heartbeat.health,
            len(entries) | (_PARTIAL if partial else 0),
            heartbeat.sequence,
            session.selector,
            heartbeat.receiver_nonce[:_SHORT_NONCE_BYTES],
        )
        body = _SUMMARY.pack(heartbeat.episode, state_digest(heartbeat.groups)) + b"".join(entries)
        frame = header + (session.names if kind == _SESSION else b"") + body
        wire = stuff(frame + self._key.tag(session.names + frame)) + DELIMITER
        assert len(wire) <= MAX_FRAME_BYTES
        return wire

    def _kind(self, groups: tuple[GroupReport, ...]) -> int:
        every = SESSION_EVERY if self._echoed or any(is_urgent(report) for report in groups) else 2
        return _SESSION if self._turn % every == 0 else _STATE

    def decode(self, data: bytes) -> Heartbeat:
        """A frame as Deframer cut it (a trailing delimiter is tolerated). See PathCodec."""
        frame = self._unwrap(data)
        head, _, _, _, _, _, selector, _ = _HEADER.unpack_from(frame)
        version, kind = head >> 4, head >> 1 & 7
        if version != VERSION or kind not in (_STATE, _SESSION):
            raise DecodeError(RejectReason.VERSION, f"version {version}, kind {kind}")
        if head & 1 == self._sender:
            raise DecodeError(RejectReason.OWN_FRAME)
        content, tag = frame[:-TAG_BYTES], frame[-TAG_BYTES:]
        at = _HEADER.size
        session: _Session | None
        if kind == _SESSION:
            if len(content) < at + _NAMES.size + _SUMMARY.size:
                raise DecodeError(RejectReason.LENGTH, f"{len(frame)} bytes")
            session = _Session(*_NAMES.unpack_from(content, at))
            at += _NAMES.size
        else:
            session = self._sessions.get(selector)
            if session is None:
                raise DecodeError(RejectReason.UNKNOWN_SESSION)
        if not self._key.fits(session.names + content, tag):
            raise DecodeError(RejectReason.BAD_TAG)
        if session.selector != selector:
            raise DecodeError(RejectReason.MALFORMED, "session selector")
        return self._read(content, at, session)

    def _unwrap(self, data: bytes) -> bytes:
        data = data.removesuffix(DELIMITER)
        if len(data) >= MAX_FRAME_BYTES:
            raise DecodeError(RejectReason.LENGTH, f"{len(data)} bytes")
        frame = unstuff(data)
        if frame is None:
            raise DecodeError(RejectReason.FRAMING)
        if len(frame) < _HEADER.size + _SUMMARY.size + TAG_BYTES:
            raise DecodeError(RejectReason.LENGTH, f"{len(frame)} bytes")
        return frame

    def _read(self, content: bytes, at: int, session: _Session) -> Heartbeat:
        head, hears, flags, health, page, sequence, selector, short_nonce = _HEADER.unpack_from(content)
        episode, digest = _SUMMARY.unpack_from(content, at)
        groups = unpack_groups(content[at + _SUMMARY.size :], page & ~_PARTIAL, COARSE_AGES)
        receiver_nonce = self._full_nonce(short_nonce)
        self._remember(selector, session)
        self._echoed = receiver_nonce == self._my_nonce
        return Heartbeat(
            node=self._names[head & 1],
            boot=session.boot,
            epoch=session.epoch,
            sequence=sequence,
            nonce=session.nonce,
            receiver_nonce=receiver_nonce,
            hears=hears,
            health=health,
            flags=NodeFlags(flags),
            groups=groups,
            episode=episode,
            partial=bool(page & _PARTIAL),
            digest=digest,
        )

    def _full_nonce(self, short_nonce: bytes) -> bytes:
        """Our whole nonce if its first bytes were echoed, else something that is not our nonce."""
        if self._my_nonce != NO_NONCE and short_nonce == self._my_nonce[:_SHORT_NONCE_BYTES]:
            return self._my_nonce
        return short_nonce.ljust(NONCE_BYTES, b"\0")

    def _remember(self, selector: bytes, session: _Session) -> None:
        self._sessions[selector] = session
        self._sessions.move_to_end(selector)
        while len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
