"""PURE checks across blocks: what no instance can see alone."""

from __future__ import annotations

from collections.abc import Hashable

from vrrp.config.keyword import Reading
from vrrp.config.model.common import IpAddress
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import VrrpInstance


def validate(reading: Reading, config: VrrpConfig) -> None:
    """Report what is wrong between the blocks of a configuration."""
    _check_duplicate_vrids(reading, config)
    _check_shared_addresses(reading, config)
    _remark_unused_scripts(reading, config)
    _check_track_groups(reading, config)


def _medium(instance: VrrpInstance) -> Hashable:
    """Where the adverts of an instance are heard: two instances there need two VRIDs."""
    if instance.unicast:
        return (instance.interface, instance.family, frozenset(peer.address for peer in instance.unicast_peers))
    return (instance.interface, instance.family, instance.multicast_group)


def _check_duplicate_vrids(reading: Reading, config: VrrpConfig) -> None:
    seen: dict[tuple[Hashable, int], VrrpInstance] = {}
    for instance in config.instances:
        first = seen.setdefault((_medium(instance), instance.vrid), instance)
        if first is not instance:
            message = (
                f"{instance.name} and {first.name} both use virtual_router_id {instance.vrid} for IPv{instance.family}"
                f" on {instance.interface} ({first.name} in line {first.position_of('virtual_router_id').line})"
            )
            remedy = "give one of them another virtual_router_id, on all nodes"
            reading.error(instance.position_of("virtual_router_id"), message, remedy, "duplicate")


def _check_shared_addresses(reading: Reading, config: VrrpConfig) -> None:
    seen: dict[IpAddress, VrrpInstance] = {}
    for instance in config.instances:
        for address in instance.addresses + instance.excluded_addresses:
            first = seen.setdefault(address.address, instance)
            if first is not instance:
                message = f"{address.address} belongs to {first.name} and to {instance.name}: two masters may own it"
                reading.note(address.position, message, "remove it from one of them")


def _remark_unused_scripts(reading: Reading, config: VrrpConfig) -> None:
    sets = [instance.track for instance in config.instances] + [group.track for group in config.sync_groups]
    tracked = {track.name for each in sets for track in each.scripts}
    for script in config.scripts:
        if script.name not in tracked:
            reading.note(
                script.position,
                f"vrrp_script {script.name} is tracked by nobody and never run",
                "add it to a track_script block, or remove it",
            )


def _check_track_groups(reading: Reading, config: VrrpConfig) -> None:
    instances = {instance.name for instance in config.instances}
    for group in config.track_groups:
        for member in group.members:
            if member not in instances:
                message = f"track_group {group.name} names the unknown vrrp_instance {member}"
                reading.warning(group.position, message, "define the vrrp_instance, or remove the name", "advice")
    known = {group.name for group in config.track_groups}
    entries = [(a.track_group, bool(a.interface), a.position) for a in config.static_addresses]
    entries += [(r.track_group, any(hop.interface for hop in r.next_hops), r.position) for r in config.static_routes]
    entries += [(r.track_group, any(word in ("iif", "dev") for word, _ in r.selectors), r.position) for r in config.static_rules]
    for name, has_interface, position in entries:
        if name and name not in known:
            reading.error(position, f"there is no track_group {name}", f"define it with: track_group {name} {{", "unknown-name")
        elif name and not has_interface:
            reading.error(position, f"track_group {name} needs an interface to track", "add: dev INTERFACE (in a rule: iif)", "value")
