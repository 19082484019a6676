"""Virtual servers, real servers and checkers with every default and every inheritance (VS -> RS -> checker) resolved.

These are values: two equal settings mean that a reload has nothing to do. Durations are nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import TypeAlias

from base.core import NS_PER_S
from base.diagnostics import Position
from vrrp.config.model.common import NOWHERE, Family, IpAddress, ScriptCommand


class Transport(IntEnum):
    """IP protocol number of a service. NONE: a firewall mark has none."""

    NONE = 0
    TCP = 6
    UDP = 17
    SCTP = 132


class Method(Enum):
    """How a packet gets to a real server."""

    NAT = "NAT"
    DIRECT = "DR"
    TUNNEL = "TUN"


class TunnelType(Enum):
    """Encapsulation of Method.TUNNEL."""

    IPIP = "ipip"
    GUE = "gue"
    GRE = "gre"


class TunnelChecksum(Enum):
    """Checksum of the GUE or GRE header."""

    NONE = "nocsum"
    FULL = "csum"
    REMOTE = "remcsum"


@dataclass(frozen=True, slots=True)
class Forwarding:
    """``lvs_method``. The tunnel fields only count for Method.TUNNEL; ``port`` only for GUE."""

    method: Method = Method.NAT
    tunnel: TunnelType = TunnelType.IPIP
    port: int = 0
    checksum: TunnelChecksum = TunnelChecksum.NONE


PLAIN_NAT = Forwarding()


@dataclass(frozen=True, slots=True)
class Timing:
    """When a checker probes. ``retry``: extra tries while up. ``warmup_ns``: the first probe comes within this time."""

    retry: int = 1
    delay_before_retry_ns: int = NS_PER_S
    delay_loop_ns: int = 60 * NS_PER_S
    warmup_ns: int = 60 * NS_PER_S
    alpha: bool = False
    log_all_failures: bool = False


DEFAULT_TIMING = Timing()


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a probe goes and from where it comes. ``timeout_ns`` bounds the connection and, again, what follows it."""

    address: IpAddress
    port: int
    bind_address: IpAddress | None = None
    bind_port: int = 0
    bind_interface: str = ""
    fwmark: int = 0
    timeout_ns: int = 5 * NS_PER_S


@dataclass(frozen=True, slots=True)
class BodyPattern:
    """``regex`` of a url. ``options``: PCRE2 names. Offsets in bytes; ``maximum`` 0 = no bound on where a match starts."""

    expression: str
    inverted: bool = False
    options: tuple[str, ...] = ()
    minimum_offset: int = 0
    maximum_offset: int = 0


@dataclass(frozen=True, slots=True)
class Url:
    """One ``url { }``. ``host``: for the Host header ("" = address and port). ``digest``: MD5 of the body or b"".

    ``close_notify``: end a TLS connection as RFC 8446 section 6.1 wants it (``tls_compliant``), not by a reset.
    """

    path: str
    host: str = ""
    digest: bytes = b""
    status_codes: tuple[tuple[int, int], ...] = ((200, 299),)
    pattern: BodyPattern | None = None
    close_notify: bool = False

    def accepts(self, status: int) -> bool:
        """Whether ``status`` is one of the wanted codes."""
        return any(low <= status <= high for low, high in self.status_codes)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """SSL_GET. ``verify`` is ours: keepalived never looks at the certificate. ``server_name`` "" = no SNI."""

    server_name: str = ""
    verify: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """TCP_CHECK."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """HTTP_GET (``tls`` None) and SSL_GET. ``protocol``: 1.0, 1.0C (with Connection: close) or 1.1."""

    connection: Connection
    urls: tuple[Url, ...]
    tls: TlsSettings | None = None
    protocol: str = "1.0"
    fast_recovery: bool = False


@dataclass(frozen=True, slots=True)
class SmtpProbe:
    """SMTP_CHECK."""

    connection: Connection
    helo_name: str = "smtpchecker.keepalived.org"


@dataclass(frozen=True, slots=True)
class DnsProbe:
    """DNS_CHECK: a query over UDP."""

    connection: Connection
    record_type: str = "SOA"
    name: str = "."


@dataclass(frozen=True, slots=True)
class UdpProbe:
    """UDP_CHECK. ``require_reply``: None = silence is good; else (value, mask) of the reply's first bytes, b"" = any."""

    connection: Connection
    payload: bytes = b""
    require_reply: tuple[bytes, bytes] | None = None
    min_reply_length: int = 0
    max_reply_length: int = 255


