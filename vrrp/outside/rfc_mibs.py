"""VRRP-MIB (RFC 2787: version 2, IPv4) and VRRPV3-MIB (RFC 6527: all virtual routers) from a View. Pure, read only.

Two deviations from keepalived 2.2.7 on purpose: the address index of vrrpv3AssociatedIpAddrTable has its length in front, as
SMIv2 wants it for a string that is not IMPLIED, and vrrpOperMasterIpAddr of a MASTER is its own address, not 0.0.0.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from base.core import NS_PER_S
from vrrp.config.model.instance import AuthKind
from vrrp.outside.agentx import Oid, Value
from vrrp.outside.mib_tree import counter32, counter64, gauge, inet_address, integer, ip_address, octets, ticks, truth
from vrrp.outside.view import InstanceView, ShownState, View

VRRP_MIB: Oid = (1, 3, 6, 1, 2, 1, 68)
VRRPV3_MIB: Oid = (1, 3, 6, 1, 2, 1, 207)
V2_NEW_MASTER, V2_AUTH_FAILURE = (*VRRP_MIB, 0, 1), (*VRRP_MIB, 0, 2)
V3_NEW_MASTER, V3_PROTO_ERROR = (*VRRPV3_MIB, 0, 1), (*VRRPV3_MIB, 0, 2)
V2_MASTER_ADDRESS = (*VRRP_MIB, 1, 3, 1, 7)
V2_TRAP_PACKET_SOURCE, V2_TRAP_AUTH_ERROR = (*VRRP_MIB, 1, 5, 0), (*VRRP_MIB, 1, 6, 0)
V3_MASTER_ADDRESS = (*VRRPV3_MIB, 1, 1, 1, 1, 3)
V3_NEW_MASTER_REASON, V3_PROTO_ERROR_REASON = (*VRRPV3_MIB, 1, 2, 5, 1, 2), (*VRRPV3_MIB, 1, 2, 5, 1, 6)
_ACTIVE = integer(1)
_STATES = {ShownState.BACKUP: 2, ShownState.MASTER: 3}
_AUTH = {AuthKind.NONE: 1, AuthKind.PASS: 2, AuthKind.AH: 3}
PROTO_ERRORS = {"ttl": 1, "version": 2, "checksum": 3, "checksum_style": 3, "vrid": 4}
"""Reason of a refused advert → vrrpv3StatisticsProtoErrReason."""
AUTH_ERRORS = {"auth_type": 2, "password": 3}
"""Reason of a refused advert → vrrpTrapAuthErrorType."""

Row = Iterator[tuple[Oid, Value]]


def in_v2_mib(instance: InstanceView) -> bool:
    """Is it a row of VRRP-MIB? That knows IPv4 and version 2 only."""
    return instance.model.version == 2 and int(instance.model.family) == 4


def v2_index(instance: InstanceView) -> Oid:
    """ifIndex, VRID."""
    return (instance.link.index, instance.model.vrid)


def v3_index(instance: InstanceView) -> Oid:
    """ifIndex, VRID, InetAddressType."""
    return (instance.link.index, instance.model.vrid, 1 if int(instance.model.family) == 4 else 2)


def _ipv4(address: object) -> Value:
    return ip_address(address if isinstance(address, IPv4Address) else IPv4Address(0))


def v2_master_address(instance: InstanceView) -> Value:
    """vrrpOperMasterIpAddr."""
    return _ipv4(instance.master_address)


def v3_master_address(instance: InstanceView) -> Value:
    """vrrpv3OperationsMasterIpAddr; all zero while nobody is known."""
    address = instance.master_address
    return octets(bytes(4 if int(instance.model.family) == 4 else 16)) if address is None else inet_address(address)


def new_master_reason(instance: InstanceView) -> Value:
    """vrrpv3StatisticsNewMasterReason: notMaster, priority, preempted, masterNoResponse."""
    if instance.state is not ShownState.MASTER:
        return integer(0)
    reason = str(instance.status.get("reason", ""))
    if "owner" in reason or "priority 255" in reason:
        return integer(1)
    return integer(2 if "preempt" in reason or "lower priority" in reason else 3)


def proto_error_reason(instance: InstanceView) -> Value:
    """vrrpv3StatisticsProtoErrReason: the error that was met most often, 0 = none."""
    counts = {number: instance.rejected(*(r for r, n in PROTO_ERRORS.items() if n == number)) for number in (1, 2, 3, 4)}
    worst = max(counts, key=lambda number: counts[number])
    return integer(worst if counts[worst] else 0)


def vrrp_mib(view: View) -> Row:
    """VRRP-MIB."""
    instances = [instance for instance in view.instances() if in_v2_mib(instance)]
    yield (*VRRP_MIB, 1, 1, 0), integer(2)
    yield (*VRRP_MIB, 1, 2, 0), truth(view.config.global_defs.snmp.traps)
    for instance in instances:
        model, index = instance.model, v2_index(instance)
        columns = {
            2: octets(instance.mac),
            3: integer(_STATES.get(instance.state, 1)),
            4: truth(instance.link.up),
            5: integer(model.priority),
            6: integer(len(model.addresses)),
            7: v2_master_address(instance),
            8: _ipv4(instance.local_address),
            9: integer(_AUTH[model.authentication.kind]),
            11: integer(model.advert_interval_ns // NS_PER_S),
            12: truth(not model.nopreempt),
            13: ticks(max(0, view.master_uptime_cs - view.up_for_cs(instance))),
            14: integer(1),
            15: _ACTIVE,
        }
        for column, value in columns.items():
            yield (*VRRP_MIB, 1, 3, 1, column, *index), value
        for address in model.addresses:
            yield (*VRRP_MIB, 1, 4, 1, 2, *index, *address.address.packed), _ACTIVE
        for column, count in enumerate(_v2_statistics(instance), 1):
            yield (*VRRP_MIB, 2, 4, 1, column, *index), counter32(count)
    for number, count in enumerate(_router_errors(view, instances), 1):
        yield (*VRRP_MIB, 2, number, 0), counter32(count)


def _router_errors(view: View, instances: list[InstanceView]) -> tuple[int, int, int]:
    """Adverts with a wrong checksum, version, VRID."""
    checksums = sum(instance.rejected("checksum", "checksum_style") for instance in instances)
    versions = sum(instance.rejected("version") for instance in instances)
    return checksums, versions, int(view.status.get("packets", {}).get("unknown_vrid", 0))


def _v2_statistics(instance: InstanceView) -> tuple[int, ...]:
    return (
        instance.counter("become_master"),
        instance.counter("adverts_received"),
        instance.rejected("interval"),
        instance.rejected("password"),
        instance.rejected("ttl"),
        instance.counter("priority_zero_received"),
        instance.counter("priority_zero_sent"),
        instance.rejected("type"),
        instance.counter("addresses_differ"),
        0,  # invalid authentication type: RFC 3768 has no such thing any more, it counts as a mismatch
        instance.rejected("auth_type"),
        instance.rejected("length", "truncated"),
    )


def vrrpv3_mib(view: View) -> Row:
    """VRRPV3-MIB."""
    instances = view.instances()
    for instance in instances:
        model, index = instance.model, v3_index(instance)
        local = instance.local_address
        columns = {
            3: v3_master_address(instance),
            4: octets(bytes(4 if int(model.family) == 4 else 16)) if local is None else inet_address(local),
            5: octets(instance.mac),
            6: integer(_STATES.get(instance.state, 1)),
            7: gauge(model.priority),
            8: integer(len(model.addresses)),
            9: integer(model.advert_interval_ns // (NS_PER_S // 100)),
            10: truth(not model.nopreempt),
            11: truth(model.accept),
            12: ticks(view.up_for_cs(instance)),
            13: _ACTIVE,
        }
        for column, value in columns.items():
            yield (*VRRPV3_MIB, 1, 1, 1, 1, column, *index), value
        for address in model.addresses:
            packed = address.address.packed
            yield (*VRRPV3_MIB, 1, 1, 2, 1, 2, *index, len(packed), *packed), _ACTIVE
        for column, value in _v3_statistics(instance).items():
            yield (*VRRPV3_MIB, 1, 2, 5, 1, column, *index), value
    for number, count in enumerate(_router_errors(view, instances), 1):
        yield (*VRRPV3_MIB, 1, 2, number, 0), counter64(count)
    yield (*VRRPV3_MIB, 1, 2, 4, 0), ticks(0)


def _v3_statistics(instance: InstanceView) -> dict[int, Value]:
    return {
        1: counter32(instance.counter("become_master")),
        2: new_master_reason(instance),
        3: counter64(instance.counter("adverts_received")),
        4: counter64(instance.rejected("interval")),
        5: counter64(instance.rejected("ttl")),
        6: proto_error_reason(instance),
        7: counter64(instance.counter("priority_zero_received")),
        8: counter64(instance.counter("priority_zero_sent")),
        9: counter64(instance.rejected("type")),
        10: counter64(instance.counter("addresses_differ")),
        11: counter64(instance.rejected("length", "truncated")),
        12: ticks(0),
        13: gauge(instance.model.advert_interval_ns // 1_000_000),
    }
