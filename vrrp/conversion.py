"""From the configuration model to what the protocol core and the sockets want to know."""

from __future__ import annotations

from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import AntiReplay, AuthKind, HmacMode, SyncGroup, VrrpInstance
from vrrp.config.model.services import lowered_priorities
from vrrp.config.model.tracking import TrackSet
from vrrp.lvs.naming import service_id_of
from vrrp.placement import mac_of
from vrrp.protocol.authentication_header import Authenticator
from vrrp.protocol.belief import DifferingLists
from vrrp.protocol.hmac_session import HmacPolicy, HmacSession
from vrrp.protocol.node import NodeParameters
from vrrp.protocol.packet import (
    CS_NS,
    DEFAULT_GROUP_IPV4,
    DEFAULT_GROUP_IPV6,
    MULTICAST_TTL,
    AuthType,
    ChecksumStyle,
    Expectations,
    Family,
    IPAddress,
    pass_auth_data,
)
from vrrp.protocol.parameters import NS_PER_S, InstanceParameters
from vrrp.protocol.sync_group import GroupParameters
from vrrp.protocol.trackers import ScriptParameters, TrackKind, TrackReference

_AUTH = {AuthKind.NONE: AuthType.NONE, AuthKind.PASS: AuthType.PASS, AuthKind.AH: AuthType.AH}


def identity(model: VrrpInstance) -> tuple[object, ...]:
    """What makes it the same virtual router across a reload; its name and its version do not (keepalived's rule)."""
    return (model.vrid, model.family, model.interface, model.unicast, None if model.unicast else model.multicast_group)


def successors(before: VrrpConfig, after: VrrpConfig) -> dict[str, str]:
    """Old name → new name of the virtual routers that exist before and after a reload. Names may have changed, or changed places."""
    names = {identity(model): model.name for model in after.instances}
    return {model.name: names[identity(model)] for model in before.instances if identity(model) in names}


def _auth_data(model: VrrpInstance) -> bytes:
    if model.version != 2 or model.family != 4:
        return b""
    return pass_auth_data(model.authentication.password) if model.authentication.kind is AuthKind.PASS else bytes(8)


def authenticator(model: VrrpInstance) -> Authenticator | None:
    """What seals and opens the packets of an instance with ``auth_type AH``."""
    if model.version != 2 or model.authentication.kind is not AuthKind.AH:
        return None
    return Authenticator(model.authentication.password, unicast=model.unicast)


def hmac_session(model: VrrpInstance) -> HmacSession | None:
    """What signs and checks the trailers of an instance with ``auth_hmac``."""
    given = model.hmac
    if given is None:
        return None
    policy = HmacPolicy(
        keys={key.key_id: key.secret for key in given.keys},
        active_key=given.active_key,
        signs=given.mode is not HmacMode.RECEIVE_ONLY,
        required=given.mode is HmacMode.ENFORCE,
        timed=given.anti_replay is AntiReplay.TIME,
        window_s=given.time_window_ns // NS_PER_S,
    )
    return HmacSession(policy)


def _says_last_word(model: VrrpInstance) -> bool:
    """Our default differs from keepalived's (ADR 0104); an explicit line or vrrp_strict decides otherwise."""
    if model.higher_prio_send_advert:
        return True
    return not model.strict and "higher_prio_send_advert" not in dict(model.positions)


def instance_parameters(model: VrrpInstance, startup_delay_ns: int = 0, not_before_ns: int = 0) -> InstanceParameters:
    """The core's view of one vrrp_instance."""
    return InstanceParameters(
        name=model.name,
        vrid=model.vrid,
        priority=model.priority,
        family=Family(int(model.family)),
        version=model.version,
        interval_ns=model.advert_interval_ns,
        addresses=tuple(address.address for address in model.addresses),
        carried=tuple((address.interface, address.address) for address in (*model.addresses, *model.excluded_addresses)),
        start_as_master=model.initial_state.value == "MASTER",
        preempt=not model.nopreempt,
        preempt_delay_ns=model.preempt_delay_ns,
        down_timer_adverts=model.down_timer_adverts,
        lower_prio_no_advert=model.lower_prio_no_advert,
        higher_prio_send_advert=_says_last_word(model),
        garp_repeat=model.garp.master_repeat,
        garp_delay_ns=model.garp.master_delay_ns,
        garp_refresh_ns=model.garp.refresh_ns,
        garp_refresh_repeat=model.garp.refresh_repeat,
        garp_lower_prio_repeat=model.garp.lower_priority_repeat,
        garp_lower_prio_delay_ns=model.garp.lower_priority_delay_ns,
        garp_extra_ns=model.garp.extra_interface_ns if _is_elsewhere(model) else 0,
        announces_source=model.unicast and bool(model.interface),
        virtual_mac=_answering_mac(model),
        startup_delay_ns=startup_delay_ns,
        not_before_ns=not_before_ns,
        unheard_limit=model.unheard_limit,
        late_backup_priority=model.timer_expired_backup_priority if model.timer_expired_backup else 0,
        in_sync_group=bool(model.sync_group),
        check_addresses=not model.skip_check_adv_addr,
        differing_lists=DifferingLists(model.differing_lists),
        peers=frozenset(peer.address for peer in model.unicast_peers),
        has_secret=_has_secret(model),
        auth_type=_AUTH[model.authentication.kind] if model.version == 2 else AuthType.NONE,
        auth_data=_auth_data(model),
    )


