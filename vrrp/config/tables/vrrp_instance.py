"""vrrp_instance and its blocks."""

from __future__ import annotations

from base.core import NS_PER_MS, NS_PER_S
from vrrp.config.address_lines import addresses
from vrrp.config.keyword import Fields, Mark, Reading, Rejected, Table, Value, acts, moot, table_block
from vrrp.config.model.common import InitialState
from vrrp.config.model.instance import AntiReplay, AuthKind, HmacMode
from vrrp.config.route_lines import routes, rules
from vrrp.config.syntax import Statement
from vrrp.config.tables.garp import extra_interface
from vrrp.config.tables.hmac import hmac_key
from vrrp.config.tables.vmac import ipvlan, vmac
from vrrp.config.track_lines import peers, tracks
from vrrp.config.values import (
    UINT32,
    address,
    choice,
    flag,
    integer,
    interface,
    lenient_choice,
    lenient_integer,
    multicast_group,
    optional,
    script,
    seconds,
    switch,
    whole_seconds,
    word,
)

CORE, COMMON, RARE = Mark.CORE, Mark.COMMON, Mark.RARE

MAX_V2_ADVERT_NS = 255 * NS_PER_S
MAX_V3_ADVERT_NS = 4095 * 10 * NS_PER_MS
_DAY_NS = 86_400 * NS_PER_S


def backup_priority() -> Value:
    """``[PRIORITY]`` of timer_expired_backup."""
    inner = integer(1, 254, missing=254)

    def read(reading: Reading, statement: Statement) -> object:
        priority = inner.read(reading, statement)
        return (
            priority
            if isinstance(priority, Rejected)
            else Fields({"timer_expired_backup": True, "timer_expired_backup_priority": priority})
        )

    return Value("[PRIORITY]", read)


AUTHENTICATION = Table(
    "vrrp_instance/authentication",
    (
        acts(CORE, "auth_type", choice({"PASS": AuthKind.PASS, "AH": AuthKind.AH}), "kind", "AH: HMAC-MD5-96, obsolete"),
        acts(CORE, "auth_pass", word("PASSWORD"), "password", "the first 8 bytes are used"),
    ),
)

AUTH_HMAC = Table(
    "vrrp_instance/auth_hmac",
    (
        acts(RARE, "key", hmac_key(), "keys", "ID hex:…, ID file:… or ID text; 32 to 64 bytes", newer=False, accumulates=True),
        acts(RARE, "active_key", integer(1, 255), "active_key", "the key that signs", newer=True),
        acts(
            RARE,
            "anti_replay",
            choice({"time": AntiReplay.TIME, "monotonic": AntiReplay.MONOTONIC}),
            "anti_replay",
            "time: also refuse what is older than time_window; needs clocks that agree",
            newer=True,
        ),
        acts(
            RARE, "time_window", seconds(NS_PER_S, 300 * NS_PER_S), "time_window_ns", "default: three intervals, at least 5 s", newer=True
        ),
        acts(
            RARE,
            "mode",
            choice({mode.value: mode for mode in HmacMode}),
            "mode",
            "enforce: refuse adverts without trailer; permissive: sign, take both; receive-only: do not sign, take both",
            newer=True,
        ),
    ),
)

