"""PURE: the layout of a shared disk and the records in its slots.

Slot 0 is the header (which cluster, which nodes); then each node has ``REGIONS`` regions of ``RING`` slots. A node writes only its own
slots, each record into the next slot of the region of its incarnation, so that a write which stalled in the storage and lands late, even
after its process is gone, never lands on a newer record. The newest valid record of a node counts; a torn one has a wrong tag and counts
for nothing, but it is a change (Observed).
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass

SLOT_BYTES = 4096
"""A multiple of every common sector size; a slot is read and written with O_DIRECT."""
RING = 4
REGIONS = 4
NODE_SLOTS = RING * REGIONS
NODE_BYTES = NODE_SLOTS * SLOT_BYTES
DISK_BYTES = SLOT_BYTES + 2 * NODE_BYTES
_MAGIC = b"brainwit"
_HEADER = struct.Struct(">8s16s")
_RECORD = struct.Struct(">8s16sBBQQI")
_TAG_BYTES = 32


class SlotError(Exception):
    """The disk does not belong to this cluster; the message says what was found and how to mend it."""


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """Orders the records of one node. ``incarnation`` rises with every process that may write, ``counter`` with every write of it."""

    incarnation: int
    counter: int


@dataclass(frozen=True, slots=True)
class Record:
    """One write of one node (``node`` 0 or 1, in the order of the names). ``claims``: it claims the turn for ``lease_ms``; otherwise it has
    given it back."""

    node: int
    stamp: Stamp
    claims: bool
    lease_ms: int


class SlotCodec:
    """Encodes and checks slots with a key derived from the cluster key: a record of another cluster, or torn, is no record."""

    def __init__(self, key: bytes, cluster: str, nodes: tuple[str, str]) -> None:
        self._key = hmac.digest(key, b"witness disk", "sha256")
        self._id = hashlib.sha256("\0".join((cluster, *sorted(nodes))).encode()).digest()[:16]

    def header(self) -> bytes:
        """Slot 0."""
        return self._sealed(_HEADER.pack(_MAGIC, self._id))

    def check_header(self, slot: bytes) -> None:
        """Raises SlotError unless slot 0 was written for this cluster."""
        if slot == self.header():
            return
        if slot[:8] != _MAGIC:
            raise SlotError("it was never formatted as a witness; brainctl witness format does it (and destroys what is on it)")
        raise SlotError("it is the witness of another cluster, or of another key or other node names; format it anew for this one")

    def encode(self, record: Record) -> bytes:
        """One slot."""
        stamp = record.stamp
        return self._sealed(_RECORD.pack(_MAGIC, self._id, record.node, record.claims, stamp.incarnation, stamp.counter, record.lease_ms))

    def newest(self, area: bytes, node: int) -> Record | None:
        """The newest intact record in the slots of ``node``; None if there is none."""
        records = [self._decode(area[at : at + SLOT_BYTES], node) for at in range(0, NODE_BYTES, SLOT_BYTES)]
        return max((r for r in records if r is not None), key=lambda r: r.stamp, default=None)

    def _decode(self, slot: bytes, node: int) -> Record | None:
        if len(slot) != SLOT_BYTES or slot[:8] != _MAGIC:
            return None
        body, tag = slot[: _RECORD.size], slot[_RECORD.size : _RECORD.size + _TAG_BYTES]
        if not hmac.compare_digest(tag, self._tag(body)):
            return None
        _, cluster, who, claims, incarnation, counter, lease_ms = _RECORD.unpack(body)
        if cluster != self._id or who != node:
            return None
        return Record(who, Stamp(incarnation, counter), bool(claims), lease_ms)

    def _sealed(self, body: bytes) -> bytes:
        return (body + self._tag(body)).ljust(SLOT_BYTES, b"\0")

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def node_offset(node: int) -> int:
    """Where the slots of a node begin, in bytes."""
    return SLOT_BYTES + node * NODE_BYTES


def slot_offset(node: int, stamp: Stamp) -> int:
    """Where a record is written, in bytes."""
    slot = (stamp.incarnation % REGIONS) * RING + stamp.counter % RING
    return node_offset(node) + slot * SLOT_BYTES