def _has_secret(model: VrrpInstance) -> bool:
    """An advert without our password, AH key or trailer is refused before the core hears of it."""
    if model.hmac is not None and model.hmac.mode is HmacMode.ENFORCE:
        return True
    return model.version == 2 and int(model.family) == 4 and model.authentication.kind is not AuthKind.NONE


def _is_elsewhere(model: VrrpInstance) -> bool:
    """Does an address live on an interface that adverts do not leave by? Whether that is a macvlan, the endpoint knows."""
    speaking = model.virtual_interface if model.speaks_on_link else model.interface
    return any(address.interface != speaking for address in (*model.addresses, *model.excluded_addresses))


def _answering_mac(model: VrrpInstance) -> bytes:
    """Of the macvlan; b"" without one."""
    if not model.virtual_interface or model.vmac is None or model.vmac.ipvlan:
        return b""
    return mac_of(model.vmac, model.vrid, int(model.family))


def checksum_style(model: VrrpInstance) -> ChecksumStyle:
    """How v3 checksums are made."""
    return ChecksumStyle.PLAIN if model.v3_checksum_as_v2 else ChecksumStyle.PSEUDO_HEADER


def old_checksum_group(model: VrrpInstance) -> IPAddress | None:
    """The group that may stand in the checksum of unicast v3 adverts; None where ``old_unicast_checksum never`` or not unicast v3."""
    applies = model.unicast and model.version == 3 and int(model.family) == 4 and not model.v3_checksum_as_v2
    return group_of(model) if applies and model.old_unicast_checksum is not False else None


def destinations(model: VrrpInstance) -> tuple[IPAddress, ...]:
    """Where adverts go: every unicast peer, or the group."""
    if model.unicast:
        return tuple(peer.address for peer in model.unicast_peers)
    return (group_of(model),)


def group_of(model: VrrpInstance) -> IPAddress:
    """The multicast group of an instance that is not unicast."""
    return model.multicast_group or (DEFAULT_GROUP_IPV6 if int(model.family) == 6 else DEFAULT_GROUP_IPV4)


KERNEL_HOP_LIMIT = 64
"""With which a keepalived without unicast_ttl sends unicast adverts over IPv6."""


def link_ttls(model: VrrpInstance) -> frozenset[int]:
    """The TTLs of adverts from a unicast peer on our link: 255, or what the same configuration makes a keepalived send there."""
    if model.unicast_ttl is not None:
        return frozenset({MULTICAST_TTL, model.unicast_ttl})
    return frozenset({MULTICAST_TTL, KERNEL_HOP_LIMIT} if int(model.family) == 6 else {MULTICAST_TTL})


def expectations(model: VrrpInstance, local_address: IPAddress | None, linked_peers: frozenset[IPAddress] = frozenset()) -> Expectations:
    """What a received advert must look like. ``linked_peers``: those within a connected prefix of the interface."""
    limits = {
        peer.address: (peer.min_ttl or 0, 255 if peer.max_ttl is None else peer.max_ttl)
        for peer in model.unicast_peers
        if peer.min_ttl is not None or peer.max_ttl is not None
    }
    return Expectations(
        version=model.version,
        family=Family(int(model.family)),
        vrid=model.vrid,
        interval_cs=model.advert_interval_ns // CS_NS,
        local_address=local_address,
        group=None if model.unicast else group_of(model),
        peers=frozenset(peer.address for peer in model.unicast_peers),
        only_peers=model.check_unicast_source or bool(limits),
        linked_peers=linked_peers,
        link_ttls=link_ttls(model),
        peer_ttl=limits,
        auth_type=_AUTH[model.authentication.kind] if model.version == 2 else AuthType.NONE,
        auth_data=_auth_data(model),
        checksum=checksum_style(model),
        owner_ignores=model.owner_ignore_adverts and model.owner,
        old_checksum_group=old_checksum_group(model),
    )


