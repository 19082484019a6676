"""KEEPALIVED-MIB, global and vrrp parts (enterprises 9586.100.5.1 and .2), from a View. Pure.

Checked against Debian's keepalived 2.2.7 value by value; where that deviates from its own MIB file (vrrpInstanceAccept 0,
vrrpAddressAdvertising of version 3, vrrpInstanceTrackPrimaryIf) we follow the MIB. Read only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address

from base.core import NS_PER_S
from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.common import InitialState, NotifyCommands, ScriptCommand
from vrrp.config.model.instance import AuthKind, VrrpInstance
from vrrp.config.model.tracking import ParameterMatch, Track, TrackSet
from vrrp.outside.agentx import Oid, Value
from vrrp.outside.mib_tree import gauge, inet_address, integer, octets, text, truth
from vrrp.outside.view import InstanceView, ShownState, View

KEEPALIVED: Oid = (1, 3, 6, 1, 4, 1, 9586, 100, 5)
GLOBAL: Oid = (*KEEPALIVED, 1)
VRRP: Oid = (*KEEPALIVED, 2)
ROUTER_ID: Oid = (*GLOBAL, 2, 0)
_SYNC_GROUPS, _MEMBERS, _INSTANCES, _ADDRESSES = (*VRRP, 1, 1), (*VRRP, 2, 1), (*VRRP, 3, 1), (*VRRP, 6, 1)
_SCRIPTS, _FILES, _BFDS, _PROCESSES = (*VRRP, 9, 1), (*VRRP, 13, 1), (*VRRP, 18, 1), (*VRRP, 21, 1)
GROUP_NAME, GROUP_STATE = (*_SYNC_GROUPS, 2), (*_SYNC_GROUPS, 3)
INSTANCE_NAME, INSTANCE_STATE, INSTANCE_INITIAL_STATE = (*_INSTANCES, 2), (*_INSTANCES, 4), (*_INSTANCES, 5)
GROUP_STATE_CHANGE, INSTANCE_STATE_CHANGE = (*VRRP, 10, 0, 1), (*VRRP, 10, 0, 2)

_AUTH = {AuthKind.NONE: 0, AuthKind.PASS: 1, AuthKind.AH: 2}
_MATCH = {ParameterMatch.NONE: 0, ParameterMatch.EXACT: 1, ParameterMatch.PARTIAL: 2, ParameterMatch.INITIAL: 3}
_SCOPES = {0: 14, 200: 5, 253: 2, 254: 1, 255: 0}
"""RT_SCOPE → InetScopeType: global, site, link, interface-local."""

Row = Iterator[tuple[Oid, Value]]


def keepalived_mib(view: View) -> Row:
    """Every value of both parts."""
    yield from global_mib(view)
    yield from _groups(view)
    for instance in view.instances():
        yield from _instance(instance)
        yield from _addresses(instance, view)
    yield from _tracks(view)
    yield from _tracked_objects(view)


def _command(command: ScriptCommand) -> Value:
    return text(" ".join(f"'{word}'" for word in command.arguments))


def _tristate(value: bool | None) -> Value:
    return integer(3 if value is None else 1 if value else 2)


def global_mib(view: View) -> Row:
    """The global part."""
    defs = view.config.global_defs
    mail = defs.mail
    yield (*GLOBAL, 1, 0), text(view.version)
    yield ROUTER_ID, text(view.router_id)
    if mail.server:
        try:
            server = ip_address(mail.server)
            yield (*GLOBAL, 3, 1, 0), integer(1 if server.version == 4 else 2)
            yield (*GLOBAL, 3, 2, 0), inet_address(server)
        except ValueError:
            yield (*GLOBAL, 3, 1, 0), integer(16)  # dns
            yield (*GLOBAL, 3, 2, 0), text(mail.server)
        yield (*GLOBAL, 3, 6, 0), gauge(mail.port)
    yield (*GLOBAL, 3, 3, 0), gauge(mail.connect_timeout_ns // NS_PER_S)
    yield (*GLOBAL, 3, 4, 0), text(mail.sender or f"root@{view.host}")
    for number, recipient in enumerate(mail.recipients, 1):
        yield (*GLOBAL, 3, 5, 1, 2, number), text(recipient)
    yield (*GLOBAL, 3, 7, 0), truth(not mail.no_faults)
    yield (*GLOBAL, 3, 8, 0), _tristate(mail.alert)
    yield (*GLOBAL, 3, 9, 0), _tristate(mail.alert_vrrp)
    yield (*GLOBAL, 3, 10, 0), _tristate(mail.alert_checker)
    yield (*GLOBAL, 4, 0), truth(defs.snmp.traps)
    yield (*GLOBAL, 5, 0), integer(2 if any(i.linkbeat_polling for i in view.config.instances) else 1)
    yield (*GLOBAL, 6, 0), truth(defs.lvs.flush)
    yield (*GLOBAL, 7, 0), truth(True)
    yield (*GLOBAL, 8, 0), text(view.config.daemon.net_namespace)
    yield (*GLOBAL, 9, 0), truth(defs.dbus.enabled)
    yield (*GLOBAL, 10, 0), truth(defs.dynamic_interfaces)
    yield (*GLOBAL, 11, 0), truth(defs.lvs.flush_on_stop.value != "no")


def _scripts_of(notify: NotifyCommands, at: dict[int, ScriptCommand | None]) -> Iterator[tuple[int, Value]]:
    for column, command in at.items():
        if command is not None:
            yield column, _command(command)


def _groups(view: View) -> Row:
    numbers = {model.name: number for number, model in enumerate(view.config.instances, 1)}
    for number, group in enumerate(view.config.sync_groups, 1):
        notify = group.notify
        columns = {
            2: text(group.name),
            3: integer(view.group_state(group.name)),
            4: truth(group.smtp_alert),
            5: truth(notify.configured()),
            10: truth(group.tracking_weight),
        }
        columns.update(_scripts_of(notify, {6: notify.master, 7: notify.backup, 8: notify.fault, 9: notify.any_state, 11: notify.stop}))
        for column, value in columns.items():
            yield (*_SYNC_GROUPS, column, number), value
        for position, member in enumerate([m for m in group.members if m in numbers], 1):
            yield (*_MEMBERS, 2, number, position), text(member)


def _instance(instance: InstanceView) -> Row:
    for column, value in _instance_columns(instance).items():
        yield (*_INSTANCES, column, instance.number), value


def _instance_columns(instance: InstanceView) -> dict[int, Value]:
    model, status = instance.model, instance.status
    wanted = {a.address for a in (*model.addresses, *model.excluded_addresses)}
    held = {str(address).partition("/")[0] for address in status.get("held", [])}
    notify = model.notify
    columns = {
        2: text(model.name),
        3: gauge(model.vrid),
        4: integer(instance.state),
        5: integer(initial_state(model)),
        6: integer(2 if status.get("wants_master") or instance.state is ShownState.MASTER else 1),
        7: integer(model.priority),
        8: integer(status.get("priority", model.priority)),
        9: truth({str(address) for address in wanted} <= held),
        10: text(model.interface),
        11: truth(model.track_primary),
        12: gauge(advert_interval(model)),
        13: truth(not model.nopreempt),
        14: gauge(model.preempt_delay_ns // NS_PER_S),
        15: integer(_AUTH[model.authentication.kind]),
        16: truth(False),
        19: gauge(model.garp.master_delay_ns // NS_PER_S),
        20: truth(model.smtp_alert),
        21: truth(notify.configured()),
        27: truth(model.accept),
        28: truth(model.promote_secondaries),
        29: truth(model.linkbeat_polling),
        30: integer(model.version),
        33: truth(model.notify_deleted),
    }
    if model.sync_group:
        columns[18] = text(model.sync_group)
    columns.update(
        _scripts_of(
            notify,
            {
                22: notify.master,
                23: notify.backup,
                24: notify.fault,
                25: notify.stop,
                26: notify.any_state,
                31: notify.master_rx_lower_priority,
                32: notify.deleted,
            },
        )
    )
    if not model.unicast and status.get("multicast_group"):
        group = ip_address(status["multicast_group"])
        columns[34] = integer(1 if group.version == 4 else 2)
        columns[35] = inet_address(group)
    return columns


def initial_state(model: VrrpInstance) -> int:
    """``state`` of the file, in the MIB's numbers."""
    return 2 if model.initial_state is InitialState.MASTER else 1


