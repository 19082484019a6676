"""PURE: what a node says about itself and its rules (NodeTerms, LinkMac) as bytes.

    terms (21)   mode(1) rank(1) delay_ms(4) settings-digest(4) release(2) maintenance_left_s(4) acknowledged: path(1) sequence(4)
    macs         count(1), then each: name-length(1) name mac(6)

Path 255 acknowledges nothing.
"""

from __future__ import annotations

import struct

from watchdog.config.model import Mode
from watchdog.frames.errors import DecodeError, RejectReason
from watchdog.frames.heartbeat import MAX_PATHS, FrameId, LinkMac, NodeTerms

MAX_MACS = 16
MAX_NAME_BYTES = 15
"""Of an interface: IFNAMSIZ without its zero."""
_TERMS = struct.Struct("!BBIIHIBI")
TERMS_BYTES = _TERMS.size
_MODES = (Mode.OBSERVE, Mode.RESOLVE, Mode.STRICT)
_NOTHING = 0xFF
_MAC_BYTES = 6


def pack_terms(terms: NodeTerms) -> bytes:
    """TERMS_BYTES bytes. Raises ValueError for what does not fit."""
    acknowledged = terms.acknowledged or FrameId(_NOTHING, 0)
    try:
        return _TERMS.pack(
            _MODES.index(terms.mode),
            terms.rank,
            terms.delay_ms,
            terms.settings_digest,
            terms.release,
            min(terms.maintenance_left_s, 0xFFFFFFFF),
            acknowledged.path,
            acknowledged.sequence,
        )
    except struct.error as error:
        raise ValueError(f"{terms} does not fit on the wire: {error}") from error


def unpack_terms(data: bytes) -> NodeTerms:
    """The inverse. Raises DecodeError(MALFORMED)."""
    mode, rank, delay_ms, digest, release, maintenance_left_s, path, sequence = _TERMS.unpack(data)
    if mode >= len(_MODES) or not (path < MAX_PATHS or path == _NOTHING):
        raise DecodeError(RejectReason.MALFORMED, f"mode {mode}, acknowledged path {path}")
    acknowledged = None if path == _NOTHING else FrameId(path, sequence)
    return NodeTerms(_MODES[mode], rank, delay_ms, digest, release, maintenance_left_s, acknowledged)


def pack_mac(link: LinkMac) -> bytes:
    """One interface and its address. Raises ValueError for what does not fit."""
    name = link.interface.encode()
    mac = bytes.fromhex(link.mac.replace(":", ""))
    if not 1 <= len(name) <= MAX_NAME_BYTES or len(mac) != _MAC_BYTES:
        raise ValueError(f"{link} does not fit on the wire")
    return bytes((len(name),)) + name + mac


def unpack_macs(data: bytes, count: int) -> tuple[tuple[LinkMac, ...], bytes]:
    """``count`` entries and what follows them. Raises DecodeError(MALFORMED)."""
    links = []
    for _ in range(count):
        size = data[0] if data else 0
        name, mac = data[1 : 1 + size], data[1 + size : 1 + size + _MAC_BYTES]
        if not 1 <= size <= MAX_NAME_BYTES or len(mac) != _MAC_BYTES:
            raise DecodeError(RejectReason.MALFORMED, "link-layer addresses are cut short")
        try:
            links.append(LinkMac(name.decode(), mac.hex(":")))
        except UnicodeDecodeError:
            raise DecodeError(RejectReason.MALFORMED, "an interface name is not UTF-8") from None
        data = data[1 + size + _MAC_BYTES :]
    return tuple(links), data
