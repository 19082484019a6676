"""PURE: heartbeats on a serial line of 9600 baud: at most 64 bytes on the wire, delimiter included.

    header (16)  version(4 bits) kind(3) sender(1) | hears | flags(2) | health | partial(1 bit) count(7) | sequence(4)
                 session(2) | receiver-nonce(4, its first bytes)
    body         [kind SESSION: boot(8) epoch(4) nonce(8)] episode(2) digest(4), then by kind
                 STATE: group-entries · TERMS: terms(21) · MAP: a description and the groups it is true of (group_map.py)
                 MAC: one interface of the sender and its link-layer address
    tag (16)     keyed blake2b over the names of the session (boot, epoch, nonce) and header and body

then COBS and one zero byte. Boot id, epoch and nonce take 20 bytes, too many for every frame: a SESSION frame tells them, at least
every fourth time, and the others name their session by two bytes *and* prove it in the tag, which covers all 20. Sender is one
bit: which of the two node names, in alphabetical order. A frame that is neither STATE nor MAP is a heartbeat with an empty page of groups.
Version 1 knows only STATE and SESSION.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

from watchdog.config.model import GroupKey
from watchdog.frames.cobs import DELIMITER, MAX_FRAME_BYTES, stuff, unstuff
from watchdog.frames.errors import DecodeError, RejectReason
from watchdog.frames.group_fields import COARSE_AGES, GroupPager, is_urgent, pack_group, state_digest, unpack_groups
from watchdog.frames.group_map import pack_map, unpack_map
from watchdog.frames.heartbeat import NO_NONCE, NONCE_BYTES, VERSION, GroupReport, Heartbeat, LinkMac, NodeFlags, NodeTerms, check_fields
from watchdog.frames.keys import TAG_BYTES, FrameKey
from watchdog.frames.node_fields import TERMS_BYTES, pack_mac, pack_terms, unpack_macs, unpack_terms

MAX_GROUPS = 6
SESSION_EVERY = 4
"""At least every fourth frame tells the session; every second one while the peer does not echo our nonce."""
TERMS_EVERY, TERMS_EVERY_URGENT = 4, 8
"""How often a frame tells the terms: more rarely while a group has something urgent to say."""
MACS_EVERY = 32
MAP_TRIES = 8
"""While the nodes' groups differ, only every so many pages of groups is a map: to find out when they agree again."""
_HEADER = struct.Struct("!BBHBBI2s4s")
_NAMES = struct.Struct("!8sI8s")
_SUMMARY = struct.Struct("!HI")
_SHORT_NONCE_BYTES = 4
_PARTIAL = 0x80
_LOW_FLAGS = 0xFFFF
_MAX_SESSIONS = 4
BODY_BYTES = MAX_FRAME_BYTES - len(DELIMITER) - 1 - _HEADER.size - _SUMMARY.size - TAG_BYTES
"""What is left for groups in one frame."""


class Kind(IntEnum):
    """What a frame is about."""

    STATE = 0
    SESSION = 1
    TERMS = 2
    MAP = 3
    MAC = 4


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


@dataclass(frozen=True, slots=True)
class _Content:
    """What follows the summary of a frame. ``count``: group entries, or bytes of the bit map."""

    kind: Kind
    data: bytes = b""
    count: int = 0
    partial: bool = True


