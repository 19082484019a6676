"""global_defs and the daemon-wide keywords of the top level."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from base.core import NS_PER_S
from base.diagnostics import Position
from vrrp.config.model.common import NOWHERE, IpAddress, ScriptCommand
from vrrp.config.model.instance import DEFAULT_GARP, GarpSettings

MULTICAST_GROUP4 = IPv4Address("224.0.0.18")
MULTICAST_GROUP6 = IPv6Address("ff02::12")


@dataclass(frozen=True, slots=True)
class MailSettings:
    """Where and when mail goes. ``server`` "" = no mail. ``alert*`` None = the default of the object concerned."""

    recipients: tuple[str, ...] = ()
    sender: str = ""
    server: str = ""
    port: int = 25
    helo_name: str = ""
    connect_timeout_ns: int = 30 * NS_PER_S
    alert: bool | None = None
    alert_vrrp: bool | None = None
    alert_checker: bool | None = None
    no_faults: bool = False
    no_checker: bool = False


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """Scheduling of one child process. ``nice`` None and ``rt_priority`` 0 = unchanged. ``rlimit_rttime_us``: CPU time
    between blocking calls.
    """

    name: str = ""
    nice: int | None = None
    no_swap: bool = False
    rt_priority: int = 0
    cpus: tuple[int, ...] = ()
    rlimit_rttime_us: int = 10_000


@dataclass(frozen=True, slots=True)
class FirewallSettings:
    """nftables or iptables for no_accept and VMAC. ``nft_table`` "" = not asked for."""

    nft_table: str = ""
    nft_priority: int = -1
    nft_counters: bool = False
    nft_ifindex: bool = False
    nft_ipvs_table: str = ""
    nft_ipvs_priority: int = -1
    nft_ipvs_start_fwmark: int = 1000
    iptables_in: str = ""
    iptables_out: str = ""
    ipsets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class NotifyFifo:
    """A FIFO for events and the script that reads it. ``path`` "" = none."""

    path: str = ""
    user: str = ""
    group: str = ""
    script: ScriptCommand | None = None


@dataclass(frozen=True, slots=True)
class SnmpSettings:
    """AgentX. Intervals are of the statistics caches."""

    vrrp: bool = False
    checker: bool = False
    rfc_v2: bool = False
    rfc_v3: bool = False
    traps: bool = False
    socket: str = ""
    virtual_server_interval_ns: int = 5 * NS_PER_S
    real_server_interval_ns: int = 5 * NS_PER_S


@dataclass(frozen=True, slots=True)
class DbusSettings:
    """D-Bus export."""

    enabled: bool = False
    service_name: str = "org.keepalived.Vrrp1"
    no_interface_name: bool = False


@dataclass(frozen=True, slots=True)
class SyncDaemon:
    """``lvs_sync_daemon``: IPVS connection synchronisation. ``instance`` "" = both daemons run all the time."""

    interface: str
    instance: str = ""
    sync_id: int | None = None
    max_length: int = 0
    port: int = 8848
    ttl: int = 1
    group: IpAddress | None = None


class FlushOnStop(Enum):
    """``lvs_flush_on_stop``."""

    NO = "no"
    ALL = "all"
    VIRTUAL_SERVERS = "VS"


@dataclass(frozen=True, slots=True)
class LvsSettings:
    """IPVS-wide settings. Timeouts in seconds, None = unchanged. ``only_while_master``: the VRRP instance that all services follow."""

    sync_daemon: SyncDaemon | None = None
    tcp_timeout_s: int | None = None
    tcpfin_timeout_s: int | None = None
    udp_timeout_s: int | None = None
    flush: bool = False
    flush_on_stop: FlushOnStop = FlushOnStop.NO
    log_all_failures: bool = False
    init_notifies: bool = False
    only_while_master: str = ""


@dataclass(frozen=True, slots=True)
class ReceiveBuffer:
    """Size of a netlink receive buffer. 0 = the system's default. ``force``: SO_RCVBUFFORCE."""

    size: int = 0
    force: bool = False


@dataclass(frozen=True, slots=True)
class BufferSettings:
    """Receive buffers. ``vrrp_policy``: "", MTU, ADVERT or a number of bytes."""

    vrrp_command: ReceiveBuffer = ReceiveBuffer()
    vrrp_monitor: ReceiveBuffer = ReceiveBuffer()
    lvs_command: ReceiveBuffer = ReceiveBuffer()
    lvs_monitor: ReceiveBuffer = ReceiveBuffer()
    process_monitor: ReceiveBuffer = ReceiveBuffer()
    vrrp_policy: str = ""
    vrrp_multiplier: int = 3


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """How a reload happens. ``marker_file`` None = none, "" = the default name."""

    check: bool = False
    check_log: str = ""
    time_file: str = ""
    repeat: bool = False
    marker_file: str | None = None


