"""global_defs."""

from __future__ import annotations

from base.core import NS_PER_S
from vrrp.config.keyword import Fields, Keyword, Mark, Reading, Rejected, Table, Value, acts, moot
from vrrp.config.model.daemon import FlushOnStop, SyncDaemon
from vrrp.config.source import INCLUDE_CHECKS
from vrrp.config.syntax import Statement
from vrrp.config.tables.garp import extra_interface
from vrrp.config.values import (
    UINT32,
    choice,
    flag,
    integer,
    interface,
    lenient_integer,
    multicast_group,
    optional,
    parse_address,
    read_integer,
    script,
    seconds,
    server,
    switch,
    text_list,
    user_and_group,
    whole_seconds,
    word,
    words,
)

CORE, COMMON, RARE = Mark.CORE, Mark.COMMON, Mark.RARE

_SECONDS_32 = UINT32 * NS_PER_S
_BUFFER = integer(0, UINT32)
_NO_MAIL = "there is no health checker to send mail about yet"
_NO_FIFO = "nothing is written to the FIFO"
_LVS = "of the LVS part"
_INT32 = 2**31 - 1


def _process(which: str) -> tuple[Keyword, ...]:
    """The keywords of one child process."""
    path = f"{which}_process"
    return (
        acts(COMMON, f"{which}_priority", integer(-20, 19), f"{path}.nice", "nice value of the process"),
        acts(RARE, f"{which}_no_swap", flag(), f"{path}.no_swap", "mlockall"),
        acts(COMMON, f"{which}_rt_priority", integer(1, 99), f"{path}.rt_priority", "SCHED_RR priority"),
        acts(RARE, f"{which}_cpu_affinity", cpus(f"{path}.cpus"), "", "CPUs of the process"),
        acts(
            RARE,
            f"{which}_rlimit_rttime",
            integer(1, UINT32),
            f"{path}.rlimit_rttime_us",
            "µs of CPU between blocking calls; from 500000 on",
        ),
        acts(RARE, f"{which}_rlimit_rtime", integer(1, UINT32), f"{path}.rlimit_rttime_us", "", instead=f"{which}_rlimit_rttime"),
    )


def cpus(field: str) -> Value:
    """A list of CPU numbers."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return reading.error(statement, f"{statement.keyword} names no CPU", f"write: {statement.keyword} 0 1", "missing-value")
        numbers = [read_integer(reading, given, "CPU", 0, 8191) for given in statement.arguments]
        good = tuple(number for number in numbers if not isinstance(number, Rejected))
        return Fields({field: good})

    return Value("N …", read)


def fifo(field: str) -> Value:
    """``PATH [USER [GROUP]]``."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return reading.error(statement, f"{statement.keyword} has no path", f"write: {statement.keyword} PATH", "missing-value")
        texts = [given.text for given in statement.arguments[:3]] + ["", ""]
        return Fields({f"{field}.path": texts[0], f"{field}.user": texts[1], f"{field}.group": texts[2]})

    return Value("PATH [USER [GROUP]]", read)


def sync_daemon() -> Value:
    """``IF [[inst] VI] [id N] [maxlen N] [port N] [ttl N] [group IP]`` as SyncDaemon."""
    limits = {"id": (0, 255), "maxlen": (1, 65_507), "port": (1, 65_535), "ttl": (1, 255)}

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return reading.error(
                statement, "lvs_sync_daemon names no interface", "write: lvs_sync_daemon INTERFACE [INSTANCE]", "missing-value"
            )
        rest = list(statement.arguments[1:])
        numbers: dict[str, int] = {}
        instance, group = "", None
        while rest:
            option = rest.pop(0)
            if option.text in (*limits, "inst", "group") and not rest:
                return reading.error(option, f"'{option.text}' has no value", f"write: {option.text} VALUE", "missing-value")
            if option.text in limits:
                number = read_integer(reading, rest.pop(0), option.text, *limits[option.text])
                if isinstance(number, Rejected):
                    return number
                numbers[option.text] = number
            elif option.text == "group":
                given = rest.pop(0)
                group = parse_address(given.text)
                if group is None or not group.is_multicast:
                    return reading.error(given, f"'{given.text}' is no multicast address", "write one such as 224.0.0.81")
            elif instance:
                remedy = "write: lvs_sync_daemon INTERFACE [INSTANCE] [id N] [maxlen N] [port N] [ttl N] [group ADDRESS]"
                return reading.error(option, f"'{option.text}' after the instance {instance} is unknown", remedy)
            else:
                instance = rest.pop(0).text if option.text == "inst" else option.text
        return SyncDaemon(
            statement.arguments[0].text,
            instance,
            numbers.get("id"),
            numbers.get("maxlen", 0),
            numbers.get("port", 8848),
            numbers.get("ttl", 1),
            group,
        )

    return Value("INTERFACE [[inst] INSTANCE] [id N] [maxlen N] [port N] [ttl N] [group ADDRESS]", read)