@dataclass(frozen=True, slots=True)
class PingProbe:
    """PING_CHECK: one echo."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class MiscProbe:
    """MISC_CHECK. ``dynamic``: exit status 2..255 sets the weight."""

    command: ScriptCommand
    timeout_ns: int
    dynamic: bool = False


@dataclass(frozen=True, slots=True)
class FileProbe:
    """FILE_CHECK: the number in a file times ``weight`` is added; with weight 0 a number other than 0 means down."""

    name: str
    path: str
    weight: int = 1
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class BfdProbe:
    """BFD_CHECK: follows a bfd_instance."""

    name: str


ActiveProbe: TypeAlias = "TcpProbe | HttpProbe | SmtpProbe | DnsProbe | UdpProbe | PingProbe | MiscProbe"
Probe: TypeAlias = "ActiveProbe | FileProbe | BfdProbe"


@dataclass(frozen=True, slots=True)
class CheckerSettings:
    """One checker. ``id``: unique in its real server, stable over a reload that does not touch it."""

    id: str
    probe: Probe
    timing: Timing = DEFAULT_TIMING
    position: Position = field(default=NOWHERE, compare=False)

    def asks_the_same_as(self, other: CheckerSettings) -> bool:
        """A reload keeps the answers of such a one. ``alpha`` only matters before the first of them."""
        return replace(self, timing=replace(self.timing, alpha=other.timing.alpha)) == other

    @property
    def steps(self) -> int:
        """How many probes must succeed to bring it up: the number of urls, else 1."""
        return len(self.probe.urls) if isinstance(self.probe, HttpProbe) else 1

    @property
    def fast_recovery(self) -> bool:
        """No pause between urls while coming up."""
        return isinstance(self.probe, HttpProbe) and self.probe.fast_recovery


@dataclass(frozen=True, slots=True)
class RealServerSettings:
    """One real server. ``id`` as keepalived writes it: ``[192.0.2.1]:tcp:80``. ``port`` 0 = that of the service.

    ``mail_each_checker``: mail on every change of a checker (keepalived without no_checker_emails), not only of the server.
    ``removal_delay_ns`` is ours: a failed server stays with weight 0 for this long, so that open connections may end.
    """

    id: str
    address: IpAddress
    port: int
    weight: int = 1
    forwarding: Forwarding = PLAIN_NAT
    upper_threshold: int = 0
    lower_threshold: int = 0
    inhibit_on_failure: bool = False
    removal_delay_ns: int = 0
    notify_up: ScriptCommand | None = None
    notify_down: ScriptCommand | None = None
    smtp_alert: bool = True
    mail_each_checker: bool = False
    checkers: tuple[CheckerSettings, ...] = ()
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class SorryServer:
    """``sorry_server``."""

    address: IpAddress
    port: int
    forwarding: Forwarding = PLAIN_NAT
    inhibit: bool = False


@dataclass(frozen=True, slots=True)
class Listen:
    """What a service matches: an address and port, or a firewall mark."""

    family: Family
    address: IpAddress | None = None
    port: int = 0
    fwmark: int = 0


@dataclass(frozen=True, slots=True)
class MarkedRange:
    """Addresses of a group whose packets nftables gives ``mark`` (``nftables_ipvs``). ``port`` 0 = every port."""

    mark: int
    first: IpAddress
    last: IpAddress
    port: int = 0


@dataclass(frozen=True, slots=True)
class VirtualServerSettings:
    """One virtual server. ``id`` as keepalived writes it: ``[192.0.2.9]:tcp:80``, ``FWM 5`` or the group's name.

    ``listen``: one entry per kernel service; a group has many, or few by mark, and then ``marked`` are its addresses.
    ``persistence_timeout_s`` 0 = no persistence. ``only_while_master``: the VRRP instance that gates the service, "" = always
    programmed. ``scheduler_flags``: bits of IP_VS_SVC_F_SCHED1..3 as 1, 2, 4.
    """

    id: str
    listen: tuple[Listen, ...]
    transport: Transport
    marked: tuple[MarkedRange, ...] = ()
    scheduler: str = "wlc"
    scheduler_flags: int = 0
    one_packet: bool = False
    persistence_timeout_s: int = 0
    persistence_prefix: int | None = None
    persistence_engine: str = ""
    real_servers: tuple[RealServerSettings, ...] = ()
    sorry_server: SorryServer | None = None
    quorum: int = 1
    hysteresis: int = 0
    quorum_up: ScriptCommand | None = None
    quorum_down: ScriptCommand | None = None
    omega: bool = False
    ha_suspend: bool = False
    smtp_alert: bool = False
    init_notifies: bool = False
    only_while_master: str = ""
    position: Position = field(default=NOWHERE, compare=False)

    @property
    def port(self) -> int:
        """The port of the first address; 0 = every port, or a mark."""
        return self.marked[0].port if self.marked else self.listen[0].port

    def real_server(self, identity: str) -> RealServerSettings | None:
        """The real server with this id."""
        return next((server for server in self.real_servers if server.id == identity), None)