VRRP_INSTANCE = Table(
    "vrrp_instance",
    (
        acts(
            CORE,
            "state",
            lenient_choice({"MASTER": InitialState.MASTER, "BACKUP": InitialState.BACKUP}, "BACKUP"),
            "initial_state",
            "MASTER matters only with priority 255",
        ),
        acts(CORE, "interface", interface(), "interface", "where adverts run; may be left out with unicast_src_ip and unicast_peer"),
        acts(CORE, "virtual_router_id", integer(1, 255), "vrid", "the same on all nodes, unique on the segment"),
        acts(CORE, "priority", integer(1, 255), "priority", "255 = address owner; default 100"),
        acts(
            CORE,
            "advert_int",
            seconds(NS_PER_MS * 10, 255 * NS_PER_S, NS_PER_MS),
            "advert_interval_ns",
            "v2: whole seconds 1..255; v3: 0.01..40.95",
        ),
        acts(
            CORE,
            "authentication",
            table_block(AUTHENTICATION, lambda reading, statement, collected: collected),
            "authentication",
            "version 2 only",
        ),
        acts(
            RARE,
            "auth_hmac",
            table_block(AUTH_HMAC, lambda reading, statement, collected: collected),
            "",
            "HMAC-SHA256 trailer on every advert, version 2 and 3, IPv4 and IPv6",
            newer=True,
        ),
        acts(CORE, "virtual_ipaddress", addresses(), "addresses", "carried in adverts; one family", accumulates=True),
        acts(
            COMMON,
            "virtual_ipaddress_excluded",
            addresses(),
            "excluded_addresses",
            "moved with the state, not in adverts",
            accumulates=True,
        ),
        acts(RARE, "no_virtual_ipaddress", flag(), "", "allows an instance without addresses silently", newer=True),
        acts(COMMON, "virtual_routes", routes(), "routes", "routes while MASTER", accumulates=True),
        acts(COMMON, "virtual_rules", rules(), "rules", "policy rules while MASTER", accumulates=True),
        acts(CORE, "track_interface", tracks("INTERFACE", 253), "track_interface", "no weight: FAULT when down", accumulates=True),
        acts(
            CORE,
            "track_script",
            tracks("SCRIPT", 253),
            "track_script",
            "no weight: that of the script; 0: FAULT when failed",
            accumulates=True,
        ),
        acts(
            COMMON,
            "track_file",
            tracks("FILE", 254),
            "track_file",
            "the number in the file times the weight",
            accumulates=True,
        ),
        acts(COMMON, "track_process", tracks("PROCESS", 254), "track_process", "processes that must run", accumulates=True),
        acts(COMMON, "track_bfd", tracks("BFD", 253), "track_bfd", "BFD sessions", accumulates=True),
        acts(COMMON, "dont_track_primary", flag(False), "track_primary", "ignore the state of the own interface"),
        acts(RARE, "track_src_ip", flag(), "track_source", "FAULT while the configured source address is missing"),
        acts(CORE, "nopreempt", flag(), "nopreempt", "leave a lower-priority master alone; needs state BACKUP"),
        acts(RARE, "preempt", flag(False), "nopreempt", "the default"),
        acts(COMMON, "preempt_delay", seconds(0, 1000 * NS_PER_S), "preempt_delay_ns", "wait before preempting; needs state BACKUP"),
        acts(CORE, "unicast_src_ip", address(length=True), "source", "source of unicast adverts"),
        acts(CORE, "unicast_peer", peers(), "unicast_peers", "adverts go to these addresses instead of the group", accumulates=True),
        acts(RARE, "unicast_ttl", integer(0, 255), "unicast_ttl", "TTL or hop limit of unicast adverts"),
        acts(RARE, "unicast_fault_no_peer", flag(), "unicast_fault_no_peer", "FAULT instead of multicast when the peer list is empty"),
        acts(COMMON, "check_unicast_src", switch(), "check_unicast_source", "drop adverts that come from no peer: the default here"),
        acts(
            RARE,
            "old_unicast_checksum",
            optional(choice({"never": False}), True),
            "old_unicast_checksum",
            "checksum of keepalived before 1.3.6; without the line it is found out",
        ),
        acts(COMMON, "mcast_src_ip", address(length=True), "source", "source of multicast adverts"),
        acts(RARE, "mcast_dst_ip", multicast_group(), "multicast_group", "another multicast group"),
        acts(COMMON, "version", integer(2, 3), "version", "VRRP version"),
        acts(RARE, "v3_checksum_as_v2", switch(), "v3_checksum_as_v2", "version 3 checksum without pseudo-header (RFC 9568)", newer=True),
        acts(
            RARE,
            "native_ipv6",
            flag(),
            "",
            "the instance is IPv6, whatever its addresses",
            instead="IPv6 addresses",
        ),
        acts(RARE, "vrf", interface(), "vrf", "VRF of unicast adverts, instead of an interface"),
        acts(COMMON, "use_vmac", vmac(), "vmac", "macvlan with the virtual router's MAC", first_counts=True),
        acts(RARE, "use_vmac_addr", flag(), "vmac_addresses", "macvlans for addresses on other interfaces"),
        acts(COMMON, "vmac_xmit_base", flag(), "vmac_xmit_base", "adverts leave by the parent interface"),
        acts(RARE, "use_ipvlan", ipvlan(), "vmac", "ipvlan instead of macvlan"),
        acts(COMMON, "accept", flag(), "accept", "let packets to the addresses in"),
        acts(COMMON, "no_accept", flag(False), "accept", "drop packets to the addresses unless owner"),
        acts(COMMON, "strict_mode", switch(), "strict", "RFC rules for this instance"),
        acts(COMMON, "skip_check_adv_addr", switch(), "skip_check_adv_addr", "do not compare the addresses of adverts of the same master"),
        acts(COMMON, "promote_secondaries", flag(), "promote_secondaries", "set the sysctl on the interface"),
        acts(RARE, "linkbeat_use_polling", flag(), "linkbeat_polling", "poll the link", instead="linkbeat_interfaces"),
        acts(
            COMMON,
            "garp_master_delay",
            whole_seconds(0, UINT32),
            "garp.master_delay_ns",
            "until the second set of announcements; 0 = none",
        ),
        acts(COMMON, "garp_master_repeat", lenient_integer(1, UINT32, 1), "garp.master_repeat", "announcements in a set"),
        acts(COMMON, "garp_master_refresh", whole_seconds(0, UINT32), "garp.refresh_ns", "repeat while MASTER; 0 = off"),
        acts(COMMON, "garp_master_refresh_repeat", lenient_integer(1, UINT32, 1), "garp.refresh_repeat", "announcements per refresh"),
        acts(
            COMMON,
            "garp_lower_prio_delay",
            whole_seconds(0, UINT32),
            "garp.lower_priority_delay_ns",
            "the same after a lower-priority advert",
        ),
        acts(COMMON, "garp_lower_prio_repeat", integer(0, UINT32), "garp.lower_priority_repeat", "the same after a lower-priority advert"),
        acts(RARE, "garp_extra_if", extra_interface(""), "", "announce on interfaces that send no adverts"),
        acts(RARE, "vmac_garp_intvl", extra_interface(""), "", "announce on interfaces that send no adverts", instead="garp_extra_if"),
        acts(COMMON, "lower_prio_no_advert", switch(), "lower_prio_no_advert", "do not answer a lower-priority advert"),
        acts(
            COMMON,
            "higher_prio_send_advert",
            switch(),
            "higher_prio_send_advert",
            "a losing master sends one last advert, so that the winner announces itself",
        ),
        acts(RARE, "down_timer_adverts", integer(1, 100), "down_timer_adverts", "missed adverts until master down"),
        acts(RARE, "timer_expired_backup", backup_priority(), "", "a nopreempt master that ran late demotes itself", newer=True),
        acts(RARE, "thread_timer_expired", backup_priority(), "", "timer_expired_backup", newer=True, instead="timer_expired_backup"),
        acts(
            RARE,
            "unheard_fault",
            integer(1, 1000, missing=3),
            "unheard_limit",
            "FAULT after so many adverts in a row that could leave to nobody (firewall, route); BACKUP when they could again",
            ours=True,
        ),
        acts(
            RARE,
            "differing_lists",
            choice({word: word for word in ("known", "all", "none")}),
            "differing_lists",
            "whose adverts with other addresses count: of known routers, of all (as keepalived 2.3), of none (as keepalived 2.2.7)",
            ours=True,
        ),
        acts(RARE, "owner_ignore_adverts", switch(), "owner_ignore_adverts", "priority 255 ignores adverts", newer=True),
        acts(CORE, "notify", script(), "notify.any_state", "called with INSTANCE NAME STATE PRIORITY"),
        acts(CORE, "notify_master", script(), "notify.master", "on becoming MASTER"),
        acts(CORE, "notify_backup", script(), "notify.backup", "on becoming BACKUP"),
        acts(CORE, "notify_fault", script(), "notify.fault", "on becoming FAULT"),
        acts(COMMON, "notify_stop", script(), "notify.stop", "when the daemon stops"),
        acts(
            RARE,
            "notify_deleted",
            optional(script(), None),
            "notify.deleted",
            "DELETED instead of FAULT when a reload removes the instance",
        ),
        acts(COMMON, "notify_master_rx_lower_pri", script(), "notify.master_rx_lower_priority", "a MASTER heard a lower-priority master"),
        acts(RARE, "notify_priority_changes", switch(), "notify_priority_changes", "priority events in the FIFOs"),
        acts(COMMON, "smtp_alert", switch(), "smtp_alert", "mail on a change of state"),
        acts(RARE, "lvs_sync_daemon_interface", interface(), "", "IPVS connection sync", instead="lvs_sync_daemon in global_defs"),
        acts(RARE, "kernel_rx_buf_size", integer(0, UINT32), "receive_buffer_bytes", "receive buffer of the socket"),
        moot(RARE, "debug", integer(0, 4), "has no effect in keepalived either"),
    ),
)
