"""vrrp_script, vrrp_track_process, track_file, track_group, bfd_instance, vrrp_sync_group, garp_group."""

from __future__ import annotations

from base.core import NS_PER_MS, NS_PER_S, NS_PER_US
from vrrp.config.keyword import Fields, Mark, Reading, Rejected, Table, Value, acts
from vrrp.config.model.tracking import ParameterMatch
from vrrp.config.syntax import Statement
from vrrp.config.track_lines import tracks
from vrrp.config.values import (
    address,
    choice,
    command_only,
    flag,
    integer,
    interface,
    lenient_integer,
    milliseconds,
    name_list,
    parse_decimal,
    read_integer,
    read_time,
    remark_extra,
    script,
    seconds,
    switch,
    text_list,
    user_and_group,
    weight,
    word,
)

CORE, COMMON, RARE = Mark.CORE, Mark.COMMON, Mark.RARE
_MAX_SCRIPT_NS = 1_000_000_000 * NS_PER_S
_INT32 = 2**31 - 1


def script_seconds() -> Value:
    """interval and timeout of vrrp_script: seconds with ms resolution; keepalived turns 0 into 1 with a warning."""

    def read(reading: Reading, statement: Statement) -> object:
        if statement.arguments and parse_decimal(statement.arguments[0].text) == 0:
            reading.warning(statement.arguments[0], f"{statement.keyword} 0 is taken as 1", "write a time above 0", "out-of-range")
            return NS_PER_S
        return seconds(NS_PER_MS, _MAX_SCRIPT_NS, NS_PER_MS).read(reading, statement)

    return Value("0.001..1000000000 s", read)


def init_file() -> Value:
    """``[VALUE] [overwrite]`` of track_file."""

    def read(reading: Reading, statement: Statement) -> object:
        value, overwrite = 0, False
        for given in statement.arguments:
            if given.text == "overwrite":
                overwrite = True
                continue
            number = read_integer(reading, given, "init_file", -_INT32, _INT32)
            if isinstance(number, Rejected):
                return number
            value = number
        return Fields({"initial_value": value, "overwrite": overwrite})

    return Value("[VALUE] [overwrite]", read)


def process() -> Value:
    """``NAME [PARAMETERS]`` of vrrp_track_process."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments or not statement.arguments[0].text:
            return reading.error(statement, "process has no name", "write: process NAME [PARAMETERS]", "missing-value")
        names = [given.text for given in statement.arguments]
        return Fields({"process": names[0], "parameters": tuple(names[1:])})

    return Value("NAME [PARAMETERS]", read)


def delay_both() -> Value:
    """``delay`` of vrrp_track_process sets both delays."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return reading.error(statement, "delay has no value", "write: delay SECONDS", "missing-value")
        remark_extra(reading, statement, 1)
        delay = read_time(reading, statement.arguments[0], "delay", NS_PER_US, 3600 * NS_PER_S, NS_PER_S, NS_PER_US)
        return delay if isinstance(delay, Rejected) else Fields({"terminate_delay_ns": delay, "fork_delay_ns": delay})

    return Value("0.000001..3600 s", read)


_MATCHES = {match.value: match for match in ParameterMatch if match is not ParameterMatch.NONE}
_DEBOUNCE = seconds(NS_PER_US, 3600 * NS_PER_S)

VRRP_SCRIPT = Table(
    "vrrp_script",
    (
        acts(CORE, "script", command_only(), "command", "a command with arguments stands in quotes; no shell is used"),
        acts(CORE, "interval", script_seconds(), "interval_ns", "time between runs; default 1"),
        acts(COMMON, "timeout", script_seconds(), "timeout_ns", "longer runs count as failed; default: interval"),
        acts(CORE, "weight", weight(-253, 253), "", "0 = FAULT while failed"),
        acts(CORE, "rise", lenient_integer(1, _INT32, 1), "rise", "successes needed"),
        acts(CORE, "fall", lenient_integer(1, _INT32, 1), "fall", "failures needed"),
        acts(COMMON, "user", user_and_group("user", "group"), "", "who runs the script"),
        acts(COMMON, "init_fail", flag(), "init_fail", "failed until the first success"),
        acts(RARE, "fail_open", flag(), "fail_open", "one that cannot be started counts as good, as in keepalived", ours=True),
    ),
)

VRRP_TRACK_PROCESS = Table(
    "vrrp_track_process",
    (
        acts(COMMON, "process", process(), "", "the name in /proc/PID/comm, and parameters", first_counts=True),
        acts(COMMON, "weight", weight(-254, 254), "", "0 = FAULT while the quorum is missed", first_counts=True),
        acts(RARE, "quorum", integer(0, 65_535), "quorum", "least number of processes"),
        acts(RARE, "quorum_max", integer(0, 65_535), "quorum_max", "largest number of processes"),
        acts(COMMON, "delay", delay_both(), "", "both delays"),
        acts(RARE, "terminate_delay", _DEBOUNCE, "terminate_delay_ns", "before down counts"),
        acts(RARE, "fork_delay", _DEBOUNCE, "fork_delay_ns", "before up counts"),
        acts(RARE, "param_match", choice(_MATCHES), "match", "how parameters are compared"),
        acts(RARE, "full_command", flag(), "full_command", "compare /proc/PID/cmdline"),
    ),
)


