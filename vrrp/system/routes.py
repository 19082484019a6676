"""Routes and policy rules as netlink messages, encoded by pyroute2's classes.

As keepalived: protocol 18 (``keepalived``) on everything that is tracked, scope ``global`` also for a route without gateway.
An add message asks for an acknowledgement: the kernel's answer (0, or EEXIST for the very same route) tells whether it was there.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import nh, rtmsg

from vrrp.config.model.common import Family
from vrrp.config.model.daemon import GlobalDefs
from vrrp.config.model.routing import NextHop, Route, Rule
from vrrp.system.lwtunnel import EncapError, encapsulation

RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTM_NEWRULE, RTM_DELRULE = 32, 33
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x1, 0x4, 0x200, 0x400, 0x800
RTPROT_KEEPALIVED = 18
RT_SCOPE_LINK, RT_SCOPE_HOST = 253, 254
RTNH_F_ONLINK = 4
RTAX_FEATURE_ECN = 1
FIB_RULE_INVERT = 2
_MAIN_TABLE = 254
_HEADER = struct.Struct("=IHHII")
_KINDS = {
    "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5,
    "blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9, "nat": 10,
}  # fmt: skip
_SCOPE_OF_KIND = {
    "local": RT_SCOPE_HOST, "nat": RT_SCOPE_HOST,
    "broadcast": RT_SCOPE_LINK, "multicast": RT_SCOPE_LINK, "anycast": RT_SCOPE_LINK,
}  # fmt: skip
_METRICS = {
    "mtu": 2, "window": 3, "rtt": 4, "rttvar": 5, "ssthresh": 6, "cwnd": 7, "advmss": 8, "reordering": 9, "hoplimit": 10,
    "initcwnd": 11, "features": 12, "rto_min": 13, "initrwnd": 14, "quickack": 15, "fastopen_no_cookie": 17,
}  # fmt: skip
_TIME_UNITS = {"rtt": 8, "rttvar": 4, "rto_min": 1}
"""What a metric with the suffix ms or s is multiplied with (iproute2)."""
_PREFERENCES = {"low": 3, "medium": 0, "high": 1}
_RULE_ACTIONS = {"goto": 2, "nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}
_KNOWN_NAMES: dict[str, dict[str, int]] = {
    "rt_tables": {"unspec": 0, "default": 253, "main": _MAIN_TABLE, "local": 255},
    "rt_scopes": {"global": 0, "nowhere": 255, "host": RT_SCOPE_HOST, "link": RT_SCOPE_LINK, "site": 200},
    "rt_protos": {"unspec": 0, "redirect": 1, "kernel": 2, "boot": 3, "static": 4, "ra": 9, "keepalived": RTPROT_KEEPALIVED},
    "rt_dsfield": {},
    "rt_realms": {"cosmos": 0},
    "group": {"default": 0},
}
NAME_DIRECTORIES = ("/etc/iproute2", "/usr/share/iproute2", "/usr/lib/iproute2")

IndexOf = Callable[[str], int | None]
"""Interface name → index, None if there is no such interface."""


class CannotEncode(ValueError):
    """This line cannot be put into the kernel; the text says which word and why."""


class NoInterface(CannotEncode):
    """An interface of the line does not exist now."""


def name_directories(settings: GlobalDefs) -> tuple[str, ...]:
    """Where iproute2 keeps its names, the directory that wins first."""
    etc, *usr = NAME_DIRECTORIES
    return (settings.iproute_etc_dir or etc, *([settings.iproute_usr_dir] if settings.iproute_usr_dir else usr))


_ATTRIBUTES = (
    *rtmsg.nla_map[:22],
    ("RTA_ENCAP", "hex"),
    *rtmsg.nla_map[23:24],
    ("RTA_PAD", "hex"),
    ("RTA_UID", "uint32"),
    ("RTA_TTL_PROPAGATE", "uint8"),
)
"""pyroute2's, with those that it does not know yet, and the tunnels as bytes (lwtunnel)."""


