"""PURE: group reports as bytes, and the digest of a whole set of them.

One entry is 5 to 22 bytes: VRID, a byte of bits, priority, health, a second byte of bits (bit 0 = the sender can take the group), then only
what is present. Version 1 has neither health nor the second byte.

    bit 7    family (1 = IPv6)          bits 6-4  GroupState        bit 3  VIP held by the sender's kernel
    bit 2    advert sent: age           bit 1     advert heard: age and priority
    bit 0    yield: one byte (bit 0 request, bit 1 answer, bits 2-3 YieldAnswer), then u32 ids of those present
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from watchdog.config.model import GroupKey
from watchdog.frames.errors import DecodeError, RejectReason
from watchdog.frames.heartbeat import VERSION, GroupReport, GroupState, YieldAnswer

_IPV6, _HELD, _SENT, _HEARD, _YIELD = 0x80, 0x08, 0x04, 0x02, 0x01
_CAN_TAKE, _SENIOR = 0x01, 0x02
_REQUEST, _ANSWER = 0x01, 0x02
_U32 = struct.Struct("!I")
_FINE_MS, _COARSE_MS, _FINE_STEPS = 10, 100, 128
MAX_COARSE_AGE_MS = _FINE_STEPS * _FINE_MS + (255 - _FINE_STEPS) * _COARSE_MS


@dataclass(frozen=True, slots=True)
class AgeFormat:
    """How ages are written: exact milliseconds (u16) for datagrams, one byte for the serial line."""

    exact: bool

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return 2 if self.exact else 1

    def pack(self, age_ms: int) -> bytes:
        """The age, rounded *up* (evidence never looks fresher than it is) and saturated at the format's maximum."""
        age_ms = max(0, age_ms)
        if self.exact:
            return min(age_ms, 0xFFFF).to_bytes(2, "big")
        steps = -(-age_ms // _FINE_MS)
        if steps >= _FINE_STEPS:
            steps = min(255, _FINE_STEPS + -(-(age_ms - _FINE_STEPS * _FINE_MS) // _COARSE_MS))
        return bytes((steps,))

    def unpack(self, data: bytes) -> int:
        """Milliseconds; the maximum means "that old or older"."""
        value = int.from_bytes(data, "big")
        if self.exact or value < _FINE_STEPS:
            return value if self.exact else value * _FINE_MS
        return _FINE_STEPS * _FINE_MS + (value - _FINE_STEPS) * _COARSE_MS


EXACT_AGES = AgeFormat(exact=True)
COARSE_AGES = AgeFormat(exact=False)


def is_urgent(report: GroupReport) -> bool:
    """True for a report that carries a yield request or its answer: it goes first."""
    return bool(report.yield_request or report.yield_answer is not YieldAnswer.NONE)


def pack_group(report: GroupReport, ages: AgeFormat, version: int = VERSION) -> bytes:
    """One entry. Raises ValueError for a VRID, priority or yield id that does not fit on the wire."""
    if not 0 <= report.key.vrid <= 255:
        raise ValueError(f"group {report.key} does not fit on the wire")
    return bytes((report.key.vrid,)) + pack_description(report, ages, version)


def pack_description(report: GroupReport, ages: AgeFormat, version: int = VERSION) -> bytes:
    """Everything of an entry but the VRID: what several groups may have in common."""
    if not (report.key.family in (4, 6) and 0 <= report.priority <= 255 and 0 <= report.health <= 255):
        raise ValueError(f"group {report.key} with priority {report.priority} and health {report.health} does not fit on the wire")
    bits = (_IPV6 if report.key.family == 6 else 0) | (report.state << 4) | (_HELD if report.held else 0)
    tail = b""
    if report.advert_sent_age_ms is not None:
        bits |= _SENT
        tail += ages.pack(report.advert_sent_age_ms)
    if report.advert_heard_age_ms is not None:
        bits |= _HEARD
        tail += ages.pack(report.advert_heard_age_ms) + bytes(((report.advert_heard_priority or 0) & 0xFF,))
    if is_urgent(report):
        bits |= _YIELD
        tail += _pack_yield(report)
    more = (_CAN_TAKE if report.can_take else 0) | (_SENIOR if report.senior else 0)
    fitness = bytes((report.health, more)) if version > 1 else b""
    return bytes((bits, report.priority)) + fitness + tail


def _pack_yield(report: GroupReport) -> bytes:
    if not (0 <= report.yield_request <= 0xFFFFFFFF and 0 <= report.yield_answer_to <= 0xFFFFFFFF):
        raise ValueError(f"yield ids of group {report.key} do not fit into 32 bits")
    bits = (_REQUEST if report.yield_request else 0) | report.yield_answer << 2
    ids = _U32.pack(report.yield_request) if report.yield_request else b""
    if report.yield_answer is not YieldAnswer.NONE:
        bits |= _ANSWER
        ids += _U32.pack(report.yield_answer_to)
    return bytes((bits,)) + ids


class _Reader:
    """Takes bytes off the front of a body; running out of them is a malformed frame."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        chunk = self._data[self._at : self._at + count]
        if len(chunk) != count:
            raise DecodeError(RejectReason.MALFORMED, "group entries are cut short")
        self._at += count
        return chunk

    @property
    def finished(self) -> bool:
        return self._at == len(self._data)


def unpack_groups(data: bytes, count: int, ages: AgeFormat, version: int = VERSION, node_health: int = 255) -> tuple[GroupReport, ...]:
    """Exactly ``count`` entries that fill ``data`` exactly, no group twice. ``node_health`` stands for a group's own in version 1.

    Raises DecodeError(MALFORMED).
    """
    reader = _Reader(data)
    reports = tuple([_unpack_group(reader, ages, version, node_health) for _ in range(count)])
    if not reader.finished:
        raise DecodeError(RejectReason.MALFORMED, "bytes after the last group entry")
    if len({report.key for report in reports}) != count:
        raise DecodeError(RejectReason.MALFORMED, "a group is reported twice")
    return reports


def unpack_description(data: bytes, ages: AgeFormat) -> GroupReport:
    """The inverse of ``pack_description`` for bytes that hold nothing else; its key has VRID 0. Raises DecodeError(MALFORMED)."""
    reader = _Reader(data)
    report = _unpack_description(reader, 0, ages, VERSION, 0)
    if not reader.finished:
        raise DecodeError(RejectReason.MALFORMED, "bytes after the description of several groups")
    return report


def _unpack_group(reader: _Reader, ages: AgeFormat, version: int, node_health: int) -> GroupReport:
    return _unpack_description(reader, reader.take(1)[0], ages, version, node_health)


def _unpack_description(reader: _Reader, vrid: int, ages: AgeFormat, version: int, node_health: int) -> GroupReport:
    bits, priority = reader.take(2)
    try:
        state = GroupState(bits >> 4 & 7)
    except ValueError:
        raise DecodeError(RejectReason.MALFORMED, f"group state {bits >> 4 & 7}") from None
    if version > 1:
        health, more = reader.take(2)
        if more & ~(_CAN_TAKE | _SENIOR):
            raise DecodeError(RejectReason.MALFORMED, f"group bits {more:#04x}")
        can_take, senior = bool(more & _CAN_TAKE), bool(more & _SENIOR)
    else:
        health, can_take, senior = node_health, state in (GroupState.BACKUP, GroupState.MASTER), False
    sent_ms = ages.unpack(reader.take(ages.size)) if bits & _SENT else None
    heard_ms = ages.unpack(reader.take(ages.size)) if bits & _HEARD else None
    heard_priority = reader.take(1)[0] if bits & _HEARD else None
    request, answer_to, answer = _unpack_yield(reader) if bits & _YIELD else (0, 0, YieldAnswer.NONE)
    return GroupReport(
        key=GroupKey(vrid, 6 if bits & _IPV6 else 4),
        state=state,
        held=bool(bits & _HELD),
        priority=priority,
        advert_sent_age_ms=sent_ms,
        advert_heard_age_ms=heard_ms,
        advert_heard_priority=heard_priority,
        yield_request=request,
        yield_answer_to=answer_to,
        yield_answer=answer,
        health=health,
        can_take=can_take,
        senior=senior,
    )


def _unpack_yield(reader: _Reader) -> tuple[int, int, YieldAnswer]:
    bits = reader.take(1)[0]
    if bits & 0xF0 or bool(bits & _ANSWER) != bool(bits >> 2):
        raise DecodeError(RejectReason.MALFORMED, f"yield bits {bits:#04x}")
    request = _U32.unpack(reader.take(4))[0] if bits & _REQUEST else 0
    answer_to = _U32.unpack(reader.take(4))[0] if bits & _ANSWER else 0
    return request, answer_to, YieldAnswer(bits >> 2)


def state_digest(groups: Iterable[GroupReport], version: int = VERSION) -> int:
    """32 bits over everything in the reports that is not an age: key, state, held, priority, yield fields, and from version 2 on health and
    ``can_take`` and ``senior``. Independent of the order of ``groups``.
    """
    rows = sorted(
        struct.pack(
            "!BBBBBIBI",
            report.key.vrid,
            report.key.family,
            report.state,
            report.held,
            report.priority,
            report.yield_request,
            report.yield_answer,
            report.yield_answer_to if report.yield_answer else 0,
        )
        + (bytes((report.health, report.can_take | report.senior << 1)) if version > 1 else b"")
        for report in groups
    )
    return int.from_bytes(blake2b(b"".join(rows), digest_size=4).digest(), "big")


@dataclass(frozen=True, slots=True)
class Page:
    """What one frame says about groups: ``reports`` in order; ``partial``: some groups were left out."""

    reports: tuple[GroupReport, ...]
    partial: bool


class GroupPager:
    """Chooses what goes into a frame that cannot carry every group: urgent ones first, then what changed, then in rotation.

    Within ceil(groups / page) frames every group is sent once, unless urgent ones fill the frames.
    """

    __slots__ = ("_budget", "_last_sent", "_maximum", "_turn")

    def __init__(self, budget: int, maximum: int) -> None:
        self._budget = budget
        self._maximum = maximum
        self._turn = 0
        self._last_sent: dict[GroupKey, tuple[int, int]] = {}

    def page(self, groups: Sequence[GroupReport], ages: AgeFormat, version: int = VERSION) -> Page:
        """The groups that are due and fit into the budget (bytes) and the maximum count. What really goes out is told to ``sent``."""
        sizes = {report.key: len(pack_group(report, ages, version)) for report in groups}
        if len(groups) <= self._maximum and sum(sizes.values()) <= self._budget:
            return Page(tuple(groups), False)
        chosen: list[GroupReport] = []
        room = self._budget
        for report in self.in_order(groups):
            if len(chosen) == self._maximum or sizes[report.key] > room:
                break
            chosen.append(report)
            room -= sizes[report.key]
        return Page(tuple(chosen), True)

    def in_order(self, groups: Sequence[GroupReport]) -> list[GroupReport]:
        """The groups as they are due: urgent ones, changed ones, then those that were not sent for longest."""
        digests = {report.key: state_digest((report,)) for report in groups}
        self._last_sent = {key: sent for key, sent in self._last_sent.items() if key in digests}

        def order(report: GroupReport) -> tuple[bool, bool, int]:
            turn, digest = self._last_sent.get(report.key, (0, -1))
            # An urgent report that was just told stands behind one that was not: many requests must not starve each other.
            return (not is_urgent(report), digest == digests[report.key], turn)

        return sorted(groups, key=order)

    def behind(self, groups: Iterable[GroupReport]) -> bool:
        """Whether some group has changed since it was sent last: the next frame should not wait for its turn."""
        return any(self._last_sent.get(report.key, (0, -1))[1] != state_digest((report,)) for report in groups)

    def sent(self, reports: Iterable[GroupReport]) -> None:
        """These went out."""
        self._turn += 1
        for report in reports:
            self._last_sent[report.key] = (self._turn, state_digest((report,)))
