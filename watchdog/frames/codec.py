"""PURE: heartbeats on datagram paths (ethernet, multicast, unicast).

    "bh" version cluster-tag(4) | node-length node | boot(8) epoch(4) sequence(4) nonce(8) receiver-nonce(8)
    hears(1) health(1) flags(2) episode(2) sent_ns(8) | bits(1) digest(4) group-count(2) group-entries | tag(16)

All numbers are big-endian. The tag is a keyed blake2b over everything before it, bound to cluster and path name (keys.py). A frame
stays below the MTU; groups that do not fit rotate over several frames (``partial``).

Every path, serial too, is used through ``PathCodec``; ``open_codec`` makes the right one.
"""

from __future__ import annotations

import struct
from typing import Protocol

from watchdog.config.model import PathKind
from watchdog.frames.errors import DecodeError, RejectReason
from watchdog.frames.group_fields import EXACT_AGES, GroupPager, state_digest, unpack_groups
from watchdog.frames.heartbeat import Heartbeat, NodeFlags, check_fields
from watchdog.frames.keys import TAG_BYTES, FrameKey, cluster_tag
from watchdog.frames.serial_codec import SerialCodec

__all__ = ["DatagramCodec", "DecodeError", "PathCodec", "RejectReason", "open_codec", "state_digest"]

VERSION = 1
MAX_DATAGRAM_BYTES = 1400
"""Below every ethernet MTU with headers, tunnels included: a heartbeat is never fragmented."""
_MAGIC = b"bh"
_PURPOSE = "brain-datagram-1"
_PREFIX = struct.Struct("!2sB4sB")
_FIXED = struct.Struct("!8sII8s8sBBHHQBIH")
_PARTIAL = 0x01
_MAX_NODE_BYTES = 64
_MIN_BYTES = _PREFIX.size + 1 + _FIXED.size + TAG_BYTES


class PathCodec(Protocol):
    """Turns heartbeats into the bytes of one path and back. It may remember what it sent or learned; it belongs to one path."""

    def encode(self, heartbeat: Heartbeat) -> bytes:
        """The frame. Raises ValueError if a field does not fit on the wire (a bug or an unchecked configuration)."""
        ...

    def decode(self, data: bytes) -> Heartbeat:
        """The heartbeat of a received frame. Raises DecodeError and nothing else."""
        ...


class DatagramCodec:
    """Frames of one datagram path."""

    def __init__(self, key: bytes, cluster: str, path: str) -> None:
        self._key = FrameKey(key, cluster, path, _PURPOSE)
        self._cluster_tag = cluster_tag(cluster)
        self._pagers: dict[int, GroupPager] = {}

    def encode(self, heartbeat: Heartbeat) -> bytes:
        """See PathCodec. ``partial`` and ``digest`` of ``heartbeat`` are ignored: the codec computes them."""
        check_fields(heartbeat)
        node = heartbeat.node.encode()
        if not 1 <= len(node) <= _MAX_NODE_BYTES:
            raise ValueError(f"node name {heartbeat.node!r} is not 1..{_MAX_NODE_BYTES} bytes long")
        room = MAX_DATAGRAM_BYTES - _PREFIX.size - len(node) - _FIXED.size - TAG_BYTES
        pager = self._pagers.setdefault(room, GroupPager(room, maximum=0xFFFF))
        entries, partial = pager.page(heartbeat.groups, EXACT_AGES)
        fixed = _FIXED.pack(
            heartbeat.boot,
            heartbeat.epoch,
            heartbeat.sequence,
            heartbeat.nonce,
            heartbeat.receiver_nonce,
            heartbeat.hears,
            heartbeat.health,
            heartbeat.flags,
            heartbeat.episode,
            heartbeat.sent_ns,
            _PARTIAL if partial else 0,
            state_digest(heartbeat.groups),
            len(entries),
        )
        data = _PREFIX.pack(_MAGIC, VERSION, self._cluster_tag, len(node)) + node + fixed + b"".join(entries)
        return data + self._key.tag(data)

    def decode(self, data: bytes) -> Heartbeat:
        """See PathCodec."""
        if not _MIN_BYTES <= len(data) <= MAX_DATAGRAM_BYTES:
            raise DecodeError(RejectReason.LENGTH, f"{len(data)} bytes")
        magic, version, cluster, node_bytes = _PREFIX.unpack_from(data)
        if magic != _MAGIC or version != VERSION:
            raise DecodeError(RejectReason.VERSION, f"{magic!r} version {version}")
        if cluster != self._cluster_tag:
            raise DecodeError(RejectReason.WRONG_CLUSTER)
        if not self._key.fits(data[:-TAG_BYTES], data[-TAG_BYTES:]):
            raise DecodeError(RejectReason.BAD_TAG)
        start = _PREFIX.size + node_bytes
        if not 1 <= node_bytes <= _MAX_NODE_BYTES or start + _FIXED.size + TAG_BYTES > len(data):
            raise DecodeError(RejectReason.MALFORMED, f"node name of {node_bytes} bytes")
        try:
            node = data[_PREFIX.size : start].decode()
        except UnicodeDecodeError:
            raise DecodeError(RejectReason.MALFORMED, "node name is not UTF-8") from None
        (boot, epoch, sequence, nonce, receiver_nonce, hears, health, flags, episode, sent_ns, bits, digest, count) = _FIXED.unpack_from(
            data, start
        )
        groups = unpack_groups(data[start + _FIXED.size : -TAG_BYTES], count, EXACT_AGES)
        return Heartbeat(
            node=node,
            boot=boot,
            epoch=epoch,
            sequence=sequence,
            nonce=nonce,
            receiver_nonce=receiver_nonce,
            hears=hears,
            health=health,
            flags=NodeFlags(flags),
            groups=groups,
            sent_ns=sent_ns,
            episode=episode,
            partial=bool(bits & _PARTIAL),
            digest=digest,
        )


def open_codec(kind: PathKind, key: bytes, cluster: str, path: str, *, node: str, peer: str) -> PathCodec:
    """The codec of a path: ``node`` is our name, ``peer`` the other's (the serial frame names nodes by one bit)."""
    if kind is PathKind.SERIAL:
        return SerialCodec(key, cluster, path, node=node, peer=peer)
    return DatagramCodec(key, cluster, path)