def advert_interval(model: VrrpInstance) -> int:
    """Seconds in version 2, centiseconds in version 3."""
    return model.advert_interval_ns // (NS_PER_S if model.version == 2 else NS_PER_S // 100)


def _addresses(instance: InstanceView, view: View) -> Row:
    held = {str(address).partition("/")[0] for address in instance.status.get("held", [])}
    model = instance.model
    number = 0
    for advertised, addresses in ((True, model.addresses), (False, model.excluded_addresses)):
        for address in addresses:
            number += 1
            for column, value in _address_columns(address, model, view).items():
                yield (*_ADDRESSES, column, instance.number, number), value
            yield (*_ADDRESSES, 10, instance.number, number), truth(str(address.address) in held)
            yield (*_ADDRESSES, 11, instance.number, number), truth(advertised)


def _address_columns(address: VirtualAddress, model: VrrpInstance, view: View) -> dict[int, Value]:
    interface = address.interface or model.interface
    columns = {
        2: integer(1 if address.address.version == 4 else 2),
        3: inet_address(address.address),
        5: gauge(address.prefix_length),
        6: integer(_SCOPES.get(address.scope, 0)),
        7: integer(view.link(interface).index),
        8: text(interface),
    }
    if address.address.version == 4:
        columns[4] = octets(bytes(4) if address.broadcast is None else address.broadcast.packed)
    if address.label:
        columns[9] = text(address.label)
    if address.peer is not None:
        columns[12] = inet_address(address.peer)
    return columns


