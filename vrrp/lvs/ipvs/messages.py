"""The attribute map of IPVS's generic netlink family, in pyroute2's message classes (linux/ip_vs.h).

Our own map: pyroute2's has no sync daemon and no timeouts, types the netmask so that IPv6 prefixes cannot be said, and its helpers send
DEL where they say update.
"""

from __future__ import annotations

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