@dataclass(frozen=True, slots=True)
class StartStopScript:
    """``startup_script`` / ``shutdown_script`` and how long it may take."""

    command: ScriptCommand | None = None
    timeout_ns: int = 10 * NS_PER_S


@dataclass(frozen=True, slots=True)
class VrrpDefaults:
    """What instances inherit. ``version`` applies to IPv4; IPv6 instances are always 3."""

    version: int = 2
    multicast_group4: IPv4Address = MULTICAST_GROUP4
    multicast_group6: IPv6Address = MULTICAST_GROUP6
    strict: bool = False
    skip_check_adv_addr: bool = False
    check_unicast_source: bool = True
    lower_prio_no_advert: bool = False
    higher_prio_send_advert: bool = False
    owner_ignore_adverts: bool = False
    v3_checksum_as_v2: bool = False
    down_timer_adverts: int = 3
    min_garp: bool = False
    garp_interval_ns: int = 0
    gna_interval_ns: int = 0
    garp: GarpSettings = DEFAULT_GARP
    startup_delay_ns: int = 0
    delay_after_boot_ns: int = 0
    log_unknown_vrids: bool = False
    notify_priority_changes: bool = False
    vmac_prefix: str = "vrrp"
    vmac_address_prefix: str = ""


@dataclass(frozen=True, slots=True)
class GlobalDefs:
    """The whole of global_defs. ``router_id`` and ``mail.sender`` "" = made from the host name by the daemon.

    ``umask`` None = the daemon's default. ``max_auto_priority``: 0 = off, -1 = off and silent.
    """

    router_id: str = ""
    mail: MailSettings = MailSettings()
    vrrp: VrrpDefaults = VrrpDefaults()
    script_user: str = ""
    script_user_position: Position = field(default=NOWHERE, compare=False)
    script_group: str = ""
    script_security: bool = False
    symlink_paths: bool = True
    supplementary_groups: bool = False
    startup_script: StartStopScript = StartStopScript()
    shutdown_script: StartStopScript = StartStopScript()
    process_name: str = ""
    default_process_names: bool = False
    vrrp_process: ProcessSettings = ProcessSettings()
    checker_process: ProcessSettings = ProcessSettings()
    bfd_process: ProcessSettings = ProcessSettings()
    max_auto_priority: int = 0
    min_auto_priority_delay_us: int = 1_000_000
    default_interface: str = "eth0"
    dynamic_interfaces: bool = False
    allow_interface_changes: bool = False
    lvs: LvsSettings = LvsSettings()
    firewall: FirewallSettings = FirewallSettings()
    disable_local_igmp: bool = False
    fifo: NotifyFifo = NotifyFifo()
    vrrp_fifo: NotifyFifo = NotifyFifo()
    lvs_fifo: NotifyFifo = NotifyFifo()
    fifo_write_states_on_reload: bool = False
    snmp: SnmpSettings = SnmpSettings()
    dbus: DbusSettings = DbusSettings()
    buffers: BufferSettings = BufferSettings()
    umask: int | None = None
    random_seed: int | None = None
    reload: ReloadSettings = ReloadSettings()
    config_save_dir: str = ""
    data_use_instance: bool = False
    state_dump_file: str = ""
    stats_dump_file: str = ""
    json_dump_file: str = ""
    json_version: int = 1
    iproute_usr_dir: str = ""
    iproute_etc_dir: str = ""


DEFAULT_GLOBALS = GlobalDefs()


class LinkbeatMethod(Enum):
    """How a link is polled; DEFAULT tries MII, ETHTOOL, IOCTL in this order."""

    DEFAULT = ""
    MII = "MII"
    ETHTOOL = "ETHTOOL"
    IOCTL = "IOCTL"


@dataclass(frozen=True, slots=True)
class LinkbeatInterface:
    """One line of linkbeat_interfaces."""

    interface: str
    method: LinkbeatMethod = LinkbeatMethod.DEFAULT


@dataclass(frozen=True, slots=True)
class InterfaceDelay:
    """One line of interface_up_down_delays: how long a change of the link must last before it counts."""

    interface: str
    down_ns: int
    up_ns: int


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Keywords of the top level that are no blocks of their own. None of them changes on reload.

    ``net_namespace_ipvs``: where IPVS is set; "" = the first namespace, None = where vrrpd runs.
    """

    net_namespace: str = ""
    net_namespace_ipvs: str | None = None
    instance: str = ""
    use_pid_dir: bool = False
    child_wait_ns: int = 5 * NS_PER_S
    linkbeat_polling: bool = False
    linkbeat_interfaces: tuple[LinkbeatInterface, ...] = ()
    interface_delays: tuple[InterfaceDelay, ...] = ()


DEFAULT_DAEMON = DaemonSettings()


@dataclass(frozen=True, slots=True)
class SslSettings:
    """``SSL { }``: the client's key material of SSL_GET."""

    password: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = ""
