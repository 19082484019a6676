"""``encap …`` of a route: the kernel's lightweight tunnels (linux/lwtunnel.h), words as in ``ip route add … encap``.

pyroute2 knows mpls only, so the payload of RTA_ENCAP is packed here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from vrrp.config.model.routing import ENCAP_OPTIONS, TARGETED_ENCAPS

_TYPES = {"mpls": 1, "ip": 2, "ila": 3, "ip6": 4}
_TUNNEL_ATTRIBUTES = {"id": 1, "dst": 2, "src": 3, "ttl": 4, "hoplimit": 4, "tos": 5, "tc": 5, "flags": 6}
_TUNNEL_FORMATS = {"id": "!Q", "ttl": "B", "hoplimit": "B", "tos": "B", "tc": "B", "flags": "!H"}
_MPLS_LABELS, _MPLS_TTL = 1, 2
_BOTTOM_OF_STACK = 0x100
_MAX_LABEL = (1 << 20) - 1
_ILA_LOCATOR = 1
_ILA_ATTRIBUTES: dict[str, tuple[int, dict[str, int]]] = {
    "csum-mode": (7, {"adj-transport": 0, "neutral-map": 1, "no-action": 2, "neutral-map-auto": 3}),
    "ident-type": (8, {"luid": 1, "use-format": 32}),
    "hook-type": (9, {"output": 0, "input": 1}),
}


class EncapError(ValueError):
    """The words make no tunnel; the text says which and why."""


def encapsulation(words: Sequence[str]) -> tuple[int, bytes]:
    """From the words after ``encap`` to RTA_ENCAP_TYPE and the payload of RTA_ENCAP. Raises EncapError."""
    kind, *rest = words or ("",)
    if kind not in _TYPES:
        raise EncapError(f"'encap {kind}' is not supported: write encap {', '.join(_TYPES)}")
    target = rest.pop(0) if kind in TARGETED_ENCAPS and rest else ""
    if len(rest) % 2 or any(word not in ENCAP_OPTIONS[kind] for word in rest[::2]):
        raise EncapError(f"'encap {' '.join(words)}' is not understood")
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    try:
        if kind == "mpls":
            return _TYPES[kind], _mpls(target, options)
        if kind == "ila":
            return _TYPES[kind], _ila(target, options)
        return _TYPES[kind], b"".join(_tunnel_option(kind, word, value) for word, value in options.items())
    except (ValueError, KeyError, struct.error) as error:
        raise EncapError(f"'encap {' '.join(words)}': {error}") from None


def _attribute(kind: int, payload: bytes) -> bytes:
    padding = -len(payload) % 4
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(padding)


def _tunnel_option(kind: str, word: str, value: str) -> bytes:
    if word in ("dst", "src"):
        address = IPv4Address(value) if kind == "ip" else IPv6Address(value)
        return _attribute(_TUNNEL_ATTRIBUTES[word], address.packed)
    return _attribute(_TUNNEL_ATTRIBUTES[word], struct.pack(_TUNNEL_FORMATS[word], int(value, 0)))


def _mpls(target: str, options: dict[str, str]) -> bytes:
    labels = [int(label, 0) for label in target.split("/")]
    if not all(0 <= label <= _MAX_LABEL for label in labels):
        raise ValueError(f"a label is at most {_MAX_LABEL}")
    stack = [label << 12 for label in labels]
    stack[-1] |= _BOTTOM_OF_STACK
    ttl = _attribute(_MPLS_TTL, struct.pack("B", int(options["ttl"], 0))) if "ttl" in options else b""
    return _attribute(_MPLS_LABELS, struct.pack(f"!{len(stack)}I", *stack)) + ttl


def _ila(target: str, options: dict[str, str]) -> bytes:
    words = [int(word, 16) for word in target.split(":")]
    if len(words) != 4:
        raise ValueError("the locator is no 64 bits: write A:B:C:D")
    payload = _attribute(_ILA_LOCATOR, struct.pack("!4H", *words))
    for word, value in options.items():
        kind, values = _ILA_ATTRIBUTES[word]
        payload += _attribute(kind, struct.pack("B", values[value] if value in values else int(value, 0)))
    return payload
