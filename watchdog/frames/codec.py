"""PURE: heartbeats on datagram paths (ethernet, multicast, unicast).

    "bh" version cluster-tag(4) | node-length node | boot(8) epoch(4) sequence(4) nonce(8) receiver-nonce(8)
    hears(1) health(1) flags(4) episode(2) sent_ns(8) | bits(1) digest(4) group-count(2) mac-count(1)
    [terms(21)] mac-entries group-entries | tag(16)

All numbers are big-endian. The tag is a keyed blake2b over everything before it, bound to cluster and path name (keys.py). A frame
stays below the MTU; groups that do not fit rotate over several frames (``partial``). Version 1 has flags of two bytes and neither terms nor
macs; it is sent to a peer that knows no other, and decoded.

Every path, serial too, is used through ``PathCodec``; ``open_codec`` makes the right one.
"""

from __future__ import annotations

import struct
from typing import Protocol

from watchdog.config.model import PathKind
from watchdog.frames.errors import DecodeError, RejectReason
from watchdog.frames.group_fields import EXACT_AGES, GroupPager, pack_group, state_digest, unpack_groups
from watchdog.frames.heartbeat import VERSION, Heartbeat, LinkMac, NodeFlags, NodeTerms, check_fields
from watchdog.frames.keys import TAG_BYTES, FrameKey, cluster_tag
from watchdog.frames.node_fields import MAX_MACS, TERMS_BYTES, pack_mac, pack_terms, unpack_macs, unpack_terms
from watchdog.frames.serial_codec import SerialCodec

__all__ = ["DatagramCodec", "DecodeError", "PathCodec", "RejectReason", "open_codec", "state_digest"]

MAX_DATAGRAM_BYTES = 1400
"""Below every ethernet MTU with headers, tunnels included: a heartbeat is never fragmented."""
_MAGIC = b"bh"
_PREFIX = struct.Struct("!2sB4sB")
_FIXED = struct.Struct("!8sII8s8sBBIHQBIHB")
_FIXED_1 = struct.Struct("!8sII8s8sBBHHQBIH")
_PARTIAL, _TERMS = 0x01, 0x02
_FLAGS_1 = 0xFFFF
_MAX_NODE_BYTES = 64
_MIN_BYTES = _PREFIX.size + 1 + _FIXED_1.size + TAG_BYTES


class PathCodec(Protocol):
    """Turns heartbeats into the bytes of one path and back. It may remember what it sent or learned; it belongs to one path."""

    def encode(self, heartbeat: Heartbeat) -> bytes:
        """The frame. Raises ValueError if a field does not fit on the wire (a bug or an unchecked configuration)."""
        ...

    def decode(self, data: bytes) -> Heartbeat:
        """The heartbeat of a received frame. Raises DecodeError and nothing else."""
        ...

    behind: bool
    """Whether something that changed did not fit into the frames so far: the next one should follow as soon as the medium is free."""

    @property
    def peer_uses_second_key(self) -> bool:
        """Whether the last good frame was made with the second key of the key file: the peer has not changed over yet."""
        ...


