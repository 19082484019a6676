"""KEEPALIVED-MIB: virtual routes, their next hops and virtual rules (enterprises 9586.100.5.2.7, .11 and .8), from a View. Pure.

A route or rule counts as set while its instance is MASTER. Names that only /etc/iproute2 could explain have no number and are left out,
as are encapsulations and the obsolete columns of the rule table.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from vrrp.config.model.routing import NextHop, Route, Rule
from vrrp.outside.agentx import Oid, Value
from vrrp.outside.mib_tree import gauge, inet_address, integer, octets, text, truth
from vrrp.outside.view import InstanceView, ShownState, View

_VRRP: Oid = (1, 3, 6, 1, 4, 1, 9586, 100, 5, 2)
_ROUTES, _RULES, _NEXT_HOPS = (*_VRRP, 7, 1), (*_VRRP, 8, 1), (*_VRRP, 11, 1)
_ECMP = 2
_KINDS = {
    "unicast": 1,
    "blackhole": 3,
    "anycast": 4,
    "multicast": 5,
    "broadcast": 6,
    "unreachable": 7,
    "prohibit": 8,
    "throw": 9,
    "nat": 10,
}
_SCOPES = {"": 14, "global": 14, "site": 5, "link": 2, "host": 1, "nowhere": 0, "0": 14, "200": 5, "253": 2, "254": 1, "255": 0}
"""Words of iproute2 → InetScopeType."""
_TABLES = {"": 254, "main": 254, "default": 253, "local": 255}
_PROTOCOLS = {"": 19, "unspec": 1, "redirect": 2, "kernel": 3, "boot": 4, "static": 5, "dhcp": 17, "keepalived": 19}
"""The kernel's number and one more, as keepalived counts; 18 is keepalived's."""
_METRICS = {
    "mtu": (22, 23),
    "hoplimit": (24, 0),
    "advmss": (25, 26),
    "rtt": (27, 28),
    "rttvar": (29, 30),
    "reordering": (31, 32),
    "window": (33, 0),
    "cwnd": (34, 35),
    "ssthresh": (36, 37),
    "rto_min": (38, 39),
    "initcwnd": (40, 0),
    "initrwnd": (41, 0),
}
"""Metric → column and column of its lock."""
_ACTIONS = {"table": 1, "goto": 2, "nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}

Row = Iterator[tuple[Oid, Value]]


def routing_mib(view: View) -> Row:
    """All three tables."""
    for instance in view.instances():
        held = truth(instance.state is ShownState.MASTER)
        for number, route in enumerate(instance.model.routes, 1):
            for column, value in _route_columns(route, instance, view).items():
                yield (*_ROUTES, column, instance.number, number), value
            yield (*_ROUTES, 14, instance.number, number), held
            if len(route.next_hops) > 1:
                for position, hop in enumerate(route.next_hops, 1):
                    for column, value in _hop_columns(hop, view).items():
                        yield (*_NEXT_HOPS, column, instance.number, number, position), value
        for number, rule in enumerate(instance.model.rules, 1):
            for column, value in _rule_columns(rule).items():
                yield (*_RULES, column, instance.number, number), value
            yield (*_RULES, 7, instance.number, number), held


def _number(word: str, names: dict[str, int]) -> int | None:
    if word in names:
        return names[word]
    try:
        return int(word, 0)
    except ValueError:
        return None


def _family(version: int) -> Value:
    return integer(1 if version == 4 else 2)


def _route_columns(route: Route, instance: InstanceView, view: View) -> dict[int, Value]:
    several = len(route.next_hops) > 1
    columns = {
        2: _family(int(route.family)),
        3: octets(bytes(4 if int(route.family) == 4 else 16))
        if route.destination is None
        else inet_address(route.destination.network_address),
        4: gauge(0 if route.destination is None else route.destination.prefixlen),
        8: gauge(route.priority or 0),
        10: integer(_ECMP if several else _KINDS.get(route.kind, 1)),
        19: truth("ecn" in " ".join(route.options).split()),
        20: truth(dict(route.metrics).get("quickack") == "1"),
    }
    if not several and route.next_hops:
        hop = route.next_hops[0]
        if hop.gateway is not None:
            columns[5] = inet_address(hop.gateway)
        if hop.interface:
            columns[11] = integer(view.link(hop.interface).index)
            columns[12] = text(hop.interface)
    if route.source is not None:
        columns[7] = inet_address(route.source)
    if (scope := _SCOPES.get(route.scope)) is not None:
        columns[9] = integer(scope)
    if (table := _number(route.table, _TABLES)) is not None:
        columns[13] = gauge(table)
    if route.tos and (tos := _number(route.tos, {})) is not None:
        columns[17] = gauge(tos)
    if (protocol := _PROTOCOLS.get(route.protocol)) is not None:
        columns[18] = integer(protocol)
    for name, word in route.metrics:
        figure, _, lock = word.partition(" ")
        if name in _METRICS and figure.isdigit():
            column, lock_column = _METRICS[name]
            columns[column] = gauge(int(figure))
            if lock_column:
                columns[lock_column] = truth(lock == "lock")
    return columns


def _hop_columns(hop: NextHop, view: View) -> dict[int, Value]:
    columns = {7: truth(hop.onlink)}
    if hop.gateway is not None:
        columns[2] = _family(hop.gateway.version)
        columns[3] = inet_address(hop.gateway)
    if hop.interface:
        columns[4] = integer(view.link(hop.interface).index)
        columns[5] = text(hop.interface)
    columns[6] = gauge(hop.weight)
    return columns


def _rule_columns(rule: Rule) -> dict[int, Value]:
    selectors, actions = dict(rule.selectors), dict(rule.actions)
    columns = {8: truth(rule.inverted)}
    for word, first in (("to", 9), ("from", 12)):
        if selectors.get(word, "all") not in ("all", "default", "any"):
            network = ip_network(selectors[word], strict=False)
            columns[first] = _family(network.version)
            columns[first + 1] = inet_address(network.network_address)
            columns[first + 2] = gauge(network.prefixlen)
    columns[15] = gauge(_number(selectors.get("tos", "0"), {}) or 0)
    if "fwmark" in selectors:
        mark, slash, mask = selectors["fwmark"].partition("/")
        columns[16] = gauge(_number(mark, {}) or 0)
        columns[17] = gauge((_number(mask, {}) or 0) if slash else 0xFFFFFFFF)
    for word, column in (("iif", 20), ("oif", 21)):
        if word in selectors:
            columns[column] = text(selectors[word])
    action = next((word for word in actions if word in _ACTIONS), None)
    if action is not None:
        columns[23] = integer(_ACTIONS[action])
    if action == "goto" and (target := _number(actions["goto"], {})) is not None:
        columns[22] = gauge(target)
    if action == "table" and (table := _number(actions["table"], _TABLES)) is not None:
        columns[6] = columns[24] = gauge(table)
    if rule.priority is not None:
        columns[25] = gauge(rule.priority)
    return columns