class _Metrics(rtmsg.metrics):  # type: ignore[misc]
    prefix = "RTAX_"
    nla_map = (*rtmsg.metrics.nla_map, ("RTAX_FASTOPEN_NO_COOKIE", "uint32"))


class _NextHopMessage(nh):  # type: ignore[misc]
    nla_map = _ATTRIBUTES
    prefix = "RTA_"


class _RouteMessage(rtmsg):  # type: ignore[misc]
    nla_map = _ATTRIBUTES
    prefix = "RTA_"
    metrics = _Metrics

    @staticmethod
    def get_nh(_message: Any, *_args: Any, **_kwargs: Any) -> type[_NextHopMessage]:
        return _NextHopMessage


class Names:
    """Names of /etc/iproute2 (tables, protocols, scopes, …). Read once; a name that is well known needs no file."""

    def __init__(self, directories: tuple[str, ...] = NAME_DIRECTORIES) -> None:
        self._directories = directories
        self._read: dict[str, dict[str, int]] = {}

    def number(self, kind: str, word: str, high: int) -> int:
        """``word`` is a number, or a name in the file ``kind``; CannotEncode if it is neither, or above ``high``."""
        number = _integer(word)
        if number is None:
            number = _KNOWN_NAMES[kind].get(word)
        if number is None:
            if kind not in self._read:
                self._read[kind] = self._file(kind)
            number = self._read[kind].get(word)
        if number is None or not 0 <= number <= high:
            raise CannotEncode(f"'{word}' is neither a number up to {high} nor a name in {self._directories[0]}/{kind}")
        return number

    def realms(self, text: str) -> int:
        """``[FROM/]TO`` as the kernel's flow word."""
        source, slash, destination = text.rpartition("/")
        return (self.number("rt_realms", source, 0xFFFF) << 16 if slash else 0) | self.number("rt_realms", destination, 0xFFFF)

    def _file(self, kind: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for directory in reversed(self._directories):
            paths = [Path(directory, kind), *sorted(Path(directory, f"{kind}.d").glob("*.conf"))]
            for path in paths:
                with contextlib.suppress(OSError):
                    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                        words = line.split("#")[0].split()
                        if len(words) == 2 and (number := _integer(words[0])) is not None:
                            found[words[1]] = number
        return found


def _integer(word: str) -> int | None:
    try:
        return int(word, 0) if word.isascii() else None
    except ValueError:
        return None


def _encode(message: Any, kind: int, flags: int) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = flags | NLM_F_REQUEST
    message["header"]["sequence_number"] = 0
    message.encode()
    return bytes(message.data)


def _index(name: str, index_of: IndexOf) -> int:
    index = index_of(name)
    if index is None:
        raise NoInterface(f"no interface {name}")
    return index


def _address_family(family: Family) -> int:
    return socket.AF_INET6 if family is Family.IPV6 else socket.AF_INET


# ---- routes -------------------------------------------------------------------------------------------------------


def route_message(route: Route, index_of: IndexOf, names: Names, *, add: bool) -> bytes:
    """RTM_NEWROUTE or RTM_DELROUTE. Raises CannotEncode, NoInterface."""
    message = _RouteMessage()
    message["family"] = _address_family(route.family)
    attributes: list[tuple[str, Any]] = []
    message["dst_len"] = 0
    if route.destination is not None:
        message["dst_len"] = route.destination.prefixlen
        attributes.append(("RTA_DST", str(route.destination.network_address)))
    message["type"] = _KINDS[route.kind]
    message["scope"] = _scope(route, names)
    message["proto"] = _protocol(route, names)
    message["tos"] = names.number("rt_dsfield", route.tos, 255) if route.tos else 0
    table = names.number("rt_tables", route.table, 0xFFFFFFFF) if route.table else _MAIN_TABLE
    message["table"] = table if table < 256 else 0
    attributes.append(("RTA_TABLE", table))
    if route.vrf:
        raise CannotEncode("'vrf' is not supported: write the table of the VRF as 'table N'")
    if route.source is not None:
        attributes.append(("RTA_PREFSRC", str(route.source)))
    if route.priority is not None:
        attributes.append(("RTA_PRIORITY", route.priority))
    flags = NLM_F_CREATE
    metrics, lock = _metrics(route)
    options = iter(route.options)
    for word in options:
        if word == "append":
            flags |= NLM_F_APPEND
        elif word == "add":
            flags |= NLM_F_EXCL
        elif word == "realms":
            attributes.append(("RTA_FLOW", names.realms(next(options))))
        elif word == "pref":
            attributes.append(("RTA_PREF", _preference(next(options))))
        elif word == "expires":
            attributes.append(("RTA_EXPIRES", struct.pack("=I", _positive(word, next(options)))))
        elif word == "features":
            metrics.append(("RTAX_FEATURES", _features(next(options))))
        elif word == "ttl-propagate":
            attributes.append(("RTA_TTL_PROPAGATE", _switch(word, next(options))))
        elif word == "congctl":
            metrics.append(("RTAX_CC_ALGO", next(options)))
        elif word != "prepend":  # prepend is what the kernel does anyway
            raise CannotEncode(f"'{word}' is not supported")
    if lock:
        metrics.append(("RTAX_LOCK", lock))
    if metrics:
        attributes.append(("RTA_METRICS", {"attrs": metrics}))
    message["flags"] = 0
    if len(route.next_hops) == 1:
        hop = route.next_hops[0]
        message["flags"] = RTNH_F_ONLINK if hop.onlink else 0
        if hop.interface:
            attributes.append(("RTA_OIF", _index(hop.interface, index_of)))
        attributes += _of_next_hop(route, hop, names)
    elif route.next_hops:
        attributes.append(("RTA_MULTIPATH", [_next_hop(route, hop, index_of, names) for hop in route.next_hops]))
    message["attrs"] = attributes
    return _encode(message, RTM_NEWROUTE if add else RTM_DELROUTE, flags | NLM_F_ACK if add else 0)


def _scope(route: Route, names: Names) -> int:
    if route.scope:
        return names.number("rt_scopes", route.scope, 255)
    if route.family is Family.IPV4 and route.kind in _SCOPE_OF_KIND:
        return _SCOPE_OF_KIND[route.kind]
    return 0


def _protocol(route: Route | Rule, names: Names) -> int:
    """Keepalived: what is tracked has its own protocol, whatever the line says."""
    if isinstance(route, Route) and route.no_track and route.protocol:
        return names.number("rt_protos", route.protocol, 255)
    return RTPROT_KEEPALIVED


def _metrics(route: Route) -> tuple[list[tuple[str, Any]], int]:
    metrics: list[tuple[str, Any]] = []
    lock = 0
    for name, text in route.metrics:
        value, _, locked = text.partition(" ")
        number = _METRICS.get(name)
        if number is None:
            raise CannotEncode(f"'{name}' is not supported")
        if locked:
            lock |= 1 << number
        metrics.append((f"RTAX_{name.upper()}", _metric_value(name, value)))
    return metrics, lock


def _metric_value(name: str, text: str) -> int:
    digits = text.rstrip("ms")
    unit, suffix = _TIME_UNITS.get(name), text[len(digits) :]
    if not digits.isdigit() or (suffix and unit is None):
        raise CannotEncode(f"'{text}' after {name} is no number")
    if unit is None or not suffix:
        return int(digits)
    return int(digits) * unit * (1000 if suffix == "s" else 1)


def _preference(text: str) -> int:
    if text not in _PREFERENCES:
        raise CannotEncode(f"'{text}' after pref is none of {', '.join(_PREFERENCES)}")
    return _PREFERENCES[text]


def _positive(word: str, text: str) -> int:
    number = _integer(text)
    if number is None or not 0 <= number <= 0xFFFFFFFF:
        raise CannotEncode(f"'{text}' after {word} is no number")
    return number


def _features(text: str) -> int:
    if text == "ecn":
        return RTAX_FEATURE_ECN
    return _positive("features", text)


def _switch(word: str, text: str) -> int:
    if text not in ("enabled", "disabled"):
        raise CannotEncode(f"'{text}' after {word} is neither enabled nor disabled")
    return int(text == "enabled")


def _of_next_hop(route: Route, hop: NextHop, names: Names) -> list[tuple[str, Any]]:
    """What a single next hop and one of several have in common."""
    if hop.options:
        raise CannotEncode(f"'{hop.options[0]}' of a next hop is not supported")
    attributes: list[tuple[str, Any]] = []
    if hop.gateway is not None and hop.gateway.version == int(route.family):
        attributes.append(("RTA_GATEWAY", str(hop.gateway)))
    elif hop.gateway is not None:
        attributes.append(("RTA_VIA", {"family": _address_family(Family(hop.gateway.version)), "addr": str(hop.gateway)}))
    if hop.realms:
        attributes.append(("RTA_FLOW", names.realms(hop.realms)))
    if hop.encap:
        try:
            kind, payload = encapsulation(hop.encap)
        except EncapError as error:
            raise CannotEncode(str(error)) from None
        attributes += [("RTA_ENCAP_TYPE", kind), ("RTA_ENCAP", payload)]
    return attributes


def _next_hop(route: Route, hop: NextHop, index_of: IndexOf, names: Names) -> dict[str, Any]:
    index = _index(hop.interface, index_of) if hop.interface else 0
    flags = RTNH_F_ONLINK if hop.onlink else 0
    return {"hops": hop.weight - 1, "oif": index, "flags": flags, "attrs": _of_next_hop(route, hop, names)}


# ---- rules --------------------------------------------------------------------------------------------------------


def rule_message(rule: Rule, names: Names, *, add: bool) -> bytes:
    """RTM_NEWRULE or RTM_DELRULE. Interfaces of rules are matched by name and need not exist. Raises CannotEncode."""
    message = fibmsg()
    fields: dict[str, int] = {"family": _address_family(rule.family), "dst_len": 0, "src_len": 0, "tos": 0, "table": 0, "action": 1}
    fields["flags"] = FIB_RULE_INVERT if rule.inverted else 0
    attributes: list[tuple[str, Any]] = []
    if rule.priority is not None:
        attributes.append(("FRA_PRIORITY", rule.priority))
    protocol = 0 if rule.no_track else RTPROT_KEEPALIVED
    for word, value in rule.selectors:
        if word == "protocol":
            protocol = names.number("rt_protos", value, 255) if rule.no_track else protocol
        else:
            _selector(word, value, names, fields, attributes)
    attributes.append(("FRA_PROTOCOL", protocol))
    for word, value in rule.actions:
        _action(word, value, names, fields, attributes)
    for name, number in fields.items():
        message[name] = number
    message["attrs"] = attributes
    return _encode(message, RTM_NEWRULE if add else RTM_DELRULE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK if add else 0)


def _selector(word: str, value: str, names: Names, fields: dict[str, int], attributes: list[tuple[str, Any]]) -> None:
    match word:
        case "from" | "to":
            if value not in ("all", "any", "default"):
                network = ip_network(value, strict=False)
                fields["src_len" if word == "from" else "dst_len"] = network.prefixlen
                attributes.append(("FRA_SRC" if word == "from" else "FRA_DST", str(network.network_address)))
        case "iif" | "dev":
            attributes.append(("FRA_IIFNAME", value))
        case "oif":
            attributes.append(("FRA_OIFNAME", value))
        case "tos" | "dsfield":
            fields["tos"] = names.number("rt_dsfield", value, 255)
        case "fwmark":
            mark, _, mask = value.partition("/")
            attributes.append(("FRA_FWMARK", _positive(word, mark)))
            if mask:
                attributes.append(("FRA_FWMASK", _positive(word, mask)))
        case "realms":
            attributes.append(("FRA_FLOW", names.realms(value)))
        case "suppress_prefixlength":
            attributes.append(("FRA_SUPPRESS_PREFIXLEN", _positive(word, value)))
        case "suppress_ifgroup":
            attributes.append(("FRA_SUPPRESS_IFGROUP", names.number("group", value, 0xFFFFFFFF)))
        case "tunnel-id":
            attributes.append(("FRA_TUN_ID", _positive(word, value)))
        case "uidrange":
            attributes.append(("FRA_UID_RANGE", _range(word, value, 0xFFFFFFFF)))
        case "sport" | "dport":
            attributes.append((f"FRA_{word.upper()}_RANGE", _range(word, value, 0xFFFF)))
        case "ipproto" | "ip_proto":
            attributes.append(("FRA_IP_PROTO", _ip_protocol(value)))
        case _:
            raise CannotEncode(f"'{word}' is not supported")


def _range(word: str, text: str, high: int) -> str:
    first, dash, last = text.partition("-")
    low, top = _integer(first), _integer(last if dash else first)
    if low is None or top is None or not 0 <= low <= top <= high:
        raise CannotEncode(f"'{text}' after {word} is no range")
    return f"{low}:{top}"


def _ip_protocol(text: str) -> int:
    number = _integer(text)
    if number is not None:
        return number
    try:
        return socket.getprotobyname(text)
    except OSError:
        raise CannotEncode(f"'{text}' after ipproto is no protocol") from None


def _action(word: str, value: str, names: Names, fields: dict[str, int], attributes: list[tuple[str, Any]]) -> None:
    match word:
        case "table":
            table = names.number("rt_tables", value, 0xFFFFFFFF)
            fields["table"] = table if table < 256 else 0
            attributes.append(("FRA_TABLE", table))
        case "l3mdev":
            attributes.append(("FRA_L3MDEV", 1))
        case "goto":
            fields["action"] = _RULE_ACTIONS[word]
            attributes.append(("FRA_GOTO", _positive(word, value)))
        case "nop" | "blackhole" | "unreachable" | "prohibit":
            fields["action"] = _RULE_ACTIONS[word]
        case _:
            raise CannotEncode(f"'{word}' is not supported")


def numbered(message: bytes, sequence: int) -> bytes:
    """The same message with another sequence number, by which its acknowledgement is told apart."""
    length, kind, flags, _, port = _HEADER.unpack_from(message)
    return _HEADER.pack(length, kind, flags, sequence, port) + message[_HEADER.size :]


def appended(message: bytes) -> bytes:
    """The same message; of an IPv4 route, it comes behind those with the same destination, TOS and priority."""
    length, kind, flags, sequence, port = _HEADER.unpack_from(message)
    if kind != RTM_NEWROUTE or message[_HEADER.size] != socket.AF_INET or flags & NLM_F_EXCL:
        return message
    return _HEADER.pack(length, kind, flags | NLM_F_APPEND, sequence, port) + message[_HEADER.size :]


def acknowledged(message: bytes) -> bytes:
    """The same message, with the wish for an acknowledgement."""
    length, kind, flags, sequence, port = _HEADER.unpack_from(message)
    return _HEADER.pack(length, kind, flags | NLM_F_ACK, sequence, port) + message[_HEADER.size :]


def describe(line: Route | Rule) -> str:
    """A route or rule for people, as short as it is still recognised."""
    if isinstance(line, Rule):
        words = [word for pair in (*line.selectors, *line.actions) for word in pair if word]
        return f"rule {'not ' if line.inverted else ''}{' '.join(words)} preference {line.priority}"
    words = [line.kind] if line.kind != "unicast" else []
    words.append("default" if line.destination is None else str(line.destination))
    for hop in line.next_hops[:1]:
        words += [f"via {hop.gateway}"] if hop.gateway is not None else []
        words += [f"dev {hop.interface}"] if hop.interface else []
    words += [f"table {line.table}"] if line.table else []
    return f"route {' '.join(words)}"