def lvs_timeouts() -> Value:
    """``[tcp N] [tcpfin N] [udp N]``."""
    names = {"tcp": "lvs.tcp_timeout_s", "tcpfin": "lvs.tcpfin_timeout_s", "udp": "lvs.udp_timeout_s"}

    def read(reading: Reading, statement: Statement) -> object:
        fields = Fields()
        rest = list(statement.arguments)
        while rest:
            option = rest.pop(0)
            if option.text not in names or not rest:
                return reading.error(
                    option, f"cannot read '{option.text}' of lvs_timeouts", "write: lvs_timeouts [tcp N] [tcpfin N] [udp N]"
                )
            number = read_integer(reading, rest.pop(0), option.text, 0, _INT32)
            if isinstance(number, Rejected):
                return number
            fields[names[option.text]] = number
        if not fields:
            return reading.error(statement, "lvs_timeouts has no value", "write: lvs_timeouts [tcp N] [tcpfin N] [udp N]", "missing-value")
        return fields

    return Value("[tcp N] [tcpfin N] [udp N]", read)


def chains() -> Value:
    """``[IN [OUT]]`` of vrrp_iptables."""

    def read(reading: Reading, statement: Statement) -> object:
        names = [given.text for given in statement.arguments[:2]]
        if not names:
            names = ["INPUT", "OUTPUT"]
        return Fields({"firewall.iptables_in": names[0], "firewall.iptables_out": names[1] if len(names) > 1 else ""})

    return Value("[IN [OUT]]", read)


def buffer_policy() -> Value:
    """MTU, ADVERT or a number of bytes."""

    def read(reading: Reading, statement: Statement) -> object:
        for given in statement.arguments[:1]:
            if given.text.upper() in ("MTU", "ADVERT"):
                return given.text.upper()
            number = read_integer(reading, given, statement.keyword, 1, UINT32)
            return number if isinstance(number, Rejected) else str(number)
        return reading.error(statement, f"{statement.keyword} has no value", "write MTU, ADVERT or a number of bytes", "missing-value")

    return Value("MTU|ADVERT|BYTES", read)


def recipients() -> Value:
    """A block of mail addresses; keepalived complains about an empty one."""
    inner = text_list("ADDRESS")

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.block:
            reading.warning(statement, "notification_email is empty", "add an address, or remove the block")
        return inner.read(reading, statement)

    return Value(inner.syntax, read, takes_block=True)


def umask() -> Value:
    """A number, or names such as IRGRP|IWOTH."""
    bits = {
        f"I{what}{who}": 1 << (shift + place)
        for who, shift in (("USR", 6), ("GRP", 3), ("OTH", 0))
        for what, place in (("R", 2), ("W", 1), ("X", 0))
    }

    def read(reading: Reading, statement: Statement) -> object:
        text = "".join(given.text for given in statement.arguments)
        if not text:
            return reading.error(statement, "umask has no value", "write: umask 022 or umask IWGRP|IWOTH", "missing-value")
        number = _any_base(text)
        if number is None and all(part.removeprefix("S_") in bits for part in text.split("|")):
            number = sum(bits[part.removeprefix("S_")] for part in set(text.split("|")))
        if number is None or not 0 <= number <= 0o777:
            return reading.error(statement.arguments[0], f"umask '{text}' cannot be read", "write: umask 022 or umask IWGRP|IWOTH")
        return number

    return Value("NUMBER|BITS", read)


def _any_base(text: str) -> int | None:
    """Octal with a leading 0, hexadecimal with 0x, else decimal."""
    digits = text[1:] if len(text) > 1 and text[0] == "0" and text[1:].isdigit() else ""
    try:
        return (int(digits, 8) if digits else int(text, 0)) if text.isascii() else None
    except ValueError:
        return None


def include_check() -> Value:
    """Checked here; obeyed by the SourceReader while it reads."""

    def read(reading: Reading, statement: Statement) -> object:
        for given in statement.arguments:
            if given.text.lstrip("+-") not in ("", *INCLUDE_CHECKS):
                reading.error(given, f"include_check '{given.text}' is unknown", f"write some of: {' '.join(INCLUDE_CHECKS)}")
        return None

    return Value("[+|-] readable match wildcard_match brace_match", read)


