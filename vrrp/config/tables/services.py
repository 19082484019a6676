"""virtual_server, virtual_server_group, real_server, the checkers, SSL."""

from __future__ import annotations

import ipaddress
import re

from base.core import NS_PER_US
from vrrp.config.keyword import REJECTED, Collected, Keyword, Mark, Reading, Rejected, Table, Value, acts, moot, read_block
from vrrp.config.model.common import Family, IpAddress
from vrrp.config.model.services import Checker, LoweredPriority, RealServer, ServiceAddress, Settings, VirtualServer, VirtualServerGroup
from vrrp.config.syntax import Statement, Word
from vrrp.config.values import (
    UINT32,
    address,
    argument,
    choice,
    command_only,
    flag,
    integer,
    interface,
    lenient_integer,
    line_list,
    parse_address,
    parse_integer,
    read_integer,
    remark_extra,
    script,
    seconds,
    skipped_below,
    switch,
    user_and_group,
    weight,
    word,
    words,
)

CORE, COMMON, RARE = Mark.CORE, Mark.COMMON, Mark.RARE
_INT32 = 2**31 - 1
_MAX_NS = UINT32 * NS_PER_US
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos")
_METHODS = ("NAT", "DR", "TUN")
_DNS_TYPES = ("A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "PTR", "SRV", "RRSIG", "DNSKEY")
_DIGEST = re.compile(r"[0-9A-Fa-f]{32}")
_STATUS = re.compile(r"([0-9]{3})(?:-([0-9]{3}))?")
_RS = "virtual_server/real_server"


def _address_port(reading: Reading, given: tuple[Word, ...], what: str) -> tuple[IpAddress, int] | Rejected:
    if not given:
        raise AssertionError("callers check that there is a word")
    value = parse_address(given[0].text)
    if value is None:
        return reading.error(given[0], f"{what} '{given[0].text}' is no IP address", "write one such as 192.0.2.1 80")
    port: int | Rejected = 0
    if len(given) > 1:
        port = read_integer(reading, given[1], "port", 0, 65_535)  # 0: every port, as if none stood there
    return REJECTED if isinstance(port, Rejected) else (value, port)


def _fwmark(reading: Reading, given: tuple[Word, ...], where: Statement) -> ServiceAddress | Rejected:
    if not given:
        return reading.error(where, "fwmark has no value", "write: fwmark NUMBER", "missing-value")
    mark = read_integer(reading, given[0], "fwmark", 1, UINT32)
    if isinstance(mark, Rejected):
        return REJECTED
    family = None
    if len(given) > 1:
        if given[1].text not in ("inet", "inet6"):
            return reading.error(given[1], f"'{given[1].text}' after the mark is unknown", "write inet or inet6, or remove it")
        family = Family.IPV6 if given[1].text == "inet6" else Family.IPV4
    return ServiceAddress(fwmark=mark, family=family, position=where.position)


def _range(reading: Reading, line: Statement) -> object:
    """A line of virtual_server_group: ``IP [PORT]``, ``A.B.C.D-E``, ``IP-IP``, ``IP/LENGTH`` or ``fwmark N [FAMILY]``."""
    if line.keyword == "fwmark":
        return _fwmark(reading, line.arguments, line)
    text = line.keyword
    last: IpAddress | None = None
    if "/" in text:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return reading.error(line, f"'{text}' is no network", "write one such as 192.0.2.8/29")
        first: IpAddress | None = parse_address(text.partition("/")[0])
        last = network.broadcast_address
    else:
        start, dash, end = text.partition("-")
        first = parse_address(start)
        if dash and first is not None:
            last = parse_address(end) or _last_of_range(first, end)
            if last is None or last.version != first.version or int(last) < int(first):
                return reading.error(line, f"'{text}' is no range of addresses", "write one such as 192.0.2.1-9")
    if first is None:
        return reading.error(line, f"'{text}' is no IP address", "write ADDRESS [PORT], FIRST-LAST [PORT], NETWORK [PORT] or fwmark N")
    port: int | Rejected = 0
    if line.arguments:
        port = read_integer(reading, line.arguments[0], "port", 0, 65_535)
    return REJECTED if isinstance(port, Rejected) else ServiceAddress(first, last, port, position=line.position)


def _last_of_range(first: IpAddress, end: str) -> IpAddress | None:
    """``192.0.2.1-9`` counts in the last byte, ``2001:db8::1-9`` in the last 16 bits, in hexadecimal."""
    if first.version == 4:
        number = parse_integer(end) if end.isdigit() else None
        return None if number is None or number > 255 else ipaddress.IPv4Address(int(first) & ~0xFF | number)
    try:
        number = int(end, 16)
    except ValueError:
        return None
    return ipaddress.IPv6Address(int(first) & ~0xFFFF | number) if 0 <= number <= 0xFFFF else None


def _method() -> Value:
    """``NAT|DR|TUN [type …]`` as the tuple of its words."""

    def read(reading: Reading, statement: Statement) -> object:
        given = argument(reading, Statement(statement.words[:2]), "NAT|DR|TUN")
        if isinstance(given, Rejected):
            return REJECTED
        if given.text not in _METHODS:
            return reading.error(given, f"{statement.keyword} '{given.text}' is unknown", "write NAT, DR or TUN")
        rest = tuple(option.text for option in statement.arguments[1:])
        if rest and given.text != "TUN":
            return reading.error(statement.arguments[1], f"'{rest[0]}' after {given.text} is unknown", "only TUN has a type; remove it")
        if rest and (rest[0] != "type" or len(rest) < 2 or rest[1] not in ("ipip", "gue", "gre")):
            return reading.error(
                statement.arguments[1], f"cannot read '{' '.join(rest)}'", "write: TUN type ipip|gue port N|gre [nocsum|csum|remcsum]"
            )
        return (given.text, *rest)

    return Value("NAT|DR|TUN [type ipip|gue port N|gre [nocsum|csum|remcsum]]", read)


def _granularity() -> Value:
    """An IPv4 netmask or a prefix length, as the length."""

    def read(reading: Reading, statement: Statement) -> object:
        given = argument(reading, statement, "NETMASK|LENGTH")
        if isinstance(given, Rejected):
            return REJECTED
        number = parse_integer(given.text)
        if number is None:
            try:
                number = ipaddress.IPv4Network(f"0.0.0.0/{given.text}").prefixlen
            except ValueError:
                number = -1
        if not 1 <= number <= 128:
            return reading.error(given, f"persistence_granularity '{given.text}' is no netmask", "write 255.255.255.0 or a prefix length")
        return number

    return Value("NETMASK|LENGTH", read)


def _sorry_server() -> Value:
    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return argument(reading, statement, "ADDRESS [PORT]")
        value = _address_port(reading, statement.arguments, "sorry_server")
        return value if isinstance(value, Rejected) else ServiceAddress(value[0], None, value[1], position=statement.position)

    return Value("ADDRESS [PORT]", read)


def _lowered_priority() -> Value:
    def read(reading: Reading, statement: Statement) -> object:
        if len(statement.arguments) < 2:
            remedy = "write: quorum_lowers_priority INSTANCE AMOUNT"
            return reading.error(statement, "quorum_lowers_priority needs an instance and a number", remedy, "missing-value")
        remark_extra(reading, statement, 2)
        amount = read_integer(reading, statement.arguments[1], statement.keyword, 1, 253)
        return amount if isinstance(amount, Rejected) else (LoweredPriority(statement.arguments[0].text, amount),)

    return Value("INSTANCE 1..253", read)


def _digest() -> Value:
    def read(reading: Reading, statement: Statement) -> object:
        given = argument(reading, statement, "MD5")
        if isinstance(given, Rejected):
            return REJECTED
        if not _DIGEST.fullmatch(given.text):
            return reading.error(given, f"digest '{given.text}' is no MD5 sum", "write 32 hexadecimal digits; 'genhash' computes them")
        return bytes.fromhex(given.text)

    return Value("MD5", read)


def _status_codes() -> Value:
    """``200 204 300-399`` as a tuple of (first, last)."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return argument(reading, statement, "200 …")
        ranges = []
        for given in statement.arguments:
            match = _STATUS.fullmatch(given.text)
            low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if not 100 <= low <= high <= 999:
                return reading.error(given, f"status_code '{given.text}' is no HTTP status", "write 100..999 or a range such as 200-299")
            ranges.append((low, high))
        return tuple(ranges)

    return Value("CODE|CODE-CODE …", read)


def _hex_string(wildcard: bool) -> Value:
    """Bytes in hexadecimal; ``X`` stands for any half byte of a reply."""

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return argument(reading, statement, "HEX …") if not wildcard else ""
        text = " ".join(given.text for given in statement.arguments)
        allowed = "0123456789abcdefABCDEF " + ("xX" if wildcard else "")
        if any(char not in allowed for char in text):
            return reading.error(statement.arguments[0], f"{statement.keyword} '{text}' is not hexadecimal", "write digits such as 0a 1b")
        return text

    return Value("HEX …" if not wildcard else "[HEX …]", read)


def _numbers(count: int) -> Value:
    def read(reading: Reading, statement: Statement) -> object:
        if len(statement.arguments) != count:
            return reading.error(
                statement, f"{statement.keyword} needs {count} numbers", f"write: {statement.keyword} START MAX", "missing-value"
            )
        numbers = [read_integer(reading, given, statement.keyword, 0, UINT32) for given in statement.arguments]
        good = tuple(number for number in numbers if not isinstance(number, Rejected))
        return good if len(good) == count else REJECTED

    return Value(" ".join(["N"] * count), read)


def _settings(collected: Collected) -> Settings:
    return Settings(tuple((name, value) for name, value in collected.by_keyword.items() if not _is_part(value)))


def _is_part(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], (Checker, RealServer, _SubBlock))


class _SubBlock:
    """A nested url { } or host { }, until its checker takes it."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings


def _sub_block(table: Table) -> Value:
    def read(reading: Reading, statement: Statement) -> object:
        collected = read_block(reading, table, statement.block or ())
        if statement.keyword == "url" and not collected.has("path"):
            reading.error(statement, "url has no path", "add: path /", "missing-value")
        return (_SubBlock(statement.keyword, _settings(collected)),)

    return Value("{ … }", read, takes_block=True)


def _checker(table: Table) -> Value:
    def read(reading: Reading, statement: Statement) -> object:
        collected = read_block(reading, table, statement.block or ())
        _check_checker(reading, statement, collected)
        blocks = tuple(
            (part.name, part.settings)
            for value in collected.by_keyword.values()
            if isinstance(value, tuple)
            for part in value
            if isinstance(part, _SubBlock)
        )
        return (Checker(statement.keyword, _settings(collected), blocks, statement.position),)

    return Value("{ … }", read, takes_block=True)


def _check_checker(reading: Reading, statement: Statement, collected: Collected) -> None:
    kind = statement.keyword
    if kind in ("HTTP_GET", "SSL_GET") and not collected.has("url"):
        reading.error(statement, f"{kind} has no url", "add: url { path / }", "missing-value")
    if kind == "MISC_CHECK" and not collected.has("misc_path"):
        reading.error(statement, "MISC_CHECK has no command", 'add: misc_path "/path/to/check"', "missing-value")
    if kind == "FILE_CHECK" and not collected.has("track_file"):
        reading.error(statement, "FILE_CHECK has no track_file", "add: track_file NAME", "missing-value")
    if kind == "BFD_CHECK" and not collected.has("name"):
        reading.error(statement, "BFD_CHECK has no name", "add: name BFD-INSTANCE", "missing-value")


def _connection(*, ports: bool = True) -> tuple[Keyword, ...]:
    """The 13 keywords of every checker that opens a connection; an echo has no ``ports``."""
    port = integer(1, 65_535)
    no_port = "an echo has no ports"
    return (
        acts(COMMON, "connect_ip", address(), "", "probe target"),
        acts(CORE, "connect_port", port, "", "probe port") if ports else moot(CORE, "connect_port", port, no_port),
        acts(COMMON, "bindto", address(), "", "source address"),
        acts(RARE, "bind_port", port, "", "source port") if ports else moot(RARE, "bind_port", port, no_port),
        acts(RARE, "bind_if", interface(), "", "source interface"),
        acts(CORE, "connect_timeout", seconds(1_000, _MAX_NS), "", "default 5"),
        acts(RARE, "fwmark", integer(0, UINT32), "", "SO_MARK"),
        *_timing(),
    )


def _timing() -> tuple[Keyword, ...]:
    """The six keywords of every checker that probes."""
    return (
        acts(CORE, "retry", integer(0, UINT32), "", "extra tries while up"),
        acts(CORE, "delay_before_retry", seconds(0, _MAX_NS), "", "time between tries"),
        acts(COMMON, "warmup", seconds(0, _MAX_NS), "", "random start delay"),
        acts(RARE, "delay_loop", seconds(1_000, _MAX_NS), "", "own period"),
        acts(RARE, "alpha", switch(), "", "down until the first success"),
        acts(RARE, "log_all_failures", switch(), "", "log each failure"),
    )


def _url(path: str, tls: bool) -> Table:
    return Table(
        f"{path}/url",
        (
            acts(CORE, "path", word("PATH", 8192), "", "request path"),
            acts(CORE, "digest", _digest(), "", "MD5 of the body"),
            acts(CORE, "status_code", _status_codes(), "", "accepted status codes (200-299)"),
            acts(COMMON, "virtualhost", word("HOST"), "", "Host:"),
            acts(COMMON, "regex", word("REGEX", 8192), "", "must match the body"),
            acts(RARE, "regex_no_match", flag(), "", "must not match"),
            acts(RARE, "regex_options", words("OPTION …"), "", "PCRE options"),
            acts(RARE, "regex_min_offset", integer(0, UINT32), "", "where matching begins"),
            acts(RARE, "regex_max_offset", integer(0, UINT32), "", "where matching ends"),
            moot(RARE, "regex_stack", _numbers(2), "of PCRE's compiler; our matcher has none, and a time limit"),
            *((acts(RARE, "tls_compliant", switch(), "", "send close_notify", newer=True),) if tls else ()),
        ),
    )


_RS_URLS = {name: _url(f"{_RS}/{name}", name == "SSL_GET") for name in ("HTTP_GET", "SSL_GET")}
URLS = tuple(_RS_URLS.values())
SMTP_HOST = Table(f"{_RS}/SMTP_CHECK/host", _connection())


def _names_for_tls() -> tuple[Keyword, ...]:
    return (
        acts(COMMON, "enable_sni", switch(), "", "SNI = virtualhost"),
        acts(RARE, "sni_name", word("HOST"), "", "explicit SNI", newer=True),
    )


def _names_without_tls() -> tuple[Keyword, ...]:
    note = "without TLS there is no SNI"
    return (moot(COMMON, "enable_sni", switch(), note), moot(RARE, "sni_name", word("HOST"), note, newer=True))


def _http(name: str) -> Table:
    path = f"{_RS}/{name}"
    tls = name == "SSL_GET"
    return Table(
        path,
        (
            *_connection(),
            acts(CORE, "url", _sub_block(_RS_URLS[name]), "", "may repeat", accumulates=True),
            acts(CORE, "nb_get_retry", integer(0, UINT32), "", "", instead="retry"),
            acts(COMMON, "virtualhost", word("HOST"), "", "Host:"),
            acts(RARE, "http_protocol", choice({"1.0": "1.0", "1.0C": "1.0C", "1.1": "1.1", "1.0c": "1.0C"}), "", "HTTP version"),
            *(_names_for_tls() if tls else _names_without_tls()),
            *((acts(RARE, "verify_certificate", switch(), "", "the server's certificate must be valid", ours=True),) if tls else ()),
            acts(RARE, "fast_recovery", switch(), "", "no pause between URLs while coming up"),
            *((acts(RARE, "tls_compliant", switch(), "", "send close_notify", newer=True),) if tls else ()),
        ),
    )


def _checker_tables() -> tuple[Table, ...]:
    return (
        _http("HTTP_GET"),
        _http("SSL_GET"),
        Table(f"{_RS}/TCP_CHECK", _connection()),
        Table(
            f"{_RS}/MISC_CHECK",
            (
                *_timing(),
                acts(CORE, "misc_path", command_only(), "", "command"),
                acts(CORE, "misc_timeout", seconds(1_000, _MAX_NS), "", "default: delay_loop"),
                acts(COMMON, "misc_dynamic", switch(), "", "exit code 2..255 sets the weight"),
                acts(COMMON, "user", user_and_group("user", "group"), "", "run as"),
            ),
        ),
        Table(
            f"{_RS}/SMTP_CHECK",
            (
                *_connection(),
                acts(COMMON, "helo_name", word(), "", "HELO name"),
                acts(RARE, "host", _sub_block(SMTP_HOST), "", "targets; better: one SMTP_CHECK per target", accumulates=True),
            ),
        ),
        Table(
            f"{_RS}/DNS_CHECK",
            (
                *_connection(),
                acts(COMMON, "type", choice({name: name for name in _DNS_TYPES}), "", "default SOA"),
                acts(COMMON, "name", word(), "", "default ."),
            ),
        ),
        Table(
            f"{_RS}/UDP_CHECK",
            (
                *_connection(),
                acts(COMMON, "payload", _hex_string(False), "", "what is sent"),
                acts(COMMON, "require_reply", _hex_string(True), "", "a reply must come, and match"),
                acts(RARE, "min_reply_length", integer(0, 65_535), "", "default 0"),
                acts(RARE, "max_reply_length", integer(0, 65_535), "", "default 255"),
            ),
        ),
        Table(f"{_RS}/PING_CHECK", _connection(ports=False)),
        Table(f"{_RS}/BFD_CHECK", (acts(RARE, "name", word(), "", "bfd_instance"), acts(RARE, "alpha", switch(), "", "own alpha"))),
        Table(
            f"{_RS}/FILE_CHECK",
            (acts(RARE, "track_file", word(), "", "its name"), acts(RARE, "weight", weight(-_INT32, _INT32), "", "multiplier")),
        ),
    )


CHECKERS = _checker_tables()
_FREQUENT = {"HTTP_GET": CORE, "SSL_GET": CORE, "TCP_CHECK": CORE, "MISC_CHECK": CORE, "BFD_CHECK": RARE, "FILE_CHECK": RARE}

REAL_SERVER = Table(
    _RS,
    (
        acts(CORE, "weight", integer(0, _INT32), "", "default 1"),
        acts(COMMON, "lvs_method", _method(), "", "forwarding"),
        acts(RARE, "uthreshold", integer(0, UINT32), "", "most connections"),
        acts(RARE, "lthreshold", integer(0, UINT32), "", "least connections"),
        acts(CORE, "inhibit_on_failure", switch(), "", "weight 0 instead of removal"),
        acts(RARE, "removal_delay", seconds(0, _MAX_NS), "", "failed: weight 0 for so long, then removed", ours=True),
        acts(COMMON, "notify_up", script(), "", "on up"),
        acts(COMMON, "notify_down", script(), "", "on down"),
        acts(COMMON, "alpha", switch(), "", "down until the first success"),
        acts(COMMON, "retry", integer(0, UINT32), "", "extra tries"),
        acts(COMMON, "delay_before_retry", seconds(0, _MAX_NS), "", "time between tries"),
        acts(COMMON, "warmup", seconds(0, _MAX_NS), "", "random start delay"),
        acts(COMMON, "connect_timeout", seconds(1_000, _MAX_NS), "", "default 5"),
        acts(COMMON, "delay_loop", seconds(1_000, _MAX_NS), "", "period"),
        acts(COMMON, "virtualhost", word("HOST"), "", "Host:"),
        acts(COMMON, "smtp_alert", switch(), "", "mail"),
        acts(RARE, "snmp_name", word(), "", "its name in SNMP"),
        *(
            acts(_FREQUENT.get(name, COMMON), name, _checker(table), "", "health check", accumulates=True)
            for table in CHECKERS
            for name in (table.name.rpartition("/")[2],)
        ),
    ),
)


def _real_server() -> Value:
    def read(reading: Reading, statement: Statement) -> object:
        collected = read_block(reading, REAL_SERVER, statement.block or ())
        if not statement.arguments:
            return reading.error(statement, "real_server has no address", "write: real_server ADDRESS [PORT] {", "missing-value")
        remark_extra(reading, statement, 2)
        target = _address_port(reading, statement.arguments, "real_server")
        if isinstance(target, Rejected):
            return REJECTED
        checkers = tuple(
            part for value in collected.by_keyword.values() if isinstance(value, tuple) for part in value if isinstance(part, Checker)
        )
        return (RealServer(target[0], target[1], _settings(collected), checkers, statement.position),)

    return Value("ADDRESS [PORT] { … }", read, takes_block=True, optional_block=True)


VIRTUAL_SERVER = Table(
    "virtual_server",
    (
        acts(CORE, "delay_loop", seconds(1_000, _MAX_NS), "", "time between probes (60)"),
        acts(CORE, "lb_algo", choice({name: name for name in SCHEDULERS}), "", "scheduler"),
        acts(COMMON, "lvs_sched", choice({name: name for name in SCHEDULERS}), "", "scheduler (wlc)"),
        acts(CORE, "lb_kind", _method(), "", "forwarding"),
        acts(COMMON, "lvs_method", _method(), "", "forwarding (NAT)"),
        acts(CORE, "protocol", choice({"TCP": "TCP", "UDP": "UDP", "SCTP": "SCTP"}, ignore_case=True), "", "missing: UDP"),
        acts(CORE, "persistence_timeout", skipped_below(1, 2_678_400, missing=360), "", "seconds"),
        acts(COMMON, "persistence_granularity", _granularity(), "", "netmask"),
        acts(RARE, "persistence_engine", word("sip", 16), "", "engine"),
        acts(COMMON, "ops", flag(), "", "one-packet scheduling, UDP only"),
        moot(RARE, "hashed", flag(), "the kernel takes no notice"),
        acts(RARE, "flag-1", flag(), "", "scheduler flag"),
        acts(RARE, "flag-2", flag(), "", "scheduler flag"),
        acts(RARE, "flag-3", flag(), "", "scheduler flag"),
        acts(COMMON, "sh-port", flag(), "", "scheduler flag"),
        acts(COMMON, "sh-fallback", flag(), "", "scheduler flag"),
        acts(COMMON, "mh-port", flag(), "", "scheduler flag"),
        acts(COMMON, "mh-fallback", flag(), "", "scheduler flag"),
        acts(RARE, "ip_family", choice({"inet": Family.IPV4, "inet6": Family.IPV6}), "", "for fwmark with TUN"),
        acts(COMMON, "ha_suspend", flag(), "", "no probes while the address is not local"),
        acts(COMMON, "virtualhost", word("HOST"), "", "Host:"),
        acts(COMMON, "alpha", switch(), "", "down until the first success"),
        acts(COMMON, "omega", flag(), "", "down notifiers at shutdown"),
        acts(COMMON, "quorum", lenient_integer(1, UINT32, 1), "", "least live weight (1)"),
        acts(COMMON, "hysteresis", integer(0, UINT32), "", "dead band (0)"),
        acts(COMMON, "quorum_up", script(), "", "script"),
        acts(COMMON, "quorum_down", script(), "", "script"),
        acts(RARE, "weight", integer(0, _INT32), "", "default weight of real servers"),
        acts(COMMON, "inhibit_on_failure", switch(), "", "weight 0 instead of removal"),
        acts(RARE, "removal_delay", seconds(0, _MAX_NS), "", "failed servers: weight 0 for so long, then removed", ours=True),
        acts(RARE, "only_while_master", word("INSTANCE"), "", "in IPVS only while this vrrp_instance is MASTER", ours=True),
        acts(
            RARE,
            "quorum_lowers_priority",
            _lowered_priority(),
            "",
            "while the quorum is lost the vrrp_instance has so much less priority",
            ours=True,
            accumulates=True,
        ),
        acts(COMMON, "retry", integer(0, UINT32), "", "extra tries"),
        acts(COMMON, "delay_before_retry", seconds(0, _MAX_NS), "", "time between tries"),
        acts(COMMON, "connect_timeout", seconds(1_000, _MAX_NS), "", "default 5"),
        acts(COMMON, "warmup", seconds(0, _MAX_NS), "", "random start delay"),
        acts(COMMON, "smtp_alert", switch(), "", "mail"),
        acts(RARE, "snmp_name", word(), "", "its name in SNMP"),
        acts(CORE, "sorry_server", _sorry_server(), "", "used when the quorum is lost"),
        acts(RARE, "sorry_server_inhibit", switch(), "", "inhibit for the sorry server"),
        acts(RARE, "sorry_server_lvs_method", _method(), "", "forwarding to the sorry server"),
        acts(CORE, "real_server", _real_server(), "", "a server behind the service", accumulates=True),
    ),
)

SSL = Table(
    "SSL",
    (
        acts(RARE, "password", word("PASSWORD"), "password", "of the key"),
        acts(RARE, "ca", word("PATH", 4096), "ca", "CA file"),
        acts(RARE, "certificate", word("PATH", 4096), "certificate", "certificate file"),
        acts(RARE, "key", word("PATH", 4096), "key", "key file"),
    ),
)


def virtual_server() -> Value:
    """``ADDRESS [PORT] { }``, ``fwmark N { }`` or ``group NAME { }`` as a tuple of one VirtualServer."""
    return Value("ADDRESS [PORT] | fwmark N | group NAME { … }", _read_virtual_server, takes_block=True)


def _read_virtual_server(reading: Reading, statement: Statement) -> object:
    collected = read_block(reading, VIRTUAL_SERVER, statement.block or ())
    given = statement.arguments
    syntax = "write: virtual_server ADDRESS [PORT] {, virtual_server fwmark N { or virtual_server group NAME {"
    if not given or (given[0].text == "group" and len(given) < 2):
        return reading.error(statement, "virtual_server has no address", syntax, "missing-value")
    listen: ServiceAddress | Rejected | None = None
    group = ""
    if given[0].text == "fwmark":
        listen = _fwmark(reading, given[1:], statement)
    elif given[0].text == "group":
        group = given[1].text
    else:
        target = _address_port(reading, given, "virtual_server")
        listen = REJECTED if isinstance(target, Rejected) else ServiceAddress(target[0], None, target[1], position=statement.position)
        remark_extra(reading, statement, 2)
    if isinstance(listen, Rejected):
        return REJECTED
    real_servers = tuple(
        part for value in collected.by_keyword.values() if isinstance(value, tuple) for part in value if isinstance(part, RealServer)
    )
    return (VirtualServer(listen, group, _settings(collected), real_servers, statement.position),)


def virtual_server_group() -> Value:
    """``NAME { lines }`` as a tuple of one VirtualServerGroup."""
    lines = line_list("ADDRESS [PORT]", _range)

    def read(reading: Reading, statement: Statement) -> object:
        if not statement.arguments:
            return reading.error(statement, "virtual_server_group has no name", "write: virtual_server_group NAME {", "missing-value")
        members = lines.read(reading, Statement(statement.words[:1], statement.block, statement.via))
        assert isinstance(members, tuple)
        return (VirtualServerGroup(statement.arguments[0].text, members, statement.position),)

    return Value("NAME { ADDRESS [PORT] … }", read, takes_block=True)