def _track_file_table(name: str) -> Table:
    return Table(
        name,
        (
            acts(COMMON, "file", word("PATH", 4096), "path", "its first line is a number", first_counts=True),
            acts(
                COMMON,
                "weight",
                weight(-_INT32, _INT32),
                "",
                "the number in the file is multiplied by it; 0 = FAULT while not 0",
                first_counts=True,
            ),
            acts(RARE, "init_file", init_file(), "", "create the file at start"),
        ),
    )


TRACK_FILE = _track_file_table("track_file")
VRRP_TRACK_FILE = _track_file_table("vrrp_track_file")

TRACK_GROUP = Table(
    "track_group",
    (acts(RARE, "group", text_list("INSTANCE"), "members", "instances that go to FAULT"),),
)

GARP_GROUP = Table(
    "garp_group",
    (
        acts(RARE, "garp_interval", seconds(0, 100 * NS_PER_S, zero_warns=True), "garp_interval_ns", "pause between ARPs"),
        acts(RARE, "gna_interval", seconds(0, 100 * NS_PER_S, zero_warns=True), "gna_interval_ns", "pause between NAs"),
        acts(RARE, "interface", interface(), "interface", "the interface"),
        acts(RARE, "interfaces", text_list("INTERFACE"), "interfaces", "interfaces with one common budget"),
    ),
)

BFD_INSTANCE = Table(
    "bfd_instance",
    (
        acts(COMMON, "neighbor_ip", address(), "neighbor", "the other end"),
        acts(COMMON, "source_ip", address(), "source", "our end"),
        acts(RARE, "neighbour_ip", address(), "neighbor", "neighbor_ip"),
        acts(COMMON, "min_rx", milliseconds(NS_PER_MS, 1000 * NS_PER_MS), "min_rx_ns", "default 10"),
        acts(COMMON, "min_tx", milliseconds(NS_PER_MS, 1000 * NS_PER_MS), "min_tx_ns", "default 10"),
        acts(COMMON, "idle_tx", milliseconds(1000 * NS_PER_MS, 10_000 * NS_PER_MS), "idle_tx_ns", "default 1000"),
        acts(COMMON, "multiplier", integer(1, 255), "multiplier", "missed packets until down; default 5"),
        acts(RARE, "passive", flag(), "passive", "wait for the peer"),
        acts(RARE, "ttl", integer(1, 255), "hop_limit", "IPv4, default 255"),
        acts(RARE, "hoplimit", integer(1, 255), "hop_limit", "IPv6, default 64"),
        acts(RARE, "max_hops", integer(-1, 255), "max_hops", "allowed decrement"),
        acts(RARE, "multihop", flag(), "multihop", "UDP port 4784", newer=True),
        acts(RARE, "weight", weight(-253, 253), "", "default weight of track_bfd"),
        acts(RARE, "vrrp", flag(), "only_vrrp", "events only to the VRRP process"),
        acts(RARE, "checker", flag(), "only_checker", "events only to the checkers"),
    ),
)

VRRP_SYNC_GROUP = Table(
    "vrrp_sync_group",
    (
        acts(CORE, "group", name_list("INSTANCE"), "members", "the instances", accumulates=True),
        acts(COMMON, "track_interface", tracks("INTERFACE", 253), "track_interface", "for every member", accumulates=True),
        acts(COMMON, "track_script", tracks("SCRIPT", 253), "track_script", "for every member", accumulates=True),
        acts(COMMON, "track_file", tracks("FILE", 254), "track_file", "for every member", accumulates=True),
        acts(COMMON, "track_process", tracks("PROCESS", 254), "track_process", "for every member", accumulates=True),
        acts(COMMON, "track_bfd", tracks("BFD", 253), "track_bfd", "for every member", accumulates=True),
        acts(COMMON, "notify", script(), "notify.any_state", "called with GROUP NAME STATE 0"),
        acts(COMMON, "notify_master", script(), "notify.master", "on becoming MASTER"),
        acts(COMMON, "notify_backup", script(), "notify.backup", "on becoming BACKUP"),
        acts(COMMON, "notify_fault", script(), "notify.fault", "on becoming FAULT"),
        acts(RARE, "notify_stop", script(), "notify.stop", "when the daemon stops"),
        acts(COMMON, "smtp_alert", switch(), "smtp_alert", "mail on a change of state"),
        acts(
            RARE,
            "global_tracking",
            flag(),
            "tracking_weight",
            "the same as sync_group_tracking_weight",
            instead="track_interface, track_script and track_file in the sync group",
        ),
        acts(RARE, "sync_group_tracking_weight", flag(), "tracking_weight", "members may have weights"),
        acts(RARE, "notify_priority_changes", switch(), "notify_priority_changes", "priority events in the FIFOs"),
    ),
)
