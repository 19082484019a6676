"""From the blocks of keepalived.conf (vrrp.config.model.services) to resolved settings.

What keepalived quietly repairs (a quorum that cannot be reached, a port that direct routing cannot change) is repaired
here too, with a warning at its place. What cannot work is an error at its place.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dns.exception
import dns.name

from base.core import NS_PER_S
from base.diagnostics import Diagnostics, Position
from vrrp.config.model.common import Family, IpAddress, ScriptCommand
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.daemon import SslSettings
from vrrp.config.model.services import (
    Checker,
    RealServer,
    ServiceAddress,
    Settings,
    VirtualServer,
    VirtualServerGroup,
    lowered_priorities,
)
from vrrp.lvs.checkers.pattern import UnusablePattern, compile_pattern
from vrrp.lvs.model.settings import (
    BfdProbe,
    BodyPattern,
    CheckerSettings,
    Connection,
    DnsProbe,
    FileProbe,
    Forwarding,
    HttpProbe,
    Listen,
    MarkedRange,
    Method,
    MiscProbe,
    PingProbe,
    Probe,
    RealServerSettings,
    SmtpProbe,
    SorryServer,
    TcpProbe,
    Timing,
    TlsSettings,
    Transport,
    TunnelChecksum,
    TunnelType,
    UdpProbe,
    Url,
    VirtualServerSettings,
)
from vrrp.lvs.naming import mark_family, service_id, transport_of, transport_word

DELAY_LOOP_NS = 60 * NS_PER_S
CONNECT_TIMEOUT_NS = 5 * NS_PER_S
RETRY = {"MISC_CHECK": 0, "DNS_CHECK": 3}
RETRY_DEFAULT = 1
DEFAULT_STATUS_CODES = ((200, 299),)
DEFAULT_HELO_NAME = "smtpchecker.keepalived.org"
SLOW_RETRY_NS = 3 * NS_PER_S
MAX_GROUP_SERVICES = 65_536
_FLAG_BITS = {"flag-1": 1, "flag-2": 2, "flag-3": 4, "sh-fallback": 1, "sh-port": 2, "mh-fallback": 1, "mh-port": 2}


@dataclass(slots=True)
class Converter:
    """Converts one configuration."""

    config: VrrpConfig
    diagnostics: Diagnostics
    marks: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self.marks = itertools.count(self.config.global_defs.firewall.nft_ipvs_start_fwmark)

    def convert(self) -> tuple[VirtualServerSettings, ...]:
        """All virtual servers that can work. As keepalived: one without a real server is left out, even if it has a sorry server."""
        found: dict[str, VirtualServerSettings] = {}
        for server in self.config.virtual_servers:
            if not server.real_servers:
                continue
            settings = self._virtual_server(server)
            if settings is None:
                continue
            if settings.id in found:
                line = found[settings.id].position.line
                message = f"virtual_server {settings.id} is already there (line {line})"
                self.diagnostics.error(server.position, message, "remove one of them", "duplicate")
                continue
            found[settings.id] = settings
        return tuple(found.values())

    # ---- virtual server -------------------------------------------------------------------------------------------

    def _virtual_server(self, server: VirtualServer) -> VirtualServerSettings | None:
        own = server.settings
        listen = self._listen(server)
        if not listen:
            return None
        transport = transport_of(server, self.config.virtual_server_groups)
        identity = service_id(server, transport, listen[0].family)
        reals = self._real_servers(server, listen, transport)
        quorum, hysteresis = self._quorum(server, reals)
        self._check_lowered(server)
        marked = self._marked(server)
        return VirtualServerSettings(
            id=identity,
            listen=tuple(dict.fromkeys(Listen(entry.family, None, 0, marked[0].mark) for entry in listen)) if marked else listen,
            transport=transport,
            marked=marked,
            scheduler=_text(own, "lb_algo", "lvs_sched", default="wlc"),
            scheduler_flags=self._flags(own),
            one_packet="ops" in own and self._one_packet(server, transport),
            persistence_timeout_s=_integer(own, "persistence_timeout", 0),
            persistence_prefix=_optional_integer(own, "persistence_granularity"),
            persistence_engine=_text(own, "persistence_engine"),
            real_servers=reals,
            sorry_server=self._sorry_server(server, listen),
            quorum=quorum,
            hysteresis=hysteresis,
            quorum_up=_script(own, "quorum_up"),
            quorum_down=_script(own, "quorum_down"),
            omega="omega" in own,
            ha_suspend="ha_suspend" in own and not listen[0].fwmark,
            smtp_alert=self._alert(own, False),
            init_notifies=self.config.global_defs.lvs.init_notifies,
            only_while_master=self._gate(server, identity),
            position=server.position,
        )

    def _gate(self, server: VirtualServer, identity: str) -> str:
        name = _text(server.settings, "only_while_master", default=self.config.global_defs.lvs.only_while_master)
        if name and self.config.instance(name) is None:
            message = f"virtual_server {identity} follows the VRRP instance {name}, which is not configured"
            self.diagnostics.error(server.position, message, "name an existing vrrp_instance", "reference")
        return name

    def _check_lowered(self, server: VirtualServer) -> None:
        """The names behind ``quorum_lowers_priority``."""
        for lowered in lowered_priorities(server):
            if self.config.instance(lowered.instance) is None:
                message = f"virtual_server {server} lowers the priority of {lowered.instance}, which is not configured"
                self.diagnostics.error(server.position, message, "name an existing vrrp_instance", "reference")

    def _listen(self, server: VirtualServer) -> tuple[Listen, ...]:
        if server.listen is not None:
            return (_listen_entry(server.listen, server.listen.address, mark_family(server)),)
        group = next((g for g in self.config.virtual_server_groups if g.name == server.group), None)
        if group is None:
            self.diagnostics.error(
                server.position,
                f"virtual_server names the unknown group {server.group}",
                f"define it with: virtual_server_group {server.group} {{",
                "reference",
            )
            return ()
        entries: list[Listen] = []
        marks = self._by_marks(group)
        for member in group.members:
            size = 1 if marks or member.last is None or member.address is None else int(member.last) - int(member.address) + 1
            if len(entries) + size > MAX_GROUP_SERVICES:
                message = f"virtual_server_group {group.name} has more than {MAX_GROUP_SERVICES} addresses"
                self.diagnostics.error(member.position, message, "use a firewall mark for large networks, or nftables_ipvs", "range")
                return ()
            for offset in range(size):
                address = None if member.address is None else member.address + offset
                entries.append(_listen_entry(member, address, mark_family(server)))
        if not entries:
            self.diagnostics.error(server.position, f"virtual_server_group {group.name} is empty", "add an address", "missing-value")
        return tuple(dict.fromkeys(entries))

    def _marked(self, server: VirtualServer) -> tuple[MarkedRange, ...]:
        """The addresses of the group, by a mark of our own, if ``nftables_ipvs`` is asked for. A group with marks stays as it is, as in
        keepalived."""
        group = next((g for g in self.config.virtual_server_groups if g.name == server.group), None)
        if group is None or not self._by_marks(group):
            return ()
        mark = self._free_mark()
        found = [(member.address, member.last or member.address, member.port) for member in group.members]
        return tuple(MarkedRange(mark, first, last, port) for first, last, port in found if first is not None and last is not None)

    def _by_marks(self, group: VirtualServerGroup) -> bool:
        return bool(self.config.global_defs.firewall.nft_ipvs_table) and not any(member.fwmark for member in group.members)

    def _free_mark(self) -> int:
        """The next one that the file does not use itself."""
        alone = {server.listen.fwmark for server in self.config.virtual_servers if server.listen is not None}
        taken = alone | {member.fwmark for group in self.config.virtual_server_groups for member in group.members}
        return next(mark for mark in self.marks if mark not in taken)

    def _flags(self, own: Settings) -> int:
        bits = 0
        for name, bit in _FLAG_BITS.items():
            if name in own:
                bits |= bit
        return bits

    def _one_packet(self, server: VirtualServer, transport: Transport) -> bool:
        if transport in (Transport.UDP, Transport.NONE):
            return True
        self.diagnostics.warning(server.position, "ops only works with UDP", "remove ops, or set protocol UDP", "service")
        return False

    def _quorum(self, server: VirtualServer, reals: tuple[RealServerSettings, ...]) -> tuple[int, int]:
        quorum = _integer(server.settings, "quorum", 1)
        hysteresis = _integer(server.settings, "hysteresis", 0)
        total = sum(real.weight for real in reals)
        if reals and total and quorum > total:  # also where a checker may raise a weight: keepalived 2.2.7 counts the configured ones
            message = f"quorum {quorum} can never be reached: all weights together are {total}; {total} is used"
            self.diagnostics.warning(server.position, message, f"write quorum {total} or less", "service")
            quorum = total
        if hysteresis >= quorum:
            message = f"hysteresis {hysteresis} is not below the quorum {quorum}; {quorum - 1} is used"
            self.diagnostics.warning(server.position, message, f"write hysteresis {quorum - 1} or less", "service")
            hysteresis = quorum - 1
        return quorum, hysteresis

    def _sorry_server(self, server: VirtualServer, listen: Sequence[Listen]) -> SorryServer | None:
        given = server.settings.get("sorry_server")
        if not isinstance(given, ServiceAddress) or given.address is None:
            return None
        default = _forwarding(server.settings, "lb_kind", "lvs_method", default=Forwarding())
        forwarding = _forwarding(server.settings, "sorry_server_lvs_method", default=default)
        self._check_family(listen, given.address, forwarding, given.position, "sorry_server")
        port = given.port if forwarding.method is Method.NAT else 0
        return SorryServer(given.address, port, forwarding, _boolean(server.settings, "sorry_server_inhibit", False))

    def _alert(self, own: Settings, default: bool) -> bool:
        mail = self.config.global_defs.mail
        general = mail.alert_checker if mail.alert_checker is not None else mail.alert
        return _boolean(own, "smtp_alert", default if general is None else general)

    def _check_family(self, listen: Sequence[Listen], address: IpAddress, forwarding: Forwarding, position: Position, what: str) -> None:
        """Of every member of a group: the kernel refuses an IPv4 server behind an IPv6 address, again and again."""
        other = next((entry for entry in listen if int(entry.family) != address.version), None)
        if forwarding.method is not Method.TUNNEL and other is not None:
            where = "its virtual_server" if len(listen) == 1 else f"the {other.address or 'mark'} of its virtual_server"
            message = f"{what} {address} is not IPv{int(other.family)} like {where}; {forwarding.method.value} cannot change that"
            self.diagnostics.error(position, message, "use one family, or tunnels (lb_kind TUN)", "service")

    # ---- real server ----------------------------------------------------------------------------------------------

    def _real_servers(self, server: VirtualServer, listen: Sequence[Listen], transport: Transport) -> tuple[RealServerSettings, ...]:
        found: dict[str, RealServerSettings] = {}
        for real in server.real_servers:
            settings = self._real_server(server, real, listen, transport)
            if settings.id in found:
                message = f"real_server {settings.id} is listed twice (first in line {found[settings.id].position.line})"
                self.diagnostics.warning(real.position, message, "remove one of them", "service")
                continue
            found[settings.id] = settings
        return tuple(found.values())

    def _real_server(self, server: VirtualServer, real: RealServer, listen: Sequence[Listen], transport: Transport) -> RealServerSettings:
        own, above = real.settings, server.settings
        default = _forwarding(above, "lb_kind", "lvs_method", default=Forwarding())
        forwarding = _forwarding(own, "lvs_method", default=default)
        self._check_family(listen, real.address, forwarding, real.position, "real_server")
        port = real.port if forwarding.method is Method.NAT else 0
        upper, lower = _integer(own, "uthreshold", 0), _integer(own, "lthreshold", 0)
        if upper and lower > upper:
            message = f"lthreshold {lower} is above uthreshold {upper}: the server would never come back"
            self.diagnostics.error(real.position, message, f"write lthreshold {upper} or less", "range")
        return RealServerSettings(
            id=f"[{real.address}]:{transport_word(transport)}:{port or listen[0].port}",
            address=real.address,
            port=port,
            weight=_integer(own, "weight", _integer(above, "weight", 1)),
            forwarding=forwarding,
            upper_threshold=upper,
            lower_threshold=lower,
            inhibit_on_failure=_boolean(own, "inhibit_on_failure", _boolean(above, "inhibit_on_failure", False)),
            removal_delay_ns=_first_integer((own, above), "removal_delay", 0),
            notify_up=_script(own, "notify_up"),
            notify_down=_script(own, "notify_down"),
            smtp_alert=self._alert(own, True),
            mail_each_checker=not self.config.global_defs.mail.no_checker,
            checkers=self._checkers(server, real, real.port or listen[0].port),
            position=real.position,
        )

    # ---- checkers -------------------------------------------------------------------------------------------------

    def _checkers(self, server: VirtualServer, real: RealServer, port: int) -> tuple[CheckerSettings, ...]:
        found: list[CheckerSettings] = []
        taken: dict[str, int] = {}
        for checker in real.checkers:
            for probe, settings in self._probes(server, real, checker, port):
                name = f"{checker.kind}({_target(probe)})"
                taken[name] = taken.get(name, 0) + 1
                identity = name if taken[name] == 1 else f"{name}#{taken[name]}"
                timing = _timing(checker.kind, (settings, real.settings, server.settings), self.config.global_defs.lvs.log_all_failures)
                found.append(CheckerSettings(identity, probe, timing, checker.position))
        return tuple(found)

    def _probes(self, server: VirtualServer, real: RealServer, checker: Checker, port: int) -> list[tuple[Probe, Settings]]:
        own = checker.settings
        if checker.kind == "SMTP_CHECK" and checker.blocks:
            helo = _text(own, "helo_name", default=DEFAULT_HELO_NAME)
            probes: list[tuple[Probe, Settings]] = []
            for _, block in checker.blocks:
                merged = Settings((*own.items, *block.items))
                connection = self._connection(server, real, checker, merged, port)
                if connection is not None:
                    probes.append((SmtpProbe(connection, helo), merged))
            return probes
        probe = self._probe(server, real, checker, port)
        return [] if probe is None else [(probe, own)]

    def _probe(self, server: VirtualServer, real: RealServer, checker: Checker, port: int) -> Probe | None:
        own = checker.settings
        if checker.kind == "MISC_CHECK":
            return self._misc(server, real, checker)
        if checker.kind == "FILE_CHECK":
            return self._file(checker)
        if checker.kind == "BFD_CHECK":
            return self._bfd(checker)
        connection = self._connection(server, real, checker, own, port)
        if connection is None:
            return None
        if checker.kind in ("HTTP_GET", "SSL_GET"):
            return self._http(server, real, checker, connection)
        if checker.kind == "TCP_CHECK":
            return TcpProbe(connection)
        if checker.kind == "SMTP_CHECK":
            return SmtpProbe(connection, _text(own, "helo_name", default=DEFAULT_HELO_NAME))
        if checker.kind == "DNS_CHECK":
            return self._dns(checker, connection)
        if checker.kind == "PING_CHECK":
            return PingProbe(connection)
        assert checker.kind == "UDP_CHECK", f"the reader knows no checker {checker.kind}"
        return self._udp(checker, connection)

    def _connection(self, server: VirtualServer, real: RealServer, checker: Checker, own: Settings, port: int) -> Connection | None:
        address = own.get("connect_ip", real.address)
        assert isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
        bind = own.get("bindto")
        if isinstance(bind, ipaddress.IPv4Address | ipaddress.IPv6Address) and bind.version != address.version:
            message = f"bindto {bind} and the probed address {address} are of different families"
            self.diagnostics.error(checker.position, message, f"write an IPv{address.version} address", "service")
            return None
        target = _integer(own, "connect_port", port)
        if not target and checker.kind != "PING_CHECK":
            message = f"{checker.kind} of real_server {real.address} has no port to connect to"
            self.diagnostics.error(checker.position, message, "add: connect_port PORT", "missing-value")
            return None
        timeout = _first_integer((own, real.settings, server.settings), "connect_timeout", CONNECT_TIMEOUT_NS)
        return Connection(
            address=address,
            port=target,
            bind_address=bind if isinstance(bind, ipaddress.IPv4Address | ipaddress.IPv6Address) else None,
            bind_port=_integer(own, "bind_port", 0),
            bind_interface=_text(own, "bind_if"),
            fwmark=_integer(own, "fwmark", 0),
            timeout_ns=timeout,
        )

    def _http(self, server: VirtualServer, real: RealServer, checker: Checker, connection: Connection) -> HttpProbe | None:
        own = checker.settings
        inherited = _text(own, "virtualhost") or _text(real.settings, "virtualhost") or _text(server.settings, "virtualhost")
        urls = tuple(self._url(checker, block, inherited) for _, block in checker.blocks)
        if not urls:
            self.diagnostics.error(checker.position, f"{checker.kind} has no url", "add: url { path / }", "missing-value")
            return None
        tls = None
        if checker.kind == "SSL_GET":
            ssl = self.config.ssl or SslSettings()
            name = _text(own, "sni_name")
            if not name and _boolean(own, "enable_sni", False):
                name = inherited or next((url.host for url in urls if url.host), "")
            verify = _boolean(own, "verify_certificate", False)
            tls = TlsSettings(name, verify, ssl.ca, ssl.certificate, ssl.key, ssl.password)
        protocol = _text(own, "http_protocol", default="1.0")
        return HttpProbe(connection, urls, tls, protocol, _boolean(own, "fast_recovery", False))

    def _url(self, checker: Checker, block: Settings, inherited: str) -> Url:
        digest = block.get("digest")
        status_codes = block.get("status_code")
        pattern = None
        if "regex" in block:
            options = block.get("regex_options")
            pattern = BodyPattern(
                _text(block, "regex"),
                "regex_no_match" in block,
                options if isinstance(options, tuple) else (),
                _integer(block, "regex_min_offset", 0),
                _integer(block, "regex_max_offset", 0),
            )
            try:
                compile_pattern(pattern)
            except UnusablePattern as error:
                self.diagnostics.error(checker.position, str(error), error.remedy, "regex")
                pattern = None
        return Url(
            path=_text(block, "path", default="/"),
            host=_text(block, "virtualhost") or inherited,
            digest=digest if isinstance(digest, bytes) else b"",
            status_codes=status_codes if isinstance(status_codes, tuple) else DEFAULT_STATUS_CODES,
            pattern=pattern,
            close_notify=_boolean(block, "tls_compliant", _boolean(checker.settings, "tls_compliant", False)),
        )

    def _misc(self, server: VirtualServer, real: RealServer, checker: Checker) -> MiscProbe | None:
        own = checker.settings
        command = own.get("misc_path")
        if not isinstance(command, ScriptCommand):
            self.diagnostics.error(checker.position, "MISC_CHECK has no command", 'add: misc_path "/path/to/check"', "missing-value")
            return None
        account = own.get("user")
        user, group = command.user, command.group
        if isinstance(account, Mapping):
            user, group = str(account.get("user", "")), str(account.get("group", ""))
        defaults = self.config.global_defs
        if not user:
            user, group = defaults.script_user, defaults.script_group
        delay_loop = _first_integer((own, real.settings, server.settings), "delay_loop", DELAY_LOOP_NS)
        command = ScriptCommand(command.arguments, user, group, command.position, defaults.supplementary_groups)
        return MiscProbe(command, _integer(own, "misc_timeout", delay_loop), _boolean(own, "misc_dynamic", False))

    def _file(self, checker: Checker) -> FileProbe | None:
        name = _text(checker.settings, "track_file")
        tracked = next((file for file in self.config.track_files if file.name == name), None)
        if tracked is None:
            message = f"FILE_CHECK names the unknown track_file {name}"
            self.diagnostics.error(checker.position, message, f"define it with: track_file {name} {{", "reference")
            return None
        given = checker.settings.get("weight")
        if isinstance(given, Mapping):
            return FileProbe(name, tracked.path, int(given.get("weight", 1)), bool(given.get("reverse", False)))
        return FileProbe(name, tracked.path, tracked.weight, tracked.reverse)

    def _bfd(self, checker: Checker) -> BfdProbe | None:
        name = _text(checker.settings, "name")
        session = next((bfd for bfd in self.config.bfd_instances if bfd.name == name), None)
        if session is None or not session.for_checker:
            what = "the unknown bfd_instance" if session is None else "a bfd_instance that is only for VRRP:"
            message = f"BFD_CHECK names {what} {name}"
            remedy = f"define it with: bfd_instance {name} {{" if session is None else "remove 'vrrp' there, or add 'checker'"
            self.diagnostics.error(checker.position, message, remedy, "reference")
            return None
        return BfdProbe(name)

    def _dns(self, checker: Checker, connection: Connection) -> DnsProbe | None:
        name = _text(checker.settings, "name", default=".")
        try:
            dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError) as error:
            message = f"DNS_CHECK cannot ask for '{name}': {error}"
            self.diagnostics.error(checker.position, message, "write a domain name such as example.com", "value")
            return None
        return DnsProbe(connection, _text(checker.settings, "type", default="SOA"), name)

    def _udp(self, checker: Checker, connection: Connection) -> UdpProbe | None:
        own = checker.settings
        try:
            payload = bytes.fromhex(_whole_bytes(_text(own, "payload")))
            reply = reply_pattern(_text(own, "require_reply")) if "require_reply" in own else None
        except ValueError:
            message = "payload or require_reply of UDP_CHECK has half a byte"
            self.diagnostics.error(checker.position, message, "write two digits per byte, such as 0a 1b", "value")
            return None
        minimum, maximum = _integer(own, "min_reply_length", 0), _integer(own, "max_reply_length", 255)
        if minimum > maximum:
            message = f"min_reply_length {minimum} is above max_reply_length {maximum}"
            self.diagnostics.error(checker.position, message, "exchange them", "range")
            return None
        return UdpProbe(connection, payload, reply, minimum, maximum)


def virtual_servers(config: VrrpConfig, diagnostics: Diagnostics) -> tuple[VirtualServerSettings, ...]:
    """Resolve every virtual server of ``config``; findings go to ``diagnostics`` and what is unusable is left out."""
    return Converter(config, diagnostics).convert()


def _whole_bytes(text: str) -> str:
    """Digits without spaces; a digit that stands alone is a byte (``X``: any), as keepalived lets pass."""
    return "".join({"x": "XX"}.get(word.lower(), f"0{word}") if len(word) == 1 else word for word in text.split())


def reply_pattern(text: str) -> tuple[bytes, bytes]:
    """``require_reply`` as (value, mask): ``X`` is any half byte. Raises ValueError for half a byte."""
    digits = _whole_bytes(text).lower()
    if len(digits) % 2:
        raise ValueError("odd number of digits")
    value = bytes.fromhex(digits.replace("x", "0"))
    mask = bytes.fromhex("".join("0" if digit == "x" else "f" for digit in digits))
    return value, mask


def _listen_entry(given: ServiceAddress, address: IpAddress | None, mark_family: Family) -> Listen:
    if address is None:
        return Listen(given.family or mark_family, None, 0, given.fwmark)
    return Listen(Family(address.version), address, given.port, 0)


def _target(probe: Probe) -> str:
    if isinstance(probe, MiscProbe):
        return probe.command.path
    if isinstance(probe, FileProbe | BfdProbe):
        return probe.name
    return f"[{probe.connection.address}]:{probe.connection.port}"


def _timing(kind: str, levels: tuple[Settings, ...], log_all: bool) -> Timing:
    own = levels[0]
    delay_loop = _first_integer(levels, "delay_loop", DELAY_LOOP_NS)
    retry_ns = {"HTTP_GET": SLOW_RETRY_NS, "SSL_GET": SLOW_RETRY_NS, "DNS_CHECK": delay_loop}.get(kind, NS_PER_S)
    retry = own.get("retry", own.get("nb_get_retry"))
    if not isinstance(retry, int):
        retry = _first_integer(levels[1:], "retry", RETRY.get(kind, RETRY_DEFAULT))
    alpha = next((value for level in levels if isinstance(value := level.get("alpha"), bool)), False)
    return Timing(
        retry=retry,
        delay_before_retry_ns=_first_integer(levels, "delay_before_retry", retry_ns),
        delay_loop_ns=delay_loop,
        warmup_ns=_first_integer(levels, "warmup", delay_loop),
        alpha=alpha,
        log_all_failures=_boolean(own, "log_all_failures", log_all),
    )


def _forwarding(settings: Settings, *keywords: str, default: Forwarding) -> Forwarding:
    given = next((value for keyword in keywords if isinstance(value := settings.get(keyword), tuple)), None)
    if given is None:
        return default
    words = [str(item) for item in given]
    tunnel, port, checksum = TunnelType.IPIP, 0, TunnelChecksum.NONE
    if len(words) > 2:
        tunnel = TunnelType(words[2])
        if "port" in words[:-1]:
            port = int(words[words.index("port") + 1])
        checksum = next((kind for kind in TunnelChecksum if kind.value in words[3:]), TunnelChecksum.NONE)
    return Forwarding(Method(words[0]), tunnel, port, checksum)


def _text(settings: Settings, *keywords: str, default: str = "") -> str:
    return next((value for keyword in keywords if isinstance(value := settings.get(keyword), str)), default)


def _script(settings: Settings, keyword: str) -> ScriptCommand | None:
    value = settings.get(keyword)
    return value if isinstance(value, ScriptCommand) else None


def _boolean(settings: Settings, keyword: str, default: bool) -> bool:
    value = settings.get(keyword)
    return value if isinstance(value, bool) else default


def _optional_integer(settings: Settings, keyword: str) -> int | None:
    value = settings.get(keyword)
    return value if isinstance(value, int) else None


def _integer(settings: Settings, keyword: str, default: int) -> int:
    value = _optional_integer(settings, keyword)
    return default if value is None else value


def _first_integer(levels: tuple[Settings, ...], keyword: str, default: int) -> int:
    return next((value for level in levels if (value := _optional_integer(level, keyword)) is not None), default)
