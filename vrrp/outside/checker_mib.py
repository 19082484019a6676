"""KEEPALIVED-MIB, check part (enterprises 9586.100.5.3): virtual servers, real servers, sync daemon, timeouts. Pure. Read only.

From the configuration and the documents of vrrpd-lvs.sock (vrrp.lvs.status). The 32-bit columns wrap, as the MIB has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address

from base.channel import JsonObject
from base.core import NS_PER_S, NS_PER_US
from vrrp.config.model.common import Family, ScriptCommand
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.services import ServiceAddress, Settings, VirtualServer
from vrrp.lvs.model.settings import Forwarding, Method, RealServerSettings, Transport, TunnelChecksum, TunnelType, VirtualServerSettings
from vrrp.lvs.naming import service_id_of
from vrrp.outside.agentx import Notify, Oid, Value
from vrrp.outside.keepalived_mib import KEEPALIVED, ROUTER_ID
from vrrp.outside.mib_tree import counter32, counter64, gauge, inet_address, integer, octets, text, truth
from vrrp.outside.notifications import notification

CHECK: Oid = (*KEEPALIVED, 3)
_GROUPS, _MEMBERS, _VIRTUAL, _REAL = (*CHECK, 1, 1), (*CHECK, 2, 1), (*CHECK, 3, 1), (*CHECK, 4, 1)
_TRAPS, _SYNC, _TIMEOUTS = (*CHECK, 5, 0), (*CHECK, 6), (*CHECK, 7)

_PROTOCOLS = {Transport.TCP: 1, Transport.UDP: 2, Transport.SCTP: 3, Transport.NONE: 4}
_SCHEDULER_ORDER = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos")
_SCHEDULERS = {name: number for number, name in enumerate(_SCHEDULER_ORDER, 1)}
_METHODS = {Method.NAT: 1, Method.DIRECT: 2, Method.TUNNEL: 3}
_TUNNELS = {TunnelType.IPIP: 1, TunnelType.GUE: 2, TunnelType.GRE: 3}
_CHECKSUMS = {TunnelChecksum.NONE: 1, TunnelChecksum.FULL: 2, TunnelChecksum.REMOTE: 3}
_VIRTUAL_COUNTERS = {"connections": 27, "cps": 32, "connections64": 38, "low": 41}
_REAL_COUNTERS = {"connections": 14, "cps": 22, "connections64": 27, "low": 30}
_RATES = ("connections_per_s", "packets_in_per_s", "packets_out_per_s", "bytes_in_per_s", "bytes_out_per_s")

Row = Iterator[tuple[Oid, Value]]


@dataclass(frozen=True, slots=True)
class CheckerView:
    """``settings`` and ``documents`` by the id of the virtual server; a service without a document has no numbers yet."""

    config: VrrpConfig
    settings: Mapping[str, VirtualServerSettings] = field(default_factory=dict)
    documents: Mapping[str, JsonObject] = field(default_factory=dict)
    router_id: str = ""

    def servers(self) -> Iterator[tuple[int, VirtualServer, VirtualServerSettings]]:
        """(1-based index, as in the file, resolved), for those that can work."""
        number = 0
        for server in self.config.virtual_servers:
            settings = self.settings.get(service_id_of(self.config, server))
            if settings is not None and server.real_servers:
                number += 1
                yield number, server, settings


def checker_mib(view: CheckerView) -> Row:
    """Every value of the check part."""
    for number, group in enumerate(view.config.virtual_server_groups, 1):
        yield (*_GROUPS, 2, number), text(group.name)
        marks_first = sorted(group.members, key=lambda member: not member.fwmark)
        for member_number, member in enumerate(marks_first, 1):
            yield from _member((number, member_number), member)
    for number, server, settings in view.servers():
        document = view.documents.get(settings.id, {})
        yield from _virtual(number, server, settings, document)
        if settings.sorry_server is not None:
            yield from _sorry((number, 1), settings, document)
        shown = {each["id"]: each for each in document.get("real_servers", [])}
        for real_number, real in _numbered(settings):
            yield from _real((number, real_number), real, server, settings, shown.get(real.id, {}))
    yield from _global(view)


def _numbered(settings: VirtualServerSettings) -> Iterator[tuple[int, RealServerSettings]]:
    """Real servers with their index in the table: a sorry server is the first, as in keepalived."""
    return enumerate(settings.real_servers, 2 if settings.sorry_server is not None else 1)


def _member(index: Oid, member: ServiceAddress) -> Row:
    kind = 1 if member.fwmark else 3 if member.last is not None else 2
    yield (*_MEMBERS, 2, *index), integer(kind)
    if member.address is None:
        yield (*_MEMBERS, 3, *index), gauge(member.fwmark)
        return
    yield (*_MEMBERS, 4, *index), integer(_address_type(member.address.version))
    yield (*_MEMBERS, 6 if member.last is not None else 5, *index), inet_address(member.address)
    if member.last is not None:
        yield (*_MEMBERS, 7, *index), inet_address(member.last)
    yield (*_MEMBERS, 8, *index), gauge(member.port)


def _address_type(version: int) -> int:
    return 1 if version == 4 else 2


def _enabled(on: object) -> Value:
    return truth(on)


def _script(command: ScriptCommand | None) -> str:
    return "" if command is None else " ".join(f"'{word}'" for word in command.arguments)


def _listen(number: int, server: VirtualServer, settings: VirtualServerSettings) -> Row:
    """What a virtual server is: these columns also stand in its notifications."""
    first = settings.listen[0]
    kind = 3 if server.group else 1 if first.fwmark else 2
    yield (*_VIRTUAL, 2, number), integer(kind)
    if kind == 3:
        yield (*_VIRTUAL, 3, number), text(server.group)
    elif kind == 1:
        yield (*_VIRTUAL, 4, number), gauge(first.fwmark)
    else:
        assert first.address is not None
        yield (*_VIRTUAL, 5, number), integer(_address_type(first.family))
        yield (*_VIRTUAL, 6, number), inet_address(first.address)
        yield (*_VIRTUAL, 7, number), gauge(first.port)
    yield (*_VIRTUAL, 8, number), integer(_PROTOCOLS[settings.transport])


def _quorum_status(document: JsonObject) -> int:
    return 1 if document.get("quorum") else 2


def _up(document: JsonObject) -> int:
    return sum(1 for each in document.get("real_servers", []) if each["alive"])


def _virtual(number: int, server: VirtualServer, settings: VirtualServerSettings, document: JsonObject) -> Row:
    own = server.settings
    yield from _listen(number, server, settings)
    if server.group:
        yield (*_VIRTUAL, 5, number), integer(_address_type(settings.listen[0].family))
    forwarding = settings.real_servers[0].forwarding
    flags = settings.scheduler_flags
    prefix = settings.persistence_prefix
    columns: dict[int, Value] = {
        9: integer(_SCHEDULERS.get(settings.scheduler, 99)),
        10: integer(_METHODS[forwarding.method]),
        11: integer(_quorum_status(document)),
        13: _enabled(settings.persistence_timeout_s),
        17: truth(settings.ha_suspend),
        18: _enabled(own.get("alpha")),
        19: _enabled(settings.omega),
        20: gauge(len(settings.real_servers)),
        21: gauge(_up(document)),
        22: gauge(settings.quorum),
        23: integer(_quorum_status(document)),
        26: gauge(settings.hysteresis),
        37: truth(settings.one_packet),
        52: truth(False),  # hashed: what keepalived 2.2.7 says, whatever stands in the file
        53: truth(flags & 1),
        54: truth(flags & 2),
        55: truth(flags & 4),
        56: integer(2 if own.get("inhibit_on_failure") is True else 1),
        60: integer(_number(own.get("weight"), 1)),
        61: _enabled(settings.smtp_alert),
        62: truth(flags & 1),
        63: truth(flags & 2),
    }
    columns |= _words({12: str(own.get("virtualhost", "")), 24: _script(settings.quorum_up), 25: _script(settings.quorum_down)})
    columns |= _words({71: str(own.get("snmp_name", ""))})
    if settings.persistence_timeout_s:
        columns[14] = gauge(settings.persistence_timeout_s)
        if prefix is not None and settings.listen[0].family is Family.IPV4:
            columns[15] = octets(IPv4Network(f"0.0.0.0/{min(32, prefix)}").netmask.packed)
        elif prefix is not None:
            columns[51] = gauge(prefix)
    columns |= _times((own,), {"delay_loop": (16, 64, 60), "delay_before_retry": (58, 65, 0), "warmup": (59, 66, 0)})
    columns[57] = gauge(_first((own,), "retry", 0))
    columns[67] = gauge(_first((own,), "connect_timeout", 5 * NS_PER_S) // NS_PER_US)
    columns |= _tunnel(forwarding, 68)
    columns |= _counters(document.get("counters"), _VIRTUAL_COUNTERS)
    yield from (((*_VIRTUAL, column, number), value) for column, value in columns.items())


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _first(levels: tuple[Settings, ...], keyword: str, default: int) -> int:
    return next((value for level in levels if isinstance(value := level.get(keyword), int)), default)


def _words(texts: Mapping[int, str]) -> dict[int, Value]:
    """Columns of words; those that are not configured have no row."""
    return {column: text(words) for column, words in texts.items() if words}


def _times(levels: tuple[Settings, ...], columns: Mapping[str, tuple[int, int, int]]) -> dict[int, Value]:
    """Keyword → (column in seconds, column in microseconds, default in seconds). What is not in the file is 0, as in keepalived."""
    found: dict[int, Value] = {}
    for keyword, (seconds, microseconds, default) in columns.items():
        value_ns = _first(levels, keyword, default * NS_PER_S)
        found[seconds], found[microseconds] = gauge(value_ns // NS_PER_S), gauge(value_ns // NS_PER_US)
    return found


def _tunnel(forwarding: Forwarding, first: int) -> dict[int, Value]:
    if forwarding.method is not Method.TUNNEL:
        return {}
    found = {first: integer(_TUNNELS[forwarding.tunnel])}
    if forwarding.tunnel is TunnelType.GUE:
        found[first + 1] = gauge(forwarding.port)
    if forwarding.tunnel is not TunnelType.IPIP:
        found[first + 2] = integer(_CHECKSUMS[forwarding.checksum])
    return found


def _counters(counters: Mapping[str, int] | None, columns: Mapping[str, int]) -> dict[int, Value]:
    """Totals, rates, and both again in 64 bits. Where a table has connections now, the packets stand behind those."""
    if counters is None:
        return {}
    first, rates, wide, low = columns["connections"], columns["cps"], columns["connections64"], columns["low"]
    packets = rates - 4
    found = {
        first: gauge(counters["connections"]),
        packets: counter32(counters["packets_in"]),
        packets + 1: counter32(counters["packets_out"]),
        packets + 2: counter64(counters["bytes_in"]),
        packets + 3: counter64(counters["bytes_out"]),
        wide: counter64(counters["connections"]),
        wide + 1: counter64(counters["packets_in"]),
        wide + 2: counter64(counters["packets_out"]),
    }
    for offset, name in enumerate(_RATES):
        found[rates + offset] = gauge(min(counters[name], 0xFFFFFFFF))
        found[low + 2 * offset] = gauge(counters[name])
        found[low + 2 * offset + 1] = gauge(counters[name] >> 32)
    return found


_REAL_TIMES = {"delay_before_retry": (44, 48, 0), "warmup": (45, 49, 0)}


def _real(index: Oid, real: RealServerSettings, server: VirtualServer, settings: VirtualServerSettings, shown: JsonObject) -> Row:
    own = next((each.settings for each in server.real_servers if each.position == real.position), Settings())
    columns: dict[int, Value] = {
        2: integer(1),
        3: integer(_address_type(real.address.version)),
        4: inet_address(real.address),
        5: gauge(real.port or settings.port),
        6: integer(1 if shown.get("alive") else 2),
        7: integer(shown["weight"] if shown.get("in_pool") and shown.get("alive") else real.weight),
        10: integer(2 if real.inhibit_on_failure else 1),
        13: gauge(sum(1 for checker in shown.get("checkers", []) if not checker["up"])),
        40: integer(_METHODS[real.forwarding.method]),
        42: _enabled(_alpha(own, server.settings)),
        43: gauge(_first((own, server.settings), "retry", 0)),
        47: _enabled(real.smtp_alert),
        51: gauge(_first((own, server.settings), "connect_timeout", 5 * NS_PER_S) // NS_PER_US),
    }
    if real.upper_threshold:
        columns[8] = gauge(real.upper_threshold)
    if real.lower_threshold:
        columns[9] = gauge(real.lower_threshold)
    columns |= _words({11: _script(real.notify_up), 12: _script(real.notify_down), 55: str(own.get("snmp_name", ""))})
    columns |= _words({41: str(own.get("virtualhost") or server.settings.get("virtualhost") or "")})
    columns |= _times((own, server.settings), {**_REAL_TIMES, "delay_loop": (46, 50, 60)})
    columns |= _tunnel(real.forwarding, 52)
    columns |= _traffic(shown)
    yield from (((*_REAL, column, *index), value) for column, value in columns.items())


def _alpha(own: Settings, above: Settings) -> bool:
    return next((value for level in (own, above) if isinstance(value := level.get("alpha"), bool)), False)


def _traffic(shown: JsonObject) -> dict[int, Value]:
    if not shown:
        return {}
    now = {15: gauge(shown["active"]), 16: gauge(shown["inactive"]), 17: gauge(shown["persistent"])}
    return now | _counters(shown["counters"], _REAL_COUNTERS)


def _sorry(index: Oid, settings: VirtualServerSettings, document: JsonObject) -> Row:
    sorry = settings.sorry_server
    assert sorry is not None
    columns: dict[int, Value] = {
        2: integer(2),
        3: integer(_address_type(sorry.address.version)),
        4: inet_address(sorry.address),
        5: gauge(sorry.port or settings.port),
        40: integer(_METHODS[sorry.forwarding.method]),
        42: _enabled(False),
        43: gauge(0),
        47: _enabled(False),
        51: gauge(0),
    }
    columns |= _times((), {**_REAL_TIMES, "delay_loop": (46, 50, 0)})
    columns |= _tunnel(sorry.forwarding, 52) | _traffic(document.get("sorry") or {})
    yield from (((*_REAL, column, *index), value) for column, value in columns.items())


def _global(view: CheckerView) -> Row:
    lvs = view.config.global_defs.lvs
    sync = lvs.sync_daemon
    yield (*_SYNC, 1, 0), _enabled(sync)
    if sync is not None:
        instance = view.config.instance(sync.instance) if sync.instance else None
        yield (*_SYNC, 2, 0), text(sync.interface)
        if sync.instance:
            yield (*_SYNC, 3, 0), text(sync.instance)
        yield (*_SYNC, 4, 0), integer(sync.sync_id if sync.sync_id is not None else 0 if instance is None else instance.vrid)
        yield (*_SYNC, 5, 0), integer(sync.max_length)
        yield (*_SYNC, 6, 0), integer(sync.port)
        yield (*_SYNC, 7, 0), integer(sync.ttl)
        if sync.group is not None:
            yield (*_SYNC, 8, 0), integer(2 if isinstance(sync.group, IPv6Address) else 1)
            yield (*_SYNC, 9, 0), inet_address(sync.group)
    for number, value in enumerate((lvs.tcp_timeout_s, lvs.tcpfin_timeout_s, lvs.udp_timeout_s), 1):
        if value is not None:
            yield (*_TIMEOUTS, number, 0), integer(value)


# ---- notifications ------------------------------------------------------------------------------------------------------


def checker_notification(message: JsonObject, view: CheckerView) -> Notify | None:
    """realServerStateChange or virtualServerQuorumStateChange for an ``lvs_notify`` message of vrrp.lvs.news."""
    found = next((entry for entry in view.servers() if entry[2].id == message["service"]), None)
    if found is None:
        return None
    number, server, settings = found
    document = view.documents.get(settings.id, {})
    # The documents may be a moment older than the news.
    alive = {each["id"] for each in document.get("real_servers", []) if each["alive"]}
    counts = [((*_VIRTUAL, 20, number), gauge(len(settings.real_servers)))]
    identity = list(_listen(number, server, settings))
    router = (ROUTER_ID, text(view.router_id))
    if not message["server"]:
        status = ((*_VIRTUAL, 23, number), integer(1 if message["up"] else 2))
        quorum = ((*_VIRTUAL, 22, number), gauge(settings.quorum))
        up = ((*_VIRTUAL, 21, number), gauge(len(alive)))
        return notification((*_TRAPS, 2), *identity, status, quorum, up, *counts, router)
    (alive.add if message["up"] else alive.discard)(message["server"])
    at, real = next(((at, real) for at, real in _numbered(settings) if real.id == message["server"]), (0, None))
    if real is None:
        return None
    about = [
        ((*_REAL, 3, number, at), integer(_address_type(real.address.version))),
        ((*_REAL, 4, number, at), inet_address(real.address)),
        ((*_REAL, 5, number, at), gauge(real.port or settings.port)),
        ((*_REAL, 6, number, at), integer(1 if message["up"] else 2)),
    ]
    up = ((*_VIRTUAL, 21, number), gauge(len(alive)))
    return notification((*_TRAPS, 1), *about, *identity, up, *counts, router)
