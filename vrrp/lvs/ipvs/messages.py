"""The attribute map of IPVS's generic netlink family, in pyroute2's message classes (linux/ip_vs.h), and how answers are read.

Our own map: pyroute2's has no sync daemon and no timeouts, types the netmask so that IPv6 prefixes cannot be said, and its helpers send
DEL where they say update.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

from pyroute2.netlink import genlmsg, nla

FAMILY_NAME = "IPVS"
FAMILY_VERSION = 1

NEW_SERVICE, SET_SERVICE, DEL_SERVICE, GET_SERVICE = 1, 2, 3, 4
NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 5, 6, 7, 8
NEW_DAEMON, DEL_DAEMON, GET_DAEMON = 9, 10, 11
SET_CONFIG, GET_CONFIG = 12, 13
GET_INFO = 15
ZERO, FLUSH = 16, 17

Attributes = list[tuple[str, Any]]
"""(name, value) pairs; the value of a nested attribute is ``{"attrs": Attributes}``."""


def _counters(kind: str) -> tuple[tuple[str, str], ...]:
    names = ("CONNS", "INPKTS", "OUTPKTS", "INBYTES", "OUTBYTES", "CPS", "INPPS", "OUTPPS", "INBPS", "OUTBPS")
    return (("IPVS_STATS_ATTR_UNSPEC", "none"), *((f"IPVS_STATS_ATTR_{name}", kind) for name in names), ("IPVS_STATS_ATTR_PAD", "none"))


class IpvsMessage(genlmsg):  # type: ignore[misc]
    """One command or answer. Addresses, flags and masks are raw bytes: what they mean depends on the family (``translation``)."""

    prefix = "IPVS_CMD_ATTR_"
    nla_map = (
        ("IPVS_CMD_ATTR_UNSPEC", "none"),
        ("IPVS_CMD_ATTR_SERVICE", "service"),
        ("IPVS_CMD_ATTR_DEST", "destination"),
        ("IPVS_CMD_ATTR_DAEMON", "daemon"),
        ("IPVS_CMD_ATTR_TIMEOUT_TCP", "uint32"),
        ("IPVS_CMD_ATTR_TIMEOUT_TCP_FIN", "uint32"),
        ("IPVS_CMD_ATTR_TIMEOUT_UDP", "uint32"),
    )

    class service(nla):  # type: ignore[misc]  # noqa: N801  (pyroute2 finds it by the name in the map)
        """A virtual service."""

        prefix = "IPVS_SVC_ATTR_"
        nla_map = (
            ("IPVS_SVC_ATTR_UNSPEC", "none"),
            ("IPVS_SVC_ATTR_AF", "uint16"),
            ("IPVS_SVC_ATTR_PROTOCOL", "uint16"),
            ("IPVS_SVC_ATTR_ADDR", "cdata"),
            ("IPVS_SVC_ATTR_PORT", "be16"),
            ("IPVS_SVC_ATTR_FWMARK", "uint32"),
            ("IPVS_SVC_ATTR_SCHED_NAME", "asciiz"),
            ("IPVS_SVC_ATTR_FLAGS", "cdata"),
            ("IPVS_SVC_ATTR_TIMEOUT", "uint32"),
            ("IPVS_SVC_ATTR_NETMASK", "cdata"),
            ("IPVS_SVC_ATTR_STATS", "cdata"),
            ("IPVS_SVC_ATTR_PE_NAME", "asciiz"),
            ("IPVS_SVC_ATTR_STATS64", "counters"),
        )

        class counters(nla):  # type: ignore[misc]  # noqa: N801
            """64-bit statistics."""

            nla_map = _counters("uint64")

    class destination(nla):  # type: ignore[misc]  # noqa: N801
        """A real server."""

        prefix = "IPVS_DEST_ATTR_"
        nla_map = (
            ("IPVS_DEST_ATTR_UNSPEC", "none"),
            ("IPVS_DEST_ATTR_ADDR", "cdata"),
            ("IPVS_DEST_ATTR_PORT", "be16"),
            ("IPVS_DEST_ATTR_FWD_METHOD", "uint32"),
            ("IPVS_DEST_ATTR_WEIGHT", "uint32"),
            ("IPVS_DEST_ATTR_U_THRESH", "uint32"),
            ("IPVS_DEST_ATTR_L_THRESH", "uint32"),
            ("IPVS_DEST_ATTR_ACTIVE_CONNS", "uint32"),
            ("IPVS_DEST_ATTR_INACT_CONNS", "uint32"),
            ("IPVS_DEST_ATTR_PERSIST_CONNS", "uint32"),
            ("IPVS_DEST_ATTR_STATS", "cdata"),
            ("IPVS_DEST_ATTR_ADDR_FAMILY", "uint16"),
            ("IPVS_DEST_ATTR_STATS64", "counters"),
            ("IPVS_DEST_ATTR_TUN_TYPE", "uint8"),
            ("IPVS_DEST_ATTR_TUN_PORT", "be16"),
            ("IPVS_DEST_ATTR_TUN_FLAGS", "uint16"),
        )

        class counters(nla):  # type: ignore[misc]  # noqa: N801
            """64-bit statistics."""

            nla_map = _counters("uint64")

    class daemon(nla):  # type: ignore[misc]  # noqa: N801
        """A connection synchronisation daemon."""

        prefix = "IPVS_DAEMON_ATTR_"
        nla_map = (
            ("IPVS_DAEMON_ATTR_UNSPEC", "none"),
            ("IPVS_DAEMON_ATTR_STATE", "uint32"),
            ("IPVS_DAEMON_ATTR_MCAST_IFN", "asciiz"),
            ("IPVS_DAEMON_ATTR_SYNC_ID", "uint32"),
            ("IPVS_DAEMON_ATTR_SYNC_MAXLEN", "uint16"),
            ("IPVS_DAEMON_ATTR_MCAST_GROUP", "cdata"),
            ("IPVS_DAEMON_ATTR_MCAST_GROUP6", "cdata"),
            ("IPVS_DAEMON_ATTR_MCAST_PORT", "uint16"),
            ("IPVS_DAEMON_ATTR_MCAST_TTL", "uint8"),
        )


class IpvsInfo(genlmsg):  # type: ignore[misc]
    """The answer to GET_INFO."""

    nla_map = (
        ("IPVS_INFO_ATTR_UNSPEC", "none"),
        ("IPVS_INFO_ATTR_VERSION", "uint32"),
        ("IPVS_INFO_ATTR_CONN_TAB_SIZE", "uint32"),
    )


def encode(family_id: int, command: int, attributes: Attributes, flags: int, sequence: int) -> bytes:
    """One netlink message. ``flags``: NLM_F_..."""
    message = IpvsMessage()
    message["cmd"] = command
    message["version"] = FAMILY_VERSION
    message["header"]["type"] = family_id
    message["header"]["flags"] = flags
    message["header"]["sequence_number"] = sequence
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data)


# ---- answers ---------------------------------------------------------------------------------------------------------------------------
# Read by the same map but not by pyroute2, which needs 0.8 ms for one service with its destination: the table is read every few seconds,
# and nothing else happens in the process meanwhile.

_HEADERS = 20
"""Of netlink (16 bytes) and generic netlink (4)."""
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF


def _integer(layout: str) -> Callable[[bytes], int]:
    size = struct.calcsize(layout)
    return lambda raw: int(struct.unpack(layout, raw[:size])[0])


_READERS: dict[str, Callable[[bytes], Any]] = {
    "none": lambda raw: None,
    "cdata": lambda raw: raw,
    "asciiz": lambda raw: raw.rstrip(b"\0").decode("ascii", "replace"),
    "uint8": _integer("=B"),
    "uint16": _integer("=H"),
    "be16": _integer("!H"),
    "uint32": _integer("=I"),
    "uint64": _integer("=Q"),
}


class Nest:
    """The attributes of one level of an answer; they are read when asked for."""

    __slots__ = ("_layout", "_raw")

    def __init__(self, message_class: Any, raw: bytes) -> None:
        self._layout = _layout(message_class)
        self._raw: dict[int, bytes] = {}
        at = 0
        while at + _ATTRIBUTE.size <= len(raw):
            length, kind = _ATTRIBUTE.unpack_from(raw, at)
            if length < _ATTRIBUTE.size:
                return
            self._raw[kind & _TYPE_MASK] = raw[at + _ATTRIBUTE.size : at + length]
            at += (length + 3) & ~3

    def get_attr(self, name: str) -> Any:
        """The value of an attribute, None if it is not there."""
        number, read = self._layout[name]
        raw = self._raw.get(number)
        return None if raw is None else read(raw)


@functools.cache
def _layout(message_class: Any) -> dict[str, tuple[int, Callable[[bytes], Any]]]:
    """Number and reader of every attribute in a class's map."""
    return {
        name: (number, _READERS[kind] if kind in _READERS else functools.partial(Nest, getattr(message_class, kind)))
        for number, (name, kind) in enumerate(message_class.nla_map)
    }


def decode(raw: bytes, message_class: Any = IpvsMessage) -> Nest:
    """One answer of the kernel, with its netlink header."""
    return Nest(message_class, raw[_HEADERS:])