def _track_references(track: TrackSet) -> list[TrackReference]:
    references = [TrackReference(TrackKind.INTERFACE, t.name, t.weight, t.reverse) for t in track.interfaces]
    references += [TrackReference(TrackKind.SCRIPT, t.name, t.weight, t.reverse) for t in track.scripts]
    references += [TrackReference(TrackKind.FILE, t.name, t.weight, t.reverse) for t in track.files]
    references += [TrackReference(TrackKind.PROCESS, t.name, t.weight, t.reverse) for t in track.processes]
    references += [TrackReference(TrackKind.BFD, t.name, t.weight, t.reverse) for t in track.bfds]
    return references


def _interfaces_of_routes(model: VrrpInstance) -> list[str]:
    """Interfaces of tracked routes, without which the instance goes to FAULT (keepalived; one with several next hops is not tracked)."""
    routes = [route for route in model.routes if not route.no_track and len(route.next_hops) == 1]
    return [route.next_hops[0].interface for route in routes if route.next_hops[0].interface not in ("", model.interface)]


def _links_of_addresses(model: VrrpInstance, links: frozenset[str]) -> list[str]:
    """Macvlans of addresses on other interfaces, where keepalived tracks them too."""
    addresses = (address for address in (*model.addresses, *model.excluded_addresses) if not address.no_track)
    return [address.interface for address in addresses if address.interface in links and address.interface != model.virtual_interface]


def _tracks_of(config: VrrpConfig, model: VrrpInstance, group: SyncGroup | None, links: frozenset[str]) -> tuple[TrackReference, ...]:
    own = _track_references(model.track)
    if group is not None:
        own += _track_references(group.track)
    own += [TrackReference(TrackKind.INTERFACE, name) for name in _interfaces_of_routes(model)]
    own += _statics_of(config, model.name)
    if model.interface and model.track_primary:
        own[:0] = [TrackReference(TrackKind.INTERFACE, name) for name in (model.interface, model.virtual_interface) if name]
    own += [TrackReference(TrackKind.INTERFACE, name) for name in _links_of_addresses(model, links)]
    return tuple(dict.fromkeys(own))


def _statics_of(config: VrrpConfig, instance: str) -> list[TrackReference]:
    """Interfaces of the static entries whose track_group names this instance: without them it goes to FAULT, as in keepalived."""
    groups = {group.name for group in config.track_groups if instance in group.members}
    names = [address.interface for address in config.static_addresses if address.track_group in groups and not address.no_track]
    for route in config.static_routes:
        if route.track_group in groups and not route.no_track and len(route.next_hops) == 1:
            names.append(route.next_hops[0].interface)
    for rule in config.static_rules:
        if rule.track_group in groups and not rule.no_track:
            names += [value for word, value in rule.selectors if word in ("iif", "dev")]
    return [TrackReference(TrackKind.INTERFACE, name) for name in names if name]


def _quorums_of(config: VrrpConfig, instance: str) -> tuple[TrackReference, ...]:
    """The virtual servers whose lost quorum lowers the priority of this instance (``quorum_lowers_priority``)."""
    return tuple(
        TrackReference(TrackKind.QUORUM, service_id_of(config, server), -lowered.amount)
        for server in config.virtual_servers
        for lowered in lowered_priorities(server)
        if lowered.instance == instance
    )


def node_parameters(config: VrrpConfig) -> NodeParameters:
    """The core's view of the whole file."""
    groups = {name: group for group in config.sync_groups for name in group.members}
    used = {model.name for model in config.instances}
    vrrp = config.global_defs.vrrp
    links = frozenset(link.name for link in config.links)
    return NodeParameters(
        instances=tuple(instance_parameters(m, vrrp.startup_delay_ns, vrrp.delay_after_boot_ns) for m in config.instances),
        groups=tuple(GroupParameters(g.name, tuple(m for m in g.members if m in used)) for g in config.sync_groups),
        scripts=tuple(ScriptParameters(s.name, s.rise, s.fall, s.init_fail) for s in config.scripts),
        tracks={m.name: _tracks_of(config, m, groups.get(m.name), links) + _quorums_of(config, m.name) for m in config.instances},
        stop_words={model.name: "DELETED" if model.notify_deleted else "FAULT" for model in config.instances},
    )
