"""SNMP notifications of changes. Pure.

As keepalived: vrrpInstanceStateChange and vrrpSyncGroupStateChange for every change, vrrpTrapNewMaster and vrrpv3NewMaster when an
instance becomes MASTER; and what it never sends, vrrpTrapAuthFailure and vrrpv3ProtoError when a sender's adverts are refused.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from vrrp.config.model.daemon import SnmpSettings
from vrrp.outside import keepalived_mib as ours
from vrrp.outside import rfc_mibs as rfc
from vrrp.outside.agentx import Notify, Oid, Type, Value, VarBind
from vrrp.outside.events import AdvertRefused, Kind, OutsideEvent, StateChanged
from vrrp.outside.mib_tree import integer, ip_address, text
from vrrp.outside.view import InstanceView, ShownState, View

SNMP_TRAP_OID: Oid = (1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0)


def notification(identity: Oid, *variables: tuple[Oid, Value]) -> Notify:
    """One notification; its identity is the first variable (RFC 2741, section 6.2.10)."""
    first = VarBind(SNMP_TRAP_OID, Value(Type.OBJECT_ID, identity))
    return Notify((first, *(VarBind(name, value) for name, value in variables)))


def notifications(event: OutsideEvent, view: View, settings: SnmpSettings) -> list[Notify]:
    """What ``event`` is worth, in keepalived's order; nothing without ``enable_traps``."""
    if not settings.traps:
        return []
    match event:
        case StateChanged(kind=Kind.GROUP):
            return _group_changed(event, view) if settings.vrrp else []
        case StateChanged():
            return _instance_changed(event, view, settings)
        case AdvertRefused():
            return _advert_refused(event, view, settings)


def _group_changed(event: StateChanged, view: View) -> list[Notify]:
    numbers = {group.name: number for number, group in enumerate(view.config.sync_groups, 1)}
    number = numbers.get(event.name)
    if number is None:
        return []
    return [
        notification(
            ours.GROUP_STATE_CHANGE,
            ((*ours.GROUP_NAME, number), text(event.name)),
            ((*ours.GROUP_STATE, number), integer(ShownState.of(event.state))),
            (ours.ROUTER_ID, text(view.router_id)),
        )
    ]


def _find(view: View, name: str) -> InstanceView | None:
    return next((instance for instance in view.instances() if instance.model.name == name), None)


def _instance_changed(event: StateChanged, view: View, settings: SnmpSettings) -> list[Notify]:
    found = []
    instance = _find(view, event.name)
    if settings.vrrp:
        # Also for an instance that is gone (DELETED, STOP): then without a row, 0 stands for its number.
        number = 0 if instance is None else instance.number
        model = view.config.instance(event.name)
        initial = 1 if model is None else ours.initial_state(model)
        found.append(
            notification(
                ours.INSTANCE_STATE_CHANGE,
                ((*ours.INSTANCE_NAME, number), text(event.name)),
                ((*ours.INSTANCE_STATE, number), integer(ShownState.of(event.state))),
                ((*ours.INSTANCE_INITIAL_STATE, number), integer(initial)),
                (ours.ROUTER_ID, text(view.router_id)),
            )
        )
    if event.state == "MASTER" and instance is not None:
        if settings.rfc_v2 and rfc.in_v2_mib(instance):
            name = (*rfc.V2_MASTER_ADDRESS, *rfc.v2_index(instance))
            found.append(notification(rfc.V2_NEW_MASTER, (name, rfc.v2_master_address(instance))))
        if settings.rfc_v3:
            index = rfc.v3_index(instance)
            found.append(
                notification(
                    rfc.V3_NEW_MASTER,
                    ((*rfc.V3_MASTER_ADDRESS, *index), rfc.v3_master_address(instance)),
                    ((*rfc.V3_NEW_MASTER_REASON, *index), rfc.new_master_reason(instance)),
                )
            )
    return found


def _advert_refused(event: AdvertRefused, view: View, settings: SnmpSettings) -> list[Notify]:
    instance = _find(view, event.name)
    if instance is None:
        return []
    if settings.rfc_v2 and event.reason in rfc.AUTH_ERRORS and rfc.in_v2_mib(instance):
        master = instance.master_address
        source = master if isinstance(master, IPv4Address) else IPv4Address(0)
        kind = integer(rfc.AUTH_ERRORS[event.reason])
        return [notification(rfc.V2_AUTH_FAILURE, (rfc.V2_TRAP_PACKET_SOURCE, ip_address(source)), (rfc.V2_TRAP_AUTH_ERROR, kind))]
    if settings.rfc_v3 and event.reason in rfc.PROTO_ERRORS:
        name = (*rfc.V3_PROTO_ERROR_REASON, *rfc.v3_index(instance))
        return [notification(rfc.V3_PROTO_ERROR, (name, integer(rfc.PROTO_ERRORS[event.reason])))]
    return []
