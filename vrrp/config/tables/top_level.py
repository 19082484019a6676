"""The top level of the file: which blocks there are."""

from __future__ import annotations

from dataclasses import dataclass

from base.core import NS_PER_S
from vrrp.config.address_lines import addresses
from vrrp.config.keyword import TOP_LEVEL, Collected, Mark, Reading, Rejected, Table, Value, acts, moot, read_block
from vrrp.config.model.daemon import InterfaceDelay, LinkbeatInterface, LinkbeatMethod
from vrrp.config.route_lines import routes, rules
from vrrp.config.syntax import Statement, Word
from vrrp.config.tables.global_defs import GLOBAL_DEFS
from vrrp.config.tables.services import SSL, virtual_server, virtual_server_group
from vrrp.config.tables.tracking import (
    BFD_INSTANCE,
    GARP_GROUP,
    TRACK_FILE,
    TRACK_GROUP,
    VRRP_SCRIPT,
    VRRP_SYNC_GROUP,
    VRRP_TRACK_FILE,
    VRRP_TRACK_PROCESS,
)
from vrrp.config.tables.vrrp_instance import VRRP_INSTANCE
from vrrp.config.values import check_interface, flag, line_list, read_time, remark_extra, seconds, word

CORE, COMMON, RARE = Mark.CORE, Mark.COMMON, Mark.RARE
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A block that waits for the rest of the file: ``name`` is None where the kind of block has none."""

    name: Word | None
    statement: Statement
    collected: Collected


def named(table: Table) -> Value:
    """``KEYWORD NAME { … }``, as a tuple of one RawBlock."""

    def read(reading: Reading, statement: Statement) -> object:
        collected = read_block(reading, table, statement.block or ())
        if not statement.arguments or not statement.arguments[0].text:
            return reading.error(statement, f"{statement.keyword} has no name", f"write: {statement.keyword} NAME {{", "missing-value")
        name = statement.arguments[0]
        if len(name.text) > MAX_NAME:
            return reading.error(name, f"the name of {statement.keyword} is longer than {MAX_NAME} characters", "choose a shorter one")
        if len(statement.arguments) > 1 and table is VRRP_INSTANCE:
            extra = statement.arguments[1]
            return reading.error(
                extra, f"'{extra.text}' after the name {name.text}", "a name is one word; put it in quotes or remove the rest"
            )
        remark_extra(reading, statement, 1)
        return (RawBlock(name, statement, collected),)

    return Value("NAME { … }", read, takes_block=True)


def nameless(table: Table) -> Value:
    """``KEYWORD { … }``, as a tuple of one RawBlock."""

    def read(reading: Reading, statement: Statement) -> object:
        remark_extra(reading, statement, 0)
        return (RawBlock(None, statement, read_block(reading, table, statement.block or ())),)

    return Value("{ … }", read, takes_block=True)


def _existing_interface(reading: Reading, given: Word) -> str | Rejected:
    name = check_interface(reading, given)
    if isinstance(name, Rejected) or reading.interface_exists(name):
        return name
    return reading.error(
        given, f"interface {name} does not exist", "correct the name ('ip link' lists them), or remove the line", "interface"
    )


def _read_linkbeat(reading: Reading, line: Statement) -> object:
    name = _existing_interface(reading, line.words[0])
    if isinstance(name, Rejected):
        return name
    methods = {method.value: method for method in LinkbeatMethod if method.value}
    for given in line.words[1:]:
        if given.text not in methods:
            return reading.error(given, f"'{given.text}' after {name} is unknown", f"write {', '.join(methods)}, or nothing")
        return LinkbeatInterface(name, methods[given.text])
    return LinkbeatInterface(name)


def _read_delay(reading: Reading, line: Statement) -> object:
    name = _existing_interface(reading, line.words[0])
    if isinstance(name, Rejected):
        return name
    if len(line.words) < 2:
        return reading.error(line, f"{name} has no delay", f"write: {name} DOWN_SECONDS [UP_SECONDS]", "missing-value")
    times = [read_time(reading, given, "delay", 0, 255 * NS_PER_S, NS_PER_S, 1_000) for given in line.words[1:3]]
    good = [time for time in times if not isinstance(time, Rejected)]
    return InterfaceDelay(name, good[0], good[-1]) if len(good) == len(times) else times[0]


TABLE = Table(
    TOP_LEVEL,
    (
        acts(CORE, "global_defs", nameless(GLOBAL_DEFS), "", "settings of the daemon", accumulates=True),
        acts(CORE, "vrrp_instance", named(VRRP_INSTANCE), "", "one virtual router", accumulates=True),
        acts(COMMON, "vrrp_sync_group", named(VRRP_SYNC_GROUP), "", "instances that change state together", accumulates=True),
        acts(CORE, "vrrp_script", named(VRRP_SCRIPT), "", "a command that is run again and again", accumulates=True),
        acts(COMMON, "vrrp_track_process", named(VRRP_TRACK_PROCESS), "", "processes that must run", accumulates=True),
        acts(COMMON, "track_file", named(TRACK_FILE), "", "a file with a number", accumulates=True),
        acts(RARE, "vrrp_track_file", named(VRRP_TRACK_FILE), "", "track_file", accumulates=True, instead="track_file"),
        acts(RARE, "bfd_instance", named(BFD_INSTANCE), "", "an RFC 5880 session", accumulates=True),
        acts(CORE, "virtual_server", virtual_server(), "", "an IPVS service", accumulates=True),
        acts(COMMON, "virtual_server_group", virtual_server_group(), "", "addresses that share one pool", accumulates=True),
        acts(RARE, "SSL", nameless(SSL), "", "key material of SSL_GET", accumulates=True),
        acts(COMMON, "static_ipaddress", addresses(static=True), "", "addresses kept all the time", accumulates=True),
        acts(COMMON, "static_routes", routes(static=True), "", "routes kept all the time", accumulates=True),
        acts(RARE, "static_rules", rules(static=True), "", "policy rules kept all the time", accumulates=True),
        acts(RARE, "track_group", named(TRACK_GROUP), "", "who goes to FAULT while a static entry cannot be kept", accumulates=True),
        acts(RARE, "garp_group", nameless(GARP_GROUP), "", "pace of announcements per interface", accumulates=True),
        acts(
            RARE,
            "linkbeat_interfaces",
            line_list("INTERFACE [MII|ETHTOOL|IOCTL]", _read_linkbeat),
            "linkbeat_interfaces",
            "poll these links",
        ),
        acts(RARE, "linkbeat_use_polling", flag(), "linkbeat_polling", "poll all links"),
        acts(
            RARE,
            "interface_up_down_delays",
            line_list("INTERFACE DOWN [UP]", _read_delay),
            "interface_delays",
            "how long a change of the link must last before it counts",
            accumulates=True,
        ),
        acts(
            COMMON,
            "net_namespace",
            word("NAME", 255),
            "net_namespace",
            "run in a network namespace",
        ),
        acts(
            RARE,
            "net_namespace_ipvs",
            word("NAME", 255, ""),
            "net_namespace_ipvs",
            "set IPVS in another network namespace; no name: the first",
        ),
        moot(RARE, "namespace_with_ipsets", flag(), "no effect in keepalived either since kernel 3.13"),
        acts(RARE, "instance", word("NAME", 255), "instance", "name of this daemon in names of pid files and dumps"),
        acts(RARE, "use_pid_dir", flag(), "use_pid_dir", "keepalived's pid files in /run/keepalived"),
        acts(
            RARE, "child_wait_time", seconds(0, (2**32 - 1) * NS_PER_S, NS_PER_S), "child_wait_ns", "how long children may take to end (5)"
        ),
    ),
)