def dynamic_interfaces() -> Value:
    """``[allow_if_changes]``."""

    def read(reading: Reading, statement: Statement) -> object:
        fields = Fields({"dynamic_interfaces": True})
        for given in statement.arguments:
            if given.text != "allow_if_changes":
                return reading.error(given, f"'{given.text}' after dynamic_interfaces is unknown", "write allow_if_changes, or remove it")
            fields["allow_interface_changes"] = True
        return fields

    return Value("[allow_if_changes]", read)


def checked_reload() -> Value:
    """``[LOG_FILE]`` of reload_check_config."""

    def read(reading: Reading, statement: Statement) -> object:
        return Fields({"reload.check": True, "reload.check_log": statement.arguments[0].text if statement.arguments else ""})

    return Value("[LOG-FILE]", read)


def flush_on_stop() -> Value:
    """The old spelling: everything."""
    return Value("", lambda reading, statement: Fields({"lvs.flush_on_stop": FlushOnStop.ALL}))


def snmp_rfc() -> Value:
    """Both RFC MIBs."""
    return Value("", lambda reading, statement: Fields({"snmp.rfc_v2": True, "snmp.rfc_v3": True}))


GLOBAL_DEFS = Table(
    "global_defs",
    (
        acts(CORE, "router_id", word("NAME", 255), "router_id", "name of this machine; default: host name"),
        acts(CORE, "notification_email", recipients(), "mail.recipients", "who gets mail"),
        acts(CORE, "notification_email_from", word("ADDRESS"), "mail.sender", "From: of mail"),
        acts(CORE, "smtp_server", server(25, "mail.server", "mail.port"), "", "mail relay"),
        acts(CORE, "smtp_connect_timeout", whole_seconds(1, 4294), "mail.connect_timeout_ns", "default 30"),
        acts(RARE, "smtp_helo_name", word(), "mail.helo_name", "HELO name"),
        acts(COMMON, "smtp_alert", switch(), "mail.alert", "mail by default"),
        acts(COMMON, "smtp_alert_vrrp", switch(), "mail.alert_vrrp", "mail by default"),
        acts(COMMON, "smtp_alert_checker", switch(), "mail.alert_checker", "mail by default"),
        acts(RARE, "no_email_faults", flag(), "mail.no_faults", "no mail on FAULT"),
        acts(RARE, "no_checker_emails", switch(), "mail.no_checker", "mail only when a real server is added or removed"),
        acts(RARE, "checker_log_all_failures", switch(), "lvs.log_all_failures", "log every failed probe"),
        acts(CORE, "script_user", user_and_group("script_user", "script_group"), "", "who runs scripts by default"),
        acts(CORE, "enable_script_security", flag(), "script_security", "no root scripts that others could change"),
        acts(RARE, "use_symlink_paths", switch(), "symlink_paths", "keep symbolic links in script paths: unless off", newer=True),
        acts(RARE, "set_supplementary_groups", switch(), "supplementary_groups", "groups of script users", newer=True),
        acts(RARE, "startup_script", script(), "startup_script.command", "run before the daemon starts"),
        acts(RARE, "shutdown_script", script(), "shutdown_script.command", "run after the daemon ended"),
        acts(RARE, "startup_script_timeout", whole_seconds(1, 1000), "startup_script.timeout_ns", "default 10"),
        acts(RARE, "shutdown_script_timeout", whole_seconds(1, 1000), "shutdown_script.timeout_ns", "default 10"),
        acts(RARE, "process_names", flag(), "default_process_names", "keepalived's names in ps: keepalived, keepalived_vrrp, …"),
        acts(RARE, "process_name", word(max_length=255), "process_name", "name of the parent"),
        acts(RARE, "vrrp_process_name", word(max_length=255), "vrrp_process.name", "name of the process"),
        acts(RARE, "checker_process_name", word(max_length=255), "checker_process.name", "name of the process"),
        acts(RARE, "bfd_process_name", word(max_length=255), "bfd_process.name", "name of the process"),
        acts(RARE, "lvs_process_name", word(max_length=255), "checker_process.name", "", instead="checker_process_name"),
        acts(COMMON, "default_interface", interface(), "default_interface", "interface of addresses that name none (eth0)"),
        acts(COMMON, "dynamic_interfaces", dynamic_interfaces(), "", "interfaces may come later"),
        acts(COMMON, "lvs_sync_daemon", sync_daemon(), "lvs.sync_daemon", "IPVS connection sync"),
        acts(RARE, "lvs_timeouts", lvs_timeouts(), "", _LVS),
        acts(COMMON, "lvs_flush", flag(), "lvs.flush", _LVS),
        acts(RARE, "lvs_flush_on_stop", optional(choice({"VS": FlushOnStop.VIRTUAL_SERVERS}), FlushOnStop.ALL), "lvs.flush_on_stop", _LVS),
        acts(RARE, "lvs_flush_onstop", flush_on_stop(), "", _LVS, instead="lvs_flush_on_stop"),
        acts(COMMON, "vrrp_mcast_group4", multicast_group(4), "vrrp.multicast_group4", "default 224.0.0.18"),
        acts(COMMON, "vrrp_mcast_group6", multicast_group(6), "vrrp.multicast_group6", "default ff02::12"),
        acts(COMMON, "vrrp_version", integer(2, 3), "vrrp.version", "default 2; IPv6 instances are 3"),
        acts(CORE, "vrrp_strict", flag(), "vrrp.strict", "RFC rules; among others packets to the addresses are dropped"),
        acts(CORE, "vrrp_skip_check_adv_addr", switch(), "vrrp.skip_check_adv_addr", "do not compare the addresses of the same master"),
        acts(
            RARE, "vrrp_check_unicast_src", switch(), "vrrp.check_unicast_source", "drop adverts that come from no peer: the default here"
        ),
        acts(COMMON, "vrrp_garp_master_delay", whole_seconds(0, UINT32), "vrrp.garp.master_delay_ns", "second set; 0 = none"),
        acts(COMMON, "vrrp_garp_master_repeat", lenient_integer(1, UINT32, 1), "vrrp.garp.master_repeat", "announcements in a set"),
        acts(COMMON, "vrrp_garp_master_refresh", whole_seconds(0, UINT32), "vrrp.garp.refresh_ns", "repeat while MASTER; 0 = off"),
        acts(COMMON, "vrrp_garp_master_refresh_repeat", lenient_integer(1, UINT32, 1), "vrrp.garp.refresh_repeat", "announcements each"),
        acts(COMMON, "vrrp_garp_lower_prio_delay", whole_seconds(0, UINT32), "garp_lower_prio_delay_ns", "after a lower advert"),
        acts(COMMON, "vrrp_garp_lower_prio_repeat", integer(0, UINT32), "garp_lower_prio_repeat", "after a lower advert"),
        acts(
            CORE, "vrrp_garp_interval", seconds(0, 100 * NS_PER_S, zero_warns=True), "vrrp.garp_interval_ns", "pause between ARPs; 0 = none"
        ),
        acts(CORE, "vrrp_gna_interval", seconds(0, 100 * NS_PER_S, zero_warns=True), "vrrp.gna_interval_ns", "pause between NAs; 0 = none"),
        acts(RARE, "vrrp_min_garp", switch(), "vrrp.min_garp", "one announcement, no second set"),
        acts(RARE, "vrrp_garp_extra_if", extra_interface("vrrp."), "", "announce on interfaces that send no adverts"),
        acts(RARE, "vrrp_vmac_garp_intvl", extra_interface("vrrp."), "", "", instead="vrrp_garp_extra_if"),
        acts(COMMON, "vrrp_lower_prio_no_advert", switch(), "vrrp.lower_prio_no_advert", "do not answer a lower-priority advert"),
        acts(COMMON, "vrrp_higher_prio_send_advert", switch(), "vrrp.higher_prio_send_advert", "a losing master sends one last advert"),
        acts(RARE, "vrrp_down_timer_adverts", integer(1, 100), "vrrp.down_timer_adverts", "missed adverts until master down (3)"),
        acts(RARE, "vrrp_owner_ignore_adverts", switch(), "vrrp.owner_ignore_adverts", "priority 255 ignores adverts", newer=True),
        acts(RARE, "v3_checksum_as_v2", switch(), "vrrp.v3_checksum_as_v2", "version 3 checksum without pseudo-header", newer=True),
        acts(
            COMMON,
            "vrrp_iptables",
            chains(),
            "",
            "no_accept's rules: nft's, in a table of their own",
            instead="nftables [TABLE]",
        ),
        acts(
            RARE,
            "vrrp_ipsets",
            words("[NAME …]", 0, 5),
            "firewall.ipsets",
            "the addresses stand in sets of that table",
            instead="nftables [TABLE]",
        ),
        acts(COMMON, "nftables", word("TABLE", 255, "keepalived"), "firewall.nft_table", "nft table of no_accept (keepalived)"),
        acts(RARE, "nftables_priority", integer(-_INT32, _INT32), "firewall.nft_priority", "chain priority (-1)"),
        acts(RARE, "nftables_counters", flag(), "firewall.nft_counters", "counters in the rules"),
        acts(RARE, "nftables_ifindex", flag(), "firewall.nft_ifindex", "link-local sets by ifindex"),
        acts(
            RARE, "nftables_ipvs", word("TABLE", 255, "keepalived_ipvs"), "firewall.nft_ipvs_table", "groups are one service by mark each"
        ),
        acts(RARE, "nftables_ipvs_priority", integer(-_INT32, _INT32), "firewall.nft_ipvs_priority", "of its chains"),
        acts(RARE, "nftables_ipvs_start_fwmark", integer(1, UINT32), "firewall.nft_ipvs_start_fwmark", "the first mark (1000)"),
        acts(
            RARE,
            "disable_local_igmp",
            flag(),
            "disable_local_igmp",
            "sysctl igmp_link_local_mcast_reports 0 until the end",
        ),
        *_process("vrrp"),
        *_process("checker"),
        *_process("bfd"),
        acts(COMMON, "max_auto_priority", integer(-1, 99, missing=99), "max_auto_priority", "raise to real time when late"),
        acts(RARE, "min_auto_priority_delay", integer(1, 10_000_000), "min_auto_priority_delay_us", "µs late before raising"),
        acts(COMMON, "notify_fifo", fifo("fifo"), "", "FIFO of all events"),
        acts(COMMON, "vrrp_notify_fifo", fifo("vrrp_fifo"), "", "FIFO of VRRP events"),
        acts(COMMON, "lvs_notify_fifo", fifo("lvs_fifo"), "", "FIFO of LVS events"),
        acts(COMMON, "notify_fifo_script", script(), "fifo.script", "reader of the FIFO"),
        acts(COMMON, "vrrp_notify_fifo_script", script(), "vrrp_fifo.script", "reader of the FIFO"),
        acts(COMMON, "lvs_notify_fifo_script", script(), "lvs_fifo.script", "reader of the FIFO"),
        acts(RARE, "vrrp_notify_priority_changes", switch(), "vrrp.notify_priority_changes", "priority events in the FIFOs"),
        acts(RARE, "fifo_write_vrrp_states_on_reload", flag(), "fifo_write_states_on_reload", "repeat states after a reload"),
        acts(COMMON, "enable_snmp_vrrp", flag(), "snmp.vrrp", "KEEPALIVED-MIB"),
        acts(COMMON, "enable_snmp_checker", flag(), "snmp.checker", "KEEPALIVED-MIB"),
        acts(RARE, "enable_snmp_rfc", snmp_rfc(), "", "RFC 2787 and RFC 6527 MIBs"),
        acts(RARE, "enable_snmp_rfcv2", flag(), "snmp.rfc_v2", "RFC 2787 MIB"),
        acts(RARE, "enable_snmp_rfcv3", flag(), "snmp.rfc_v3", "RFC 6527 MIB"),
        acts(RARE, "enable_snmp_keepalived", flag(), "snmp.vrrp", "", instead="enable_snmp_vrrp"),
        acts(COMMON, "enable_traps", flag(), "snmp.traps", "SNMP traps"),
        acts(COMMON, "snmp_socket", word("ADDRESS", missing="unix:/var/agentx/master"), "snmp.socket", "AgentX socket"),
        acts(RARE, "snmp_vs_stats_update_interval", seconds(0, _SECONDS_32), "snmp.virtual_server_interval_ns", _LVS, newer=True),
        acts(RARE, "snmp_rs_stats_update_interval", seconds(0, _SECONDS_32), "snmp.real_server_interval_ns", _LVS, newer=True),
        acts(COMMON, "enable_dbus", flag(), "dbus.enabled", "D-Bus export"),
        acts(RARE, "dbus_service_name", word("NAME", 255), "dbus.service_name", "D-Bus name"),
        acts(RARE, "dbus_no_interface_name", flag(), "dbus.no_interface_name", "D-Bus paths", newer=True),
        acts(RARE, "vrrp_netlink_cmd_rcv_bufs", _BUFFER, "buffers.vrrp_command.size", "receive buffer"),
        acts(RARE, "vrrp_netlink_monitor_rcv_bufs", _BUFFER, "buffers.vrrp_monitor.size", "receive buffer"),
        acts(RARE, "lvs_netlink_cmd_rcv_bufs", _BUFFER, "buffers.lvs_command.size", "receive buffer"),
        acts(RARE, "lvs_netlink_monitor_rcv_bufs", _BUFFER, "buffers.lvs_monitor.size", "receive buffer"),
        acts(RARE, "process_monitor_rcv_bufs", _BUFFER, "buffers.process_monitor.size", "receive buffer"),
        acts(RARE, "vrrp_netlink_cmd_rcv_bufs_force", switch(), "buffers.vrrp_command.force", "SO_RCVBUFFORCE"),
        acts(RARE, "vrrp_netlink_monitor_rcv_bufs_force", switch(), "buffers.vrrp_monitor.force", "SO_RCVBUFFORCE"),
        acts(RARE, "lvs_netlink_cmd_rcv_bufs_force", switch(), "buffers.lvs_command.force", "SO_RCVBUFFORCE"),
        acts(RARE, "lvs_netlink_monitor_rcv_bufs_force", switch(), "buffers.lvs_monitor.force", "SO_RCVBUFFORCE"),
        acts(RARE, "process_monitor_rcv_bufs_force", switch(), "buffers.process_monitor.force", "SO_RCVBUFFORCE"),
        acts(RARE, "vrrp_rx_bufs_policy", buffer_policy(), "buffers.vrrp_policy", "receive buffer of adverts"),
        acts(RARE, "vrrp_rx_bufs_multiplier", integer(1, UINT32), "buffers.vrrp_multiplier", "receive buffer of adverts (3)"),
        acts(RARE, "lvs_only_while_master", word("INSTANCE"), "lvs.only_while_master", "only_while_master for every service", ours=True),
        acts(RARE, "rs_init_notifies", switch(), "lvs.init_notifies", _LVS),
        acts(COMMON, "vrrp_startup_delay", seconds(0, _SECONDS_32), "vrrp.startup_delay_ns", "instances act only after this time"),
        acts(RARE, "vrrp_delay_after_boot", seconds(0, _SECONDS_32), "vrrp.delay_after_boot_ns", "the same, from boot", newer=True),
        acts(RARE, "log_unknown_vrids", flag(), "vrrp.log_unknown_vrids", "log adverts of foreign VRIDs"),
        acts(RARE, "vmac_prefix", word("NAME", 10), "vrrp.vmac_prefix", "names of macvlans (vrrp)"),
        acts(RARE, "vmac_addr_prefix", word("NAME", 10), "vrrp.vmac_address_prefix", "names of macvlans"),
        acts(RARE, "umask", umask(), "umask", "mode of files"),
        acts(RARE, "random_seed", integer(0, UINT32), "random_seed", "seed of ${_RANDOM}"),
        acts(COMMON, "reload_check_config", checked_reload(), "", "a reload is always checked first, with or without this line"),
        acts(RARE, "reload_time_file", word("PATH", 4096), "reload.time_file", "scheduled reload"),
        acts(RARE, "reload_repeat", flag(), "reload.repeat", "scheduled reload every day"),
        acts(RARE, "reload_file", word("PATH", 4096, ""), "reload.marker_file", "marker while files are read"),
        acts(RARE, "include_check", include_check(), "", "how strict include is"),
        acts(
            RARE,
            "config_save_dir",
            word("DIRECTORY", 4096),
            "config_save_dir",
            "the configuration before and after each reload",
        ),
        moot(RARE, "tmp_config_directory", word("DIRECTORY", 4096), "nothing is copied; keepalived's copy there has no name"),
        acts(RARE, "data_use_instance", switch(), "data_use_instance", "namespace and instance in the name of keepalived.data"),
        acts(RARE, "state_dump_file", word("PATH", 4096), "state_dump_file", "dump path", newer=True),
        acts(RARE, "stats_dump_file", word("PATH", 4096), "stats_dump_file", "dump path", newer=True),
        acts(RARE, "json_dump_file", word("PATH", 4096), "json_dump_file", "dump path", newer=True),
        acts(COMMON, "json_version", integer(1, 2), "json_version", "shape of the JSON dump", newer=True),
        acts(RARE, "iproute_usr_dir", word("DIRECTORY", 4096), "iproute_usr_dir", "where rt_tables is", newer=True),
        acts(RARE, "iproute_etc_dir", word("DIRECTORY", 4096), "iproute_etc_dir", "the same, and wins", newer=True),
    ),
)