class SerialCodec:
    """Frames of one serial line, both directions and versions. Remembers which groups it sent last and which sessions the peer told."""

    def __init__(self, key: bytes, cluster: str, path: str, *, node: str, peer: str) -> None:
        if node == peer:
            raise ValueError("the two nodes must have different names")
        self._keys = {version: FrameKey(key, cluster, path, f"brain-serial-{version}") for version in range(1, VERSION + 1)}
        self._names = sorted((node, peer))
        self._sender = self._names.index(node)
        self._pagers = {version: GroupPager(BODY_BYTES, MAX_GROUPS) for version in self._keys}
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._my_nonce = NO_NONCE
        self._echoed = False
        self._turns = dict.fromkeys(self._keys, 0)
        self._keys_of_groups: tuple[GroupKey, ...] = ()
        self._groups_agree = True
        self._pages = 0
        self.behind = False

    @property
    def peer_uses_second_key(self) -> bool:
        """See PathCodec."""
        return any(key.second_used for key in self._keys.values())

    # --- out ---

    def encode(self, heartbeat: Heartbeat) -> bytes:
        """One frame for the wire, delimiter included, at most MAX_FRAME_BYTES long. See PathCodec."""
        check_fields(heartbeat)
        version = heartbeat.version
        session = _Session(heartbeat.boot, heartbeat.epoch, heartbeat.nonce)
        if heartbeat.nonce != self._my_nonce:
            self._my_nonce, self._echoed = heartbeat.nonce, False
            self._turns = dict.fromkeys(self._turns, 0)
        groups = sorted(heartbeat.groups, key=lambda report: report.key)
        self._keys_of_groups = tuple(report.key for report in groups)
        content = self._content(heartbeat, groups)
        self._turns[version] += 1
        header = _HEADER.pack(
            version << 4 | content.kind << 1 | self._sender,
            heartbeat.hears,
            heartbeat.flags & _LOW_FLAGS,
            heartbeat.health,
            content.count | (_PARTIAL if content.partial else 0),
            heartbeat.sequence,
            session.selector,
            heartbeat.receiver_nonce[:_SHORT_NONCE_BYTES],
        )
        body = _SUMMARY.pack(heartbeat.episode, state_digest(heartbeat.groups, version)) + content.data
        frame = header + (session.names if content.kind is Kind.SESSION else b"") + body
        wire = stuff(frame + self._keys[version].tag(session.names + frame)) + DELIMITER
        assert len(wire) <= MAX_FRAME_BYTES
        return wire

    def _content(self, heartbeat: Heartbeat, groups: Sequence[GroupReport]) -> _Content:
        match self._kind(heartbeat):
            case Kind.SESSION:
                return _Content(Kind.SESSION, partial=bool(groups))
            case Kind.TERMS:
                assert heartbeat.terms is not None
                return _Content(Kind.TERMS, pack_terms(heartbeat.terms))
            case Kind.MAC:
                turn = self._turns[heartbeat.version] // MACS_EVERY
                return _Content(Kind.MAC, pack_mac(heartbeat.macs[turn % len(heartbeat.macs)]))
        return self._page(heartbeat.version, groups)

    def _kind(self, heartbeat: Heartbeat) -> Kind:
        turn = self._turns[heartbeat.version]
        urgent = any(is_urgent(report) for report in heartbeat.groups)
        if turn % (SESSION_EVERY if self._echoed or urgent else 2) == 0:
            return Kind.SESSION
        if heartbeat.version == 1:
            return Kind.STATE
        if heartbeat.macs and turn % MACS_EVERY == MACS_EVERY // 2 + 1:
            return Kind.MAC
        if heartbeat.terms is not None and turn % (TERMS_EVERY_URGENT if urgent else TERMS_EVERY) == 1:
            return Kind.TERMS
        return Kind.STATE

    def _page(self, version: int, groups: Sequence[GroupReport]) -> _Content:
        """A page of groups, or a map if that says more."""
        pager = self._pagers[version]
        self._pages += 1
        due = pager.in_order(groups)
        page = pager.page(groups, COARSE_AGES, version)
        if page.partial and version > 1 and (self._groups_agree or self._pages % MAP_TRIES == 0):
            mapped = pack_map(due[0], groups, BODY_BYTES)
            if len(mapped.reports) > len(page.reports):
                if self._groups_agree:
                    pager.sent(mapped.reports)
                self.behind = pager.behind(groups)
                return _Content(Kind.MAP, mapped.data, mapped.size)
        pager.sent(page.reports)
        self.behind = pager.behind(groups)
        entries = [pack_group(report, COARSE_AGES, version) for report in page.reports]
        return _Content(Kind.STATE, b"".join(entries), len(entries), page.partial)

    # --- in ---

    def decode(self, data: bytes) -> Heartbeat:
        """A frame as Deframer cut it (a trailing delimiter is tolerated). See PathCodec."""
        frame = self._unwrap(data)
        head, _, _, _, _, _, selector, _ = _HEADER.unpack_from(frame)
        version, number = head >> 4, head >> 1 & 7
        if version not in self._keys or number > (Kind.SESSION if version == 1 else max(Kind)):
            raise DecodeError(RejectReason.VERSION, f"version {version}, kind {number}")
        kind = Kind(number)
        if head & 1 == self._sender:
            raise DecodeError(RejectReason.OWN_FRAME)
        content, tag = frame[:-TAG_BYTES], frame[-TAG_BYTES:]
        at = _HEADER.size
        session: _Session | None
        if kind is Kind.SESSION:
            if len(content) < at + _NAMES.size + _SUMMARY.size:
                raise DecodeError(RejectReason.LENGTH, f"{len(frame)} bytes")
            session = _Session(*_NAMES.unpack_from(content, at))
            at += _NAMES.size
        else:
            session = self._sessions.get(selector)
            if session is None:
                raise DecodeError(RejectReason.UNKNOWN_SESSION)
        if not self._keys[version].fits(session.names + content, tag):
            raise DecodeError(RejectReason.BAD_TAG)
        if session.selector != selector:
            raise DecodeError(RejectReason.MALFORMED, "session selector")
        return self._read(content, at, session, version, kind)

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

    def _read(self, content: bytes, at: int, session: _Session, version: int, kind: Kind) -> Heartbeat:
        head, hears, flags, health, page, sequence, selector, short_nonce = _HEADER.unpack_from(content)
        episode, digest = _SUMMARY.unpack_from(content, at)
        body, count = content[at + _SUMMARY.size :], page & ~_PARTIAL
        groups: tuple[GroupReport, ...] = ()
        terms: NodeTerms | None = None
        macs: tuple[LinkMac, ...] = ()
        match kind:
            case Kind.TERMS:
                if len(body) != TERMS_BYTES or count:
                    raise DecodeError(RejectReason.MALFORMED, f"terms of {len(body)} bytes")
                terms = unpack_terms(body)
            case Kind.MAC:
                macs, rest = unpack_macs(body, 1)
                if rest or count:
                    raise DecodeError(RejectReason.MALFORMED, "bytes after a link-layer address")
            case Kind.MAP:
                groups = self._unpack_map(body, count)
            case _:
                groups = unpack_groups(body, count, COARSE_AGES, version, health)
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
            version=version,
            terms=terms,
            macs=macs,
        )

    def _unpack_map(self, body: bytes, size: int) -> tuple[GroupReport, ...]:
        reports = unpack_map(body, size, self._keys_of_groups)
        if self._keys_of_groups:
            self._groups_agree = reports is not None
        return reports or ()

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