class DatagramCodec:
    """Frames of one datagram path, in both versions."""

    def __init__(self, key: bytes, cluster: str, path: str) -> None:
        self._keys = {version: FrameKey(key, cluster, path, f"brain-datagram-{version}") for version in range(1, VERSION + 1)}
        self._cluster_tag = cluster_tag(cluster)
        self._pagers: dict[tuple[int, int], GroupPager] = {}
        self.behind = False

    @property
    def peer_uses_second_key(self) -> bool:
        """See PathCodec."""
        return any(key.second_used for key in self._keys.values())

    def encode(self, heartbeat: Heartbeat) -> bytes:
        """See PathCodec. ``partial`` and ``digest`` of ``heartbeat`` are ignored: the codec computes them."""
        check_fields(heartbeat)
        version = heartbeat.version
        node = heartbeat.node.encode()
        if not 1 <= len(node) <= _MAX_NODE_BYTES:
            raise ValueError(f"node name {heartbeat.node!r} is not 1..{_MAX_NODE_BYTES} bytes long")
        extra = self._extra(heartbeat) if version > 1 else b""
        fixed_size = (_FIXED if version > 1 else _FIXED_1).size
        room = MAX_DATAGRAM_BYTES - _PREFIX.size - len(node) - fixed_size - len(extra) - TAG_BYTES
        pager = self._pagers.setdefault((version, room), GroupPager(room, maximum=0xFFFF))
        page = pager.page(heartbeat.groups, EXACT_AGES, version)
        if page.partial:
            pager.sent(page.reports)
        self.behind = page.partial and pager.behind(heartbeat.groups)
        numbers = (
            heartbeat.boot,
            heartbeat.epoch,
            heartbeat.sequence,
            heartbeat.nonce,
            heartbeat.receiver_nonce,
            heartbeat.hears,
            heartbeat.health,
            heartbeat.flags if version > 1 else heartbeat.flags & _FLAGS_1,
            heartbeat.episode,
            heartbeat.sent_ns,
            (_PARTIAL if page.partial else 0) | (_TERMS if version > 1 and heartbeat.terms is not None else 0),
            state_digest(heartbeat.groups, version),
            len(page.reports),
        )
        fixed = _FIXED.pack(*numbers, min(len(heartbeat.macs), MAX_MACS)) if version > 1 else _FIXED_1.pack(*numbers)
        entries = b"".join([pack_group(report, EXACT_AGES, version) for report in page.reports])
        data = _PREFIX.pack(_MAGIC, version, self._cluster_tag, len(node)) + node + fixed + extra + entries
        return data + self._keys[version].tag(data)

    @staticmethod
    def _extra(heartbeat: Heartbeat) -> bytes:
        terms = b"" if heartbeat.terms is None else pack_terms(heartbeat.terms)
        return terms + b"".join([pack_mac(link) for link in heartbeat.macs[:MAX_MACS]])

    def decode(self, data: bytes) -> Heartbeat:
        """See PathCodec."""
        if not _MIN_BYTES <= len(data) <= MAX_DATAGRAM_BYTES:
            raise DecodeError(RejectReason.LENGTH, f"{len(data)} bytes")
        magic, version, cluster, node_bytes = _PREFIX.unpack_from(data)
        if magic != _MAGIC or version not in self._keys:
            raise DecodeError(RejectReason.VERSION, f"{magic!r} version {version}")
        if cluster != self._cluster_tag:
            raise DecodeError(RejectReason.WRONG_CLUSTER)
        if not self._keys[version].fits(data[:-TAG_BYTES], data[-TAG_BYTES:]):
            raise DecodeError(RejectReason.BAD_TAG)
        start = _PREFIX.size + node_bytes
        fixed = _FIXED if version > 1 else _FIXED_1
        if not 1 <= node_bytes <= _MAX_NODE_BYTES or start + fixed.size + TAG_BYTES > len(data):
            raise DecodeError(RejectReason.MALFORMED, f"node name of {node_bytes} bytes")
        try:
            node = data[_PREFIX.size : start].decode()
        except UnicodeDecodeError:
            raise DecodeError(RejectReason.MALFORMED, "node name is not UTF-8") from None
        (boot, epoch, sequence, nonce, receiver_nonce, hears, health, flags, episode, sent_ns, bits, digest, count, *mac_count) = (
            fixed.unpack_from(data, start)
        )
        terms, macs, body = self._unpack_extra(data[start + fixed.size : -TAG_BYTES], bits, mac_count[0] if mac_count else 0)
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
            groups=unpack_groups(body, count, EXACT_AGES, version, health),
            sent_ns=sent_ns,
            episode=episode,
            partial=bool(bits & _PARTIAL),
            digest=digest,
            version=version,
            terms=terms,
            macs=macs,
        )

    @staticmethod
    def _unpack_extra(body: bytes, bits: int, mac_count: int) -> tuple[NodeTerms | None, tuple[LinkMac, ...], bytes]:
        terms = None
        if bits & _TERMS:
            if len(body) < TERMS_BYTES:
                raise DecodeError(RejectReason.MALFORMED, "the terms are cut short")
            terms, body = unpack_terms(body[:TERMS_BYTES]), body[TERMS_BYTES:]
        macs, body = unpack_macs(body, mac_count)
        return terms, macs, body


def open_codec(kind: PathKind, key: bytes, cluster: str, path: str, *, node: str, peer: str) -> PathCodec:
    """The codec of a path: ``node`` is our name, ``peer`` the other's (the serial frame names nodes by one bit)."""
    if kind is PathKind.SERIAL:
        return SerialCodec(key, cluster, path, node=node, peer=peer)
    return DatagramCodec(key, cluster, path)