_SET_TABLES: tuple[tuple[Callable[[TrackSet], tuple[Track, ...]], int, int], ...] = (
    (lambda track: track.scripts, 5, 15),
    (lambda track: track.files, 12, 16),
    (lambda track: track.bfds, 17, 19),
    (lambda track: track.processes, 20, 22),
)
"""What is tracked, table of the instances, table of the sync groups."""


def _tracks(view: View) -> Row:
    owners = [(number, model.track, False) for number, model in enumerate(view.config.instances, 1)]
    owners += [(number, group.track, True) for number, group in enumerate(view.config.sync_groups, 1)]
    for number, track, is_group in owners:
        for tracked in track.interfaces:
            entry = (*VRRP, 14 if is_group else 4, 1)
            index = view.link(tracked.name).index
            yield (*entry, 1, number, index), text(tracked.name)
            yield (*entry, 2, number, index), integer(tracked.weight)
            yield (*entry, 3, number, index), truth(tracked.reverse)
        for select, of_instances, of_groups in _SET_TABLES:
            entry = (*VRRP, of_groups if is_group else of_instances, 1)
            for position, tracked in enumerate(select(track), 1):
                yield (*entry, 2, number, position), text(tracked.name)
                yield (*entry, 3, number, position), integer(tracked.weight)
                yield (*entry, 4, number, position), truth(tracked.reverse)


def _table(entry: Oid, number: int, *columns: Value) -> Row:
    """One row; the columns begin at 2, as 1 is the index."""
    for column, value in enumerate(columns, 2):
        yield (*entry, column, number), value


def _tracked_objects(view: View) -> Row:
    up = {script["name"]: script["up"] for script in view.status.get("scripts", [])}
    values = {(tracked["kind"], tracked["name"]): tracked["value"] for tracked in view.status.get("tracked", [])}
    for number, script in enumerate(view.config.scripts, 1):
        result = {None: 1, False: 2, True: 3}[up.get(script.name)]
        yield from _table(
            _SCRIPTS,
            number,
            text(script.name),
            _command(script.command),
            integer(script.interval_ns // NS_PER_S),
            integer(script.weight),
            integer(result),
            gauge(script.rise),
            gauge(script.fall),
            truth(script.reverse),
        )
    for number, file in enumerate(view.config.track_files, 1):
        result = int(values.get(("file", file.name), 0))
        yield from _table(_FILES, number, text(file.name), text(file.path), integer(result), integer(file.weight), truth(file.reverse))
    for number, bfd in enumerate([b for b in view.config.bfd_instances if b.for_vrrp], 1):
        result = int(values.get(("bfd", bfd.name), 0))
        yield from _table(_BFDS, number, text(bfd.name), integer(result), integer(bfd.weight), truth(bfd.reverse))
    for number, process in enumerate(view.config.track_processes, 1):
        running = int(values.get(("process", process.name), 0))
        yield from _table(
            _PROCESSES,
            number,
            text(process.name),
            text(process.process),
            text(" ".join(process.parameters)),
            integer(_MATCH[process.match]),
            integer(process.weight),
            truth(process.reverse),
            gauge(process.quorum),
            integer(2**31 - 1 if process.quorum_max is None else process.quorum_max),
            gauge(process.fork_delay_ns // 1000),
            gauge(process.terminate_delay_ns // 1000),
            truth(process.full_command),
            integer(running),
            truth(running),
        )
