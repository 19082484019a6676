"""PURE: one description and all the groups that it is true of, as a bit map: how a serial line names a hundred groups in one frame.

list-tag(2)  of the sender's groups in order: both nodes must have the same, or the bits mean nothing
first(1)     the bit map begins with group 8 * first
bits         most significant bit first
description  as in group_fields, without a VRID; ages are the greatest among the groups named
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from watchdog.config.model import GroupKey
from watchdog.frames.errors import DecodeError, RejectReason
from watchdog.frames.group_fields import COARSE_AGES, pack_description, unpack_description
from watchdog.frames.heartbeat import GroupReport

HEAD_BYTES = 3


def list_tag(keys: Sequence[GroupKey]) -> bytes:
    """Two bytes that are equal on both nodes when their (sorted) groups are."""
    return blake2b(b"".join([bytes((key.vrid, key.family)) for key in keys]), digest_size=2, person=b"brain-groups").digest()


def _like(report: GroupReport) -> tuple[object, ...]:
    """What must be equal for two groups to share a description."""
    return (
        report.key.family,
        report.state,
        report.held,
        report.priority,
        report.health,
        report.can_take,
        report.senior,
        report.advert_sent_age_ms is None,
        report.advert_heard_age_ms is None,
        report.advert_heard_priority,
        report.yield_request,
        report.yield_answer_to,
        report.yield_answer,
    )


@dataclass(frozen=True, slots=True)
class GroupMap:
    """``reports`` are those named by the bits; ``data`` is the whole of it on the wire, ``size`` of the bit map in bytes."""

    reports: tuple[GroupReport, ...]
    data: bytes
    size: int


def pack_map(first: GroupReport, groups: Sequence[GroupReport], budget: int) -> GroupMap:
    """A map of ``first`` and of everything like it that fits beside it. ``groups`` are all of the node's, sorted by key."""
    keys = [report.key for report in groups]
    like = [report for report in groups if _like(report) == _like(first)]
    description = pack_description(_eldest(like), COARSE_AGES)
    room = budget - HEAD_BYTES - len(description)
    needed = -(-len(groups) // 8)
    size = min(room, needed)
    at = min(keys.index(first.key) // 8, needed - size)
    named = {report.key: report for report in like}
    bits = bytearray(size)
    reports = []
    for place, key in enumerate(keys[8 * at : 8 * (at + size)]):
        if key in named:
            bits[place // 8] |= 0x80 >> place % 8
            reports.append(named[key])
    return GroupMap(tuple(reports), list_tag(keys) + bytes((at,)) + bytes(bits) + description, size)


def _eldest(like: Sequence[GroupReport]) -> GroupReport:
    """One report for all: evidence never looks fresher than it is."""
    sent = [report.advert_sent_age_ms for report in like if report.advert_sent_age_ms is not None]
    heard = [report.advert_heard_age_ms for report in like if report.advert_heard_age_ms is not None]
    return replace(like[0], advert_sent_age_ms=max(sent, default=None), advert_heard_age_ms=max(heard, default=None))


def unpack_map(data: bytes, size: int, keys: Sequence[GroupKey]) -> tuple[GroupReport, ...] | None:
    """The reports of a map, or None if the sender's groups are not ``keys`` (ours, sorted). Raises DecodeError(MALFORMED)."""
    if len(data) < HEAD_BYTES + size:
        raise DecodeError(RejectReason.MALFORMED, "a map of groups is cut short")
    report = unpack_description(data[HEAD_BYTES + size :], COARSE_AGES)
    if data[:2] != list_tag(keys):
        return None
    bits = data[HEAD_BYTES : HEAD_BYTES + size]
    reports = []
    for place in range(8 * size):
        if bits[place // 8] & 0x80 >> place % 8:
            index = 8 * data[2] + place
            if index >= len(keys) or keys[index].family != report.key.family:
                raise DecodeError(RejectReason.MALFORMED, "a map names a group that does not exist")
            reports.append(replace(report, key=keys[index]))
    return tuple(reports)
