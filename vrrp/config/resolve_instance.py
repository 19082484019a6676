"""One vrrp_instance: its defaults, and the checks that need nothing but itself and global_defs.

The order follows keepalived's: family, version, interval, authentication, strict mode, initial state, tracking. What
keepalived corrects with a complaint is corrected here with a warning; what would make the instance useless is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from base.core import NS_PER_MS, NS_PER_S
from base.diagnostics import Position
from vrrp.config.defaults import GarpDefaults, with_default_users
from vrrp.config.keyword import Collected, Reading, apply
from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.common import Family, InitialState, IpAddress
from vrrp.config.model.daemon import GlobalDefs
from vrrp.config.model.instance import (
    DEFAULT_PRIORITY,
    OWNER_PRIORITY,
    Authentication,
    AuthHmac,
    AuthKind,
    HmacKey,
    HmacMode,
    SyncGroup,
    UnicastPeer,
    VmacSettings,
    VrrpInstance,
)
from vrrp.config.model.tracking import Track, TrackSet
from vrrp.config.tables.top_level import RawBlock

MAX_PASSWORD_BYTES = 8
MAX_ADVERT_ADDRESSES = 255
MAX_V2_INTERVAL_NS = 255 * NS_PER_S
MAX_V3_INTERVAL_NS = 4095 * 10 * NS_PER_MS
CENTISECOND_NS = 10 * NS_PER_MS

_BY_HAND = (
    "authentication",
    "track_interface",
    "track_script",
    "track_file",
    "track_process",
    "track_bfd",
    "interface",
    "vrid",
)
"""Fields that are not copied from the table as they are."""


class InstanceResolver:
    """Resolves instances one by one against the same global_defs."""

    def __init__(self, reading: Reading, defs: GlobalDefs, garp_defaults: GarpDefaults, track_set: Callable[[Collected], TrackSet]) -> None:
        self._reading = reading
        self._defs = defs
        self._garp_defaults = garp_defaults
        self._track_set = track_set

    def resolve(self, block: RawBlock, group: SyncGroup | None) -> VrrpInstance | None:
        """The instance, or None if it has no VRID or interface (reported)."""
        return _Instance(self._reading, self._defs, self._garp_defaults, block, group).resolve(self._track_set(block.collected))


class _Instance:
    def __init__(self, reading: Reading, defs: GlobalDefs, garp_defaults: GarpDefaults, block: RawBlock, group: SyncGroup | None) -> None:
        assert block.name is not None
        self._reading = reading
        self._defs = defs
        self._garp_defaults = garp_defaults
        self._block = block
        self._collected = block.collected
        self._values = block.collected.values
        self._name = block.name.text
        self._group = group

    def resolve(self, tracks: TrackSet) -> VrrpInstance | None:
        interface = self._interface()
        vrid = self._values.get("vrid")
        if not self._collected.has("virtual_router_id"):
            self._error(
                "",
                f"vrrp_instance {self._name} has no virtual_router_id",
                "add: virtual_router_id 1..255, the same on all nodes",
                "missing-value",
            )
        if interface is None or not isinstance(vrid, int):
            return None
        instance = self._inherited(VrrpInstance(self._name, interface, vrid, position=self._block.statement.position))
        instance = apply(instance, {path: value for path, value in self._values.items() if path not in _BY_HAND})
        instance = replace(
            instance,
            notify=with_default_users(instance.notify, self._defs),
            notify_deleted=self._collected.has("notify_deleted"),
            sync_group=self._group.name if self._group is not None else "",
            positions=self._collected.position_list(),
        )
        for step in (
            self._resolve_addresses,
            self._resolve_version,
            self._resolve_interval,
            self._resolve_unicast,
            self._resolve_vrf,
            self._resolve_authentication,
            self._resolve_hmac,
            self._resolve_state,
            self._resolve_vmac,
            self._resolve_strict,
            self._resolve_garp,
            self._check_limits,
        ):
            instance = step(instance)
        return replace(instance, track=self._resolve_tracks(instance, tracks))

    # -- reports -----------------------------------------------------------------------------------------------------

    def _place(self, keyword: str) -> Position:
        return self._collected.positions.get(keyword, self._block.statement.position)

    def _error(self, keyword: str, message: str, remedy: str, code: str = "value") -> None:
        self._reading.via = self._block.statement.via
        self._reading.error(self._place(keyword), message, remedy, code)

    def _warn(self, keyword: str, message: str, remedy: str, code: str = "value") -> None:
        self._reading.via = self._block.statement.via
        self._reading.warning(self._place(keyword), f"{self._name}: {message}", remedy, code)

    def _note(self, keyword: str, message: str, remedy: str, code: str = "advice") -> None:
        self._reading.via = self._block.statement.via
        self._reading.note(self._place(keyword), f"{self._name}: {message}", remedy, code)

    # -- steps, in order -----------------------------------------------------------------------------------------------

    def _interface(self) -> str | None:
        given = self._values.get("interface")
        if isinstance(given, str):
            self._check_interface("interface", given)
            return given
        if self._collected.has("interface"):
            return None
        if self._values.get("source") is not None and self._values.get("unicast_peers"):
            return ""
        self._error(
            "",
            f"vrrp_instance {self._name} has no interface",
            "add: interface NAME (only unicast_src_ip with unicast_peer does without)",
            "missing-value",
        )
        return None

    def _check_interface(self, keyword: str, name: str, position: Position | None = None) -> None:
        if name == "lo":
            self._error(
                keyword,
                f"{self._name}: VRRP cannot run on the loopback interface",
                "name the interface of the service network",
                "interface",
            )
        elif not self._reading.interface_exists(name):
            message = f"{self._name}: interface {name} does not exist"
            remedy = "correct the name ('ip link' lists them), or set dynamic_interfaces in global_defs if it comes later"
            if self._defs.dynamic_interfaces:
                self._reading.note(
                    position or self._place(keyword), message, "vrrpd waits for it, because of dynamic_interfaces", "interface"
                )
            else:
                self._reading.error(position or self._place(keyword), message, remedy, "interface")

    def _inherited(self, instance: VrrpInstance) -> VrrpInstance:
        """What the instance takes from global_defs unless its own lines say otherwise."""
        vrrp, mail = self._defs.vrrp, self._defs.mail
        of_group = None if self._group is None else self._group.notify_priority_changes
        alert = mail.alert_vrrp if mail.alert_vrrp is not None else mail.alert
        return replace(
            instance,
            version=vrrp.version,
            down_timer_adverts=vrrp.down_timer_adverts,
            strict=vrrp.strict,
            skip_check_adv_addr=vrrp.skip_check_adv_addr,
            check_unicast_source=vrrp.check_unicast_source,
            lower_prio_no_advert=vrrp.lower_prio_no_advert,
            higher_prio_send_advert=vrrp.higher_prio_send_advert,
            owner_ignore_adverts=vrrp.owner_ignore_adverts,
            v3_checksum_as_v2=vrrp.v3_checksum_as_v2,
            notify_priority_changes=vrrp.notify_priority_changes if of_group is None else of_group,
            smtp_alert=bool(alert),
            garp=vrrp.garp,
        )

    def _resolve_addresses(self, instance: VrrpInstance) -> VrrpInstance:
        addresses = tuple(self._with_interface(address, instance) for address in instance.addresses)
        excluded = tuple(self._with_interface(address, instance) for address in instance.excluded_addresses)
        family = self._family(instance, addresses)
        alien = [address for address in addresses if address.family is not family]
        for address in alien:
            self._reading.error(
                address.position,
                f"{self._name}: {address.address} is IPv{address.family} among IPv{family} addresses",
                "move it to virtual_ipaddress_excluded or to an instance of its own family",
                "family",
            )
        addresses = tuple(address for address in addresses if address.family is family)
        limit = self._room_for_addresses(instance, family)
        if len(addresses) > limit:
            message = f"{len(addresses)} addresses do not fit into an advert; those after {limit} count as excluded"
            self._warn("virtual_ipaddress", message, "move them to virtual_ipaddress_excluded, on all nodes")
            addresses, excluded = addresses[:limit], addresses[limit:] + excluded
        if not addresses and not self._has_address_lines() and not self._collected.has("no_virtual_ipaddress"):
            self._warn(
                "virtual_ipaddress",
                "no virtual_ipaddress; the instance elects a master that owns nothing",
                "add: virtual_ipaddress { ADDRESS }",
            )
        self._remark_repeated(addresses + excluded)
        group = instance.multicast_group or (
            self._defs.vrrp.multicast_group6 if family is Family.IPV6 else self._defs.vrrp.multicast_group4
        )
        return replace(instance, family=family, addresses=addresses, excluded_addresses=excluded, multicast_group=group)

    def _room_for_addresses(self, instance: VrrpInstance, family: Family) -> int:
        """How many addresses an advert carries: 255, or what the MTU leaves, counted as keepalived counts (with an Ethernet header)."""
        if family is Family.IPV6:
            return min(MAX_ADVERT_ADDRESSES, (self._reading.mtu_of(instance.interface) - 14 - 40 - 8) // 16)
        return min(MAX_ADVERT_ADDRESSES, (self._reading.mtu_of(instance.interface) - 14 - 20 - 8 - 8) // 4)

    def _has_address_lines(self) -> bool:
        """Whether virtual_ipaddress has lines at all; a wrong one was reported already."""
        return any(s.keyword == "virtual_ipaddress" and s.block for s in self._block.statement.block or ())

    def _with_interface(self, address: VirtualAddress, instance: VrrpInstance) -> VirtualAddress:
        if address.interface:
            self._check_interface("", address.interface, address.position)
            return address
        return replace(address, interface=instance.interface or self._defs.default_interface)

    def _family(self, instance: VrrpInstance, addresses: tuple[VirtualAddress, ...]) -> Family:
        if self._collected.has("native_ipv6"):
            return Family.IPV6
        if addresses:
            return addresses[0].family
        for candidate in (instance.source, *(peer.address for peer in instance.unicast_peers), instance.multicast_group):
            if candidate is not None:
                return Family(candidate.version)
        return Family.IPV4

    def _remark_repeated(self, addresses: tuple[VirtualAddress, ...]) -> None:
        seen: dict[IpAddress, VirtualAddress] = {}
        for address in addresses:
            first = seen.setdefault(address.address, address)
            if first is not address:
                message = f"{self._name}: {address.address} is listed twice (first in line {first.position.line})"
                self._reading.note(address.position, message, "remove one of them")

    def _resolve_version(self, instance: VrrpInstance) -> VrrpInstance:
        if instance.family is Family.IPV6 and instance.version != 3:
            if self._collected.has("version"):
                self._note("version", "IPv6 needs VRRP version 3; version 3 is used", "write: version 3")
            return replace(instance, version=3)
        return instance

    def _resolve_interval(self, instance: VrrpInstance) -> VrrpInstance:
        interval = instance.advert_interval_ns
        unit, high, rule = (
            (NS_PER_S, MAX_V2_INTERVAL_NS, "whole seconds")
            if instance.version == 2
            else (CENTISECOND_NS, MAX_V3_INTERVAL_NS, "steps of 0.01 s")
        )
        rounded = max((interval + unit // 2) // unit * unit, unit)
        if rounded != interval:
            message = (
                f"VRRP version {instance.version} counts advert_int in {rule}; {_seconds(interval)} s is taken as {_seconds(rounded)} s"
            )
            remedy = f"write: advert_int {_seconds(rounded)} on all nodes" + (
                ", or use version 3 on all nodes" if instance.version == 2 else ""
            )
            self._warn("advert_int", message, remedy, "out-of-range")
        if rounded > high:
            message = f"advert_int {_seconds(rounded)} s is too long for VRRP version {instance.version}; {_seconds(high)} s is used"
            self._warn("advert_int", message, f"write at most {_seconds(high)}", "out-of-range")
            rounded = high
        return replace(instance, advert_interval_ns=rounded)

    def _resolve_unicast(self, instance: VrrpInstance) -> VrrpInstance:
        peers = tuple(peer for peer in instance.unicast_peers if self._peer_fits(instance, peer))
        if instance.source is not None and instance.source.version != instance.family:
            keyword = "unicast_src_ip" if self._collected.has("unicast_src_ip") else "mcast_src_ip"
            message = f"{self._name}: the source {instance.source} is not IPv{instance.family} like the virtual addresses"
            self._error(keyword, message, f"write an IPv{instance.family} address of this node", "family")
        group = instance.multicast_group
        if group is not None and group.version != instance.family:
            message = f"{self._name}: the group {group} is not IPv{instance.family} like the virtual addresses"
            self._error("mcast_dst_ip", message, f"write an IPv{instance.family} multicast address", "family")
        if peers and self._collected.has("mcast_dst_ip"):
            self._warn("mcast_dst_ip", "mcast_dst_ip has no effect beside unicast_peer", "remove one of them")
        if peers and self._collected.has("mcast_src_ip") and not self._collected.has("unicast_src_ip"):
            self._note("mcast_src_ip", "mcast_src_ip is the source of unicast adverts too", "write unicast_src_ip")
        if not instance.unicast_peers and not self._collected.has("unicast_fault_no_peer"):
            for keyword in ("unicast_src_ip", "unicast_peer", "unicast_ttl"):
                if self._collected.has(keyword):
                    self._warn(
                        keyword, f"{keyword} without any unicast_peer: adverts are sent by multicast", "add: unicast_peer { PEER-ADDRESS }"
                    )
                    break
        return replace(instance, unicast_peers=peers)

    def _resolve_vrf(self, instance: VrrpInstance) -> VrrpInstance:
        if not instance.vrf:
            return instance
        if instance.interface:
            self._warn("vrf", "vrf beside interface has no effect", "remove one of them: an interface knows its VRF", "value")
            return replace(instance, vrf="")
        self._check_interface("vrf", instance.vrf)
        return instance

    def _peer_fits(self, instance: VrrpInstance, peer: UnicastPeer) -> bool:
        if peer.address.version != instance.family:
            message = f"{self._name}: the peer {peer.address} is not IPv{instance.family} like the virtual addresses"
            self._reading.error(peer.position, message, f"write the peer's IPv{instance.family} address", "family")
            return False
        if peer.address == instance.source:
            message = f"{self._name}: the peer {peer.address} is the own unicast_src_ip"
            self._reading.warning(peer.position, message, "list the other node's address; see '@^ID' for one file on both nodes", "advice")
        return True

    def _resolve_authentication(self, instance: VrrpInstance) -> VrrpInstance:
        given = self._values.get("authentication")
        if not isinstance(given, Collected):
            return instance
        kind = cast(AuthKind, given.values.get("kind", AuthKind.NONE))
        password = cast(str, given.values.get("password", "")).encode("utf-8", "surrogateescape")
        where = given.positions.get("auth_pass", self._place("authentication"))
        if kind is AuthKind.NONE:
            if given.has("auth_pass") and not given.has("auth_type"):
                message = "auth_pass without auth_type: adverts are not authenticated"
                self._warn("authentication", message, "add: auth_type PASS, on all nodes", "advice")
            return instance
        if instance.version == 3:
            self._warn(
                "authentication",
                "VRRP version 3 has no authentication; it is left out",
                "remove the authentication block, or use version 2",
            )
            return instance
        if instance.strict:
            self._warn(
                "authentication",
                "vrrp_strict allows no authentication; it is left out",
                "remove vrrp_strict or the authentication block",
                "strict",
            )
            return instance
        if not password:
            self._warn(
                "authentication",
                "auth_type without auth_pass: adverts are not authenticated",
                "add: auth_pass PASSWORD, the same on all nodes",
            )
            return instance
        if len(password) > MAX_PASSWORD_BYTES:
            message = f"{self._name}: auth_pass has {len(password)} characters; only the first {MAX_PASSWORD_BYTES} count"
            self._reading.warning(where, message, f"cut it to {MAX_PASSWORD_BYTES} characters on all nodes", "out-of-range")
        return replace(instance, authentication=Authentication(kind, password[:MAX_PASSWORD_BYTES]))

    def _resolve_hmac(self, instance: VrrpInstance) -> VrrpInstance:
        """keepalived would switch the whole block off for a missing active_key; a node that then does not sign is refused by the others."""
        given = self._collected.by_keyword.get("auth_hmac")
        if not isinstance(given, Collected):
            return instance
        keys = cast("tuple[HmacKey, ...]", given.values.get("keys", ()))
        known = [key.key_id for key in keys]
        where = given.positions.get("active_key", self._place("auth_hmac"))
        active = given.values.get("active_key")
        if not keys:
            if not given.has("key"):
                self._error("auth_hmac", f"{self._name}: auth_hmac has no key", "add: key 1 file:/etc/keepalived/hmac.key", "missing-value")
            return instance
        for key_id in {key_id for key_id in known if known.count(key_id) > 1}:
            self._error("auth_hmac", f"{self._name}: key {key_id} of auth_hmac is given twice", "number the keys differently", "duplicate")
        if active not in known:
            if active is None and given.has("active_key"):
                return instance
            said = "has no active_key" if active is None else f"has no key {active}, which is to be active"
            self._reading.error(where, f"{self._name}: auth_hmac {said}", f"write: active_key {known[0]}", "missing-value")
            return instance
        window = min(max(3 * (instance.advert_interval_ns // NS_PER_S) * NS_PER_S, 5 * NS_PER_S), 300 * NS_PER_S)
        hmac = AuthHmac(keys, active, time_window_ns=window)
        hmac = apply(hmac, {name: value for name, value in given.values.items() if name != "keys"})
        if hmac.time_window_ns % NS_PER_S:
            hmac = replace(hmac, time_window_ns=hmac.time_window_ns // NS_PER_S * NS_PER_S)
        if instance.strict and hmac.mode is not HmacMode.ENFORCE:
            self._warn(
                "auth_hmac", f"vrrp_strict wants mode enforce, not {hmac.mode.value}; enforce is used", "write: mode enforce", "strict"
            )
            hmac = replace(hmac, mode=HmacMode.ENFORCE)
        if instance.authentication.kind is not AuthKind.NONE:
            remedy = "remove the authentication block"
            self._warn("authentication", "authentication does not go with auth_hmac; it is left out", remedy)
            instance = replace(instance, authentication=Authentication())
        return replace(instance, hmac=hmac)

    def _resolve_state(self, instance: VrrpInstance) -> VrrpInstance:
        master = instance.initial_state is InitialState.MASTER
        if not self._collected.has("priority"):
            priority = OWNER_PRIORITY if master else DEFAULT_PRIORITY
            if master:
                self._note("state", "state MASTER without priority means priority 255, the owner of the addresses", "add: priority 1..254")
            instance = replace(instance, priority=priority)
        if master and not instance.owner and instance.authentication.kind is AuthKind.AH:
            message = "state MASTER does not work with auth_type AH: a node must hear where the others count before it speaks"
            self._warn("state", f"{message}; state BACKUP is used", "write state BACKUP on all nodes, with different priorities")
            instance, master = replace(instance, initial_state=InitialState.BACKUP), False
        if instance.nopreempt and (master or instance.owner):
            cause = "priority 255" if instance.owner else "state MASTER"
            self._warn(
                "nopreempt",
                f"nopreempt does not work with {cause}; it is left out",
                "write state BACKUP on all nodes, with different priorities",
            )
            instance = replace(instance, nopreempt=False)
        if instance.timer_expired_backup and not instance.nopreempt:
            self._warn("timer_expired_backup", "timer_expired_backup needs nopreempt; it is left out", "add: nopreempt, with state BACKUP")
            instance = replace(instance, timer_expired_backup=False)
        if instance.preempt_delay_ns and (master or instance.nopreempt):
            cause = "state MASTER" if master else "nopreempt"
            remedy = "write state BACKUP on all nodes, with different priorities" if master else "remove one of them"
            self._warn("preempt_delay", f"preempt_delay does not work with {cause}; it is left out", remedy)
            instance = replace(instance, preempt_delay_ns=0)
        return instance

    def _resolve_vmac(self, instance: VrrpInstance) -> VrrpInstance:
        """Keepalived 2.2.7's corrections, tried with ``keepalived -t``."""
        vmac = instance.vmac
        both = self._collected.has("use_vmac") and self._collected.has("use_ipvlan")
        if both:
            self._error("use_ipvlan", f"{self._name}: use_vmac and use_ipvlan exclude each other", "remove one of them")
        if vmac is None or vmac.ipvlan:
            if instance.vmac_xmit_base and not both:
                self._warn("vmac_xmit_base", "vmac_xmit_base has no effect without use_vmac; it is left out", "remove the line")
            instance = replace(instance, vmac_xmit_base=False)
        if vmac is None:
            return instance
        if not instance.interface:
            keyword = "use_ipvlan" if vmac.ipvlan else "use_vmac"
            self._warn(keyword, f"{keyword} does not go without interface; it is left out", "add: interface NAME")
            return replace(instance, vmac=None, vmac_xmit_base=False)
        if instance.promote_secondaries:
            self._note("promote_secondaries", "promote_secondaries is set on a macvlan or ipvlan anyway", "remove the line")
            instance = replace(instance, promote_secondaries=False)
        if vmac.ipvlan:
            return self._resolve_ipvlan(instance, vmac)
        if instance.unicast_peers and not instance.vmac_xmit_base:
            message = "unicast adverts always leave by the interface itself: vmac_xmit_base is set"
            self._note("unicast_peer", message, "add: vmac_xmit_base")
            instance = replace(instance, vmac_xmit_base=True)
        if instance.strict and vmac.mac:
            self._warn("use_vmac", "vrrp_strict allows no MAC of one's own; the virtual router's is used", "remove the MAC", "strict")
            instance = replace(instance, vmac=replace(vmac, mac=b""))
        return instance

    def _resolve_ipvlan(self, instance: VrrpInstance, ipvlan: VmacSettings) -> VrrpInstance:
        """The ipvlan shares the MAC of the interface; what tells its adverts apart is their source address."""
        address = ipvlan.ipvlan_address
        if address is not None and address.version != instance.family:
            message = f"{self._name}: the address {address} is not IPv{instance.family} like the virtual addresses"
            self._error("use_ipvlan", message, f"write an IPv{instance.family} address", "family")
        elif address is not None and instance.source is None:
            return replace(instance, source=address)
        elif instance.source is None and instance.family is Family.IPV4:
            message = f"{self._name}: use_ipvlan needs a source address over IPv4"
            self._error("use_ipvlan", message, "write: use_ipvlan NAME ADDRESS/LENGTH", "missing-value")
        return instance

    def _resolve_strict(self, instance: VrrpInstance) -> VrrpInstance:
        accept_given = self._collected.has("accept") or self._collected.has("no_accept")
        if not instance.strict:
            return instance
        if (instance.initial_state is InitialState.MASTER) != instance.owner and (
            instance.owner or instance.initial_state is InitialState.MASTER
        ):
            self._warn(
                "state", "vrrp_strict wants state MASTER exactly with priority 255; state BACKUP is used", "write: state BACKUP", "strict"
            )
            instance = replace(instance, initial_state=InitialState.MASTER if instance.owner else InitialState.BACKUP)
        if instance.preempt_delay_ns:
            self._warn(
                "preempt_delay", "vrrp_strict allows no preempt_delay; it is left out", "remove vrrp_strict or preempt_delay", "strict"
            )
            instance = replace(instance, preempt_delay_ns=0)
        if self._collected.has("accept") and instance.version == 2:
            self._warn("accept", "vrrp_strict allows no accept in version 2; it is left out", "remove vrrp_strict or accept", "strict")
        if instance.unicast_peers:
            self._note(
                "unicast_peer",
                "vrrp_strict allows no unicast peers; keepalived exits where the interface can multicast",
                "remove vrrp_strict",
                "strict",
            )
        if instance.family is Family.IPV6 and instance.addresses and not instance.addresses[0].address.is_link_local:
            self._warn("virtual_ipaddress", "vrrp_strict wants a link-local address first", "put an fe80:: address first", "strict")
        accept = instance.owner if not accept_given or instance.version == 2 else instance.accept
        if not accept:
            where = "strict_mode" if self._collected.has("strict_mode") else ""
            message = "with vrrp_strict packets to the virtual addresses are dropped, ping too"
            self._note(where, message, "remove vrrp_strict if services use the addresses, or set priority 255", "strict")
        if self._values.get("lower_prio_no_advert") is False:
            self._warn("lower_prio_no_advert", "vrrp_strict does not let it be switched off", "remove the line", "strict")
        if instance.higher_prio_send_advert:
            self._warn("higher_prio_send_advert", "vrrp_strict does not allow it; it is left out", "remove the line", "strict")
        if instance.vmac_xmit_base:
            self._warn("vmac_xmit_base", "vrrp_strict does not allow it; it is left out", "remove the line", "strict")
        return replace(
            instance,
            accept=accept,
            lower_prio_no_advert=True,
            higher_prio_send_advert=False,
            down_timer_adverts=3,
            vmac_xmit_base=False,
            owner_ignore_adverts=instance.owner,
        )

    def _resolve_garp(self, instance: VrrpInstance) -> VrrpInstance:
        garp, given = instance.garp, self._garp_defaults
        delay, repeat = garp.lower_priority_delay_ns, garp.lower_priority_repeat
        if "garp.lower_priority_delay_ns" not in self._values:
            delay = garp.master_delay_ns if given.lower_priority_delay_ns is None else given.lower_priority_delay_ns
        if "garp.lower_priority_repeat" not in self._values:
            repeat = garp.master_repeat if given.lower_priority_repeat is None else given.lower_priority_repeat
        if instance.strict:
            repeat = 0
        return replace(instance, garp=replace(garp, lower_priority_delay_ns=delay, lower_priority_repeat=repeat))

    def _check_limits(self, instance: VrrpInstance) -> VrrpInstance:
        if instance.unicast_fault_no_peer and not self._collected.has("unicast_peer"):
            self._note(
                "unicast_fault_no_peer", "there is no unicast_peer: the instance stays in FAULT", "add: unicast_peer { PEER-ADDRESS }"
            )
        return instance

    # -- tracking ------------------------------------------------------------------------------------------------------

    def _resolve_tracks(self, instance: VrrpInstance, tracks: TrackSet) -> TrackSet:
        for track in tracks.interfaces:
            if track.name == instance.interface and track.position.line > instance.position.line:
                message = f"{self._name}: {track.name} is its own interface: the line is left out, as by keepalived"
                self._reading.warning(track.position, message, "remove it; dont_track_primary tells whether it counts", "historical")
        tracks = replace(tracks, interfaces=tuple(track for track in tracks.interfaces if track.name != instance.interface))
        weights_lost = ""
        if self._group is not None and not self._group.tracking_weight:
            weights_lost = f"of sync group {self._group.name}"
        elif instance.owner:
            weights_lost = "of priority 255"
        if not weights_lost:
            return tracks

        def kept(kind: str, entries: tuple[Track, ...]) -> tuple[Track, ...]:
            found = (self._without_weight(kind, entry, weights_lost) for entry in entries)
            return tuple(entry for entry in found if entry is not None)

        return TrackSet(
            interfaces=kept("interface", tracks.interfaces),
            scripts=kept("script", tracks.scripts),
            files=kept("file", tracks.files),
            processes=tracks.processes,
            bfds=kept("bfd", tracks.bfds),
        )

    def _without_weight(self, kind: str, entry: Track, cause: str) -> Track | None:
        """What becomes of a weighted tracker in a sync group and at an owner, as in keepalived 2.2.7 (measured): a member's interface and
        a file with the default weight count with weight 0, so that a failure is a FAULT; anything else is not tracked at all, except
        processes, whose weight stays."""
        if not entry.weight:
            return entry
        in_group = self._group is not None and not self._group.tracking_weight
        faults = in_group if kind == "interface" else kind == "file" and entry.weight == 1
        remedy = "write weight 0 for a FAULT"
        if in_group:
            remedy += ", track it in the vrrp_sync_group, or add sync_group_tracking_weight there"
        if faults:
            message = f"{self._name}: the weighted {kind} {entry.name} counts with weight 0: a failure is a FAULT, because {cause}"
        else:
            message = f"{self._name}: {kind} {entry.name} is not tracked: it has a weight, and weights do not count because {cause}"
        self._reading.warning(entry.position, message, remedy, "weight")
        return replace(entry, weight=0) if faults else None


def _seconds(value_ns: int) -> str:
    whole, rest = divmod(value_ns, NS_PER_S)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
