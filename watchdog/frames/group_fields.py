"""PURE: group reports as bytes, and the digest of a whole set of them.

One entry is 3 to 20 bytes: VRID, a byte of bits, priority, then only what is present.

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
from watchdog.frames.heartbeat import GroupReport, GroupState, YieldAnswer

_IPV6, _HELD, _SENT, _HEARD, _YIELD = 0x80, 0x08, 0x04, 0x02, 0x01
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


def pack_group(report: GroupReport, ages: AgeFormat) -> bytes:
    """One entry. Raises ValueError for a VRID, priority or yield id that does not fit on the wire."""
    key = report.key
    if not (0 <= key.vrid <= 255 and key.family in (4, 6) and 0 <= report.priority <= 255):
        raise ValueError(f"group {key} with priority {report.priority} does not fit on the wire")
    bits = (_IPV6 if key.family == 6 else 0) | (report.state << 4) | (_HELD if report.held else 0)
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
    return bytes((key.vrid, bits, report.priority)) + tail


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


def unpack_groups(data: bytes, count: int, ages: AgeFormat) -> tuple[GroupReport, ...]:
    """Exactly ``count`` entries that fill ``data`` exactly, no group twice. Raises DecodeError(MALFORMED)."""
    reader = _Reader(data)
    reports = tuple([_unpack_group(reader, ages) for _ in range(count)])
    if not reader.finished:
        raise DecodeError(RejectReason.MALFORMED, "bytes after the last group entry")
    if len({report.key for report in reports}) != count:
        raise DecodeError(RejectReason.MALFORMED, "a group is reported twice")
    return reports


def _unpack_group(reader: _Reader, ages: AgeFormat) -> GroupReport:
    vrid, bits, priority = reader.take(3)
    try:
        state = GroupState(bits >> 4 & 7)
    except ValueError:
        raise DecodeError(RejectReason.MALFORMED, f"group state {bits >> 4 & 7}") from None
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
    )


def _unpack_yield(reader: _Reader) -> tuple[int, int, YieldAnswer]:
    bits = reader.take(1)[0]
    if bits & 0xF0 or bool(bits & _ANSWER) != bool(bits >> 2):
        raise DecodeError(RejectReason.MALFORMED, f"yield bits {bits:#04x}")
    request = _U32.unpack(reader.take(4))[0] if bits & _REQUEST else 0
    answer_to = _U32.unpack(reader.take(4))[0] if bits & _ANSWER else 0
    return request, answer_to, YieldAnswer(bits >> 2)


def state_digest(groups: Iterable[GroupReport]) -> int:
    """32 bits over everything in the reports that is not an age: key, state, held, priority and yield fields.

    Independent of the order of ``groups``.
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
        for report in groups
    )
    return int.from_bytes(blake2b(b"".join(rows), digest_size=4).digest(), "big")


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

    def page(self, groups: Sequence[GroupReport], ages: AgeFormat) -> tuple[list[bytes], bool]:
        """Packed entries within the budget (bytes) and the maximum count, and whether some groups were left out."""
        packed = {report.key: pack_group(report, ages) for report in groups}
        if len(groups) <= self._maximum and sum(map(len, packed.values())) <= self._budget:
            return list(packed.values()), False
        self._turn += 1
        digests = {report.key: state_digest((report,)) for report in groups}
        self._last_sent = {key: sent for key, sent in self._last_sent.items() if key in packed}

        def order(report: GroupReport) -> tuple[bool, bool, int]:
            turn, digest = self._last_sent.get(report.key, (0, -1))
            return (not is_urgent(report), digest == digests[report.key], turn)

        entries: list[bytes] = []
        room = self._budget
        for report in sorted(groups, key=order):
            entry = packed[report.key]
            if len(entries) == self._maximum or len(entry) > room:
                break
            entries.append(entry)
            room -= len(entry)
            self._last_sent[report.key] = (self._turn, digests[report.key])
        return entries, True
