"""vrrp_instance, vrrp_sync_group, garp_group."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from base.core import NS_PER_S
from base.diagnostics import Position
from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.common import NO_NOTIFY, NOWHERE, Family, InitialState, IpAddress, NotifyCommands
from vrrp.config.model.routing import Route, Rule
from vrrp.config.model.tracking import NO_TRACKS, TrackSet

DEFAULT_PRIORITY = 100
OWNER_PRIORITY = 255


class AuthKind(Enum):
    """RFC 2338 authentication, VRRP version 2 only."""

    NONE = "none"
    PASS = "PASS"  # noqa: S105  the keyword, not a password
    AH = "AH"


@dataclass(frozen=True, slots=True)
class Authentication:
    """``authentication { }``. ``password``: at most 8 bytes, as they go on the wire before zero padding."""

    kind: AuthKind = AuthKind.NONE
    password: bytes = field(default=b"", repr=False)


class AntiReplay(Enum):
    """``auth_hmac { anti_replay … }``."""

    TIME = "time"
    MONOTONIC = "monotonic"


class HmacMode(Enum):
    """``auth_hmac { mode … }``: what happens to adverts without a valid trailer."""

    ENFORCE = "enforce"
    PERMISSIVE = "permissive"
    RECEIVE_ONLY = "receive-only"


@dataclass(frozen=True, slots=True)
class HmacKey:
    """One key of auth_hmac. ``secret`` is empty where ``file`` names the place that the daemon reads it from."""

    key_id: int
    secret: bytes = field(default=b"", repr=False)
    file: str = ""


@dataclass(frozen=True, slots=True)
class AuthHmac:
    """``auth_hmac { }`` (keepalived 2.4): HMAC-SHA256 trailer on every advert."""

    keys: tuple[HmacKey, ...]
    active_key: int
    anti_replay: AntiReplay = AntiReplay.TIME
    time_window_ns: int = 5 * NS_PER_S
    mode: HmacMode = HmacMode.ENFORCE


@dataclass(frozen=True, slots=True)
class UnicastPeer:
    """One line of unicast_peer; adverts outside min_ttl..max_ttl are dropped. None = not given: the rule for peers on our link counts."""

    address: IpAddress
    min_ttl: int | None = None
    max_ttl: int | None = None
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class GarpSettings:
    """Gratuitous ARP / unsolicited NA of one instance, or the defaults for all of them.

    A set = ``repeat`` announcements of every address. ``*_delay_ns``: until the second set, 0 = no second set.
    ``refresh_ns``: 0 = no periodic refresh. ``extra_interface_ns``: 0 = off.
    """

    master_delay_ns: int = 5 * NS_PER_S
    master_repeat: int = 5
    refresh_ns: int = 0
    refresh_repeat: int = 1
    lower_priority_delay_ns: int = 5 * NS_PER_S
    lower_priority_repeat: int = 5
    extra_interface_ns: int = 0
    extra_interface_all: bool = False


DEFAULT_GARP = GarpSettings()


@dataclass(frozen=True, slots=True)
class VmacSettings:
    """``use_vmac`` / ``use_ipvlan``. ``name`` "" = made from the prefix and the VRID. ``mac`` b"" = 00:00:5e:00:01:VRID; five bytes
    end in the VRID. ``group`` 0 = that of the interface below."""

    ipvlan: bool = False
    name: str = ""
    mac: bytes = b""
    group: int = 0
    netlink_notify: bool = False
    ipvlan_address: IpAddress | None = None
    ipvlan_mode: str = ""
    ipvlan_prefix_length: int = 0


@dataclass(frozen=True, slots=True)
class VrrpInstance:
    """One virtual router with every default resolved.

    ``family``: that of the VIPs (or of the unicast addresses where there is no VIP). ``version``: 2 or 3.
    ``advert_interval_ns``: whole seconds in version 2, multiples of 10 ms in version 3. ``initial_state`` MASTER has
    already cleared ``nopreempt`` and ``preempt_delay_ns``. ``source``: None = the interface's primary address.
    ``multicast_group``: the destination where ``unicast_peers`` is empty. ``unicast_ttl`` None = 255 for IPv4, the
    kernel's default for IPv6. ``accept``: False = packets to the VIPs are dropped unless we are the owner.
    ``old_unicast_checksum``: None = find out from the peer.
    ``virtual_interface``: the name of its macvlan or ipvlan, from ``vrrp.placement``; the file only has a wish in ``vmac``.
    ``down_timer_adverts``: missed adverts until master down (3).
    """

    name: str
    interface: str
    vrid: int
    family: Family = Family.IPV4
    version: int = 2
    priority: int = DEFAULT_PRIORITY
    initial_state: InitialState = InitialState.BACKUP
    advert_interval_ns: int = NS_PER_S
    down_timer_adverts: int = 3
    nopreempt: bool = False
    preempt_delay_ns: int = 0
    authentication: Authentication = Authentication()
    hmac: AuthHmac | None = None
    addresses: tuple[VirtualAddress, ...] = ()
    excluded_addresses: tuple[VirtualAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    multicast_group: IpAddress | None = None
    source: IpAddress | None = None
    track_source: bool = False
    unicast_peers: tuple[UnicastPeer, ...] = ()
    unicast_ttl: int | None = None
    unicast_fault_no_peer: bool = False
    check_unicast_source: bool = True
    old_unicast_checksum: bool | None = None
    v3_checksum_as_v2: bool = False
    vrf: str = ""
    vmac: VmacSettings | None = None
    vmac_addresses: bool = False
    vmac_xmit_base: bool = False
    virtual_interface: str = ""
    accept: bool = True
    strict: bool = False
    skip_check_adv_addr: bool = False
    lower_prio_no_advert: bool = False
    higher_prio_send_advert: bool = False
    owner_ignore_adverts: bool = False
    timer_expired_backup: bool = False
    timer_expired_backup_priority: int = 0
    unheard_limit: int = 0
    differing_lists: str = "known"
    promote_secondaries: bool = False
    linkbeat_polling: bool = False
    garp: GarpSettings = DEFAULT_GARP
    track: TrackSet = NO_TRACKS
    track_primary: bool = True
    notify: NotifyCommands = NO_NOTIFY
    notify_deleted: bool = False
    notify_priority_changes: bool = False
    smtp_alert: bool = False
    receive_buffer_bytes: int | None = None
    sync_group: str = ""
    position: Position = field(default=NOWHERE, compare=False)
    positions: tuple[tuple[str, Position], ...] = field(default=(), compare=False, repr=False)

    @property
    def owner(self) -> bool:
        """Priority 255: this node owns the addresses and its priority never changes."""
        return self.priority == OWNER_PRIORITY

    @property
    def speaks_on_link(self) -> bool:
        """Its adverts leave by its macvlan or ipvlan, with the virtual MAC as Ethernet source."""
        return bool(self.virtual_interface) and not self.vmac_xmit_base

    @property
    def hears_on_link(self) -> bool:
        """It hears adverts on its macvlan: only the macvlan with the same MAC gets multicast frames from a virtual MAC."""
        return bool(self.virtual_interface) and self.vmac is not None and not self.vmac.ipvlan and not self.unicast

    @property
    def unicast(self) -> bool:
        """Adverts go to the peers instead of the group."""
        return bool(self.unicast_peers)

    def position_of(self, keyword: str) -> Position:
        """The line of ``keyword`` in this block, or the block's first line."""
        return dict(self.positions).get(keyword, self.position)


@dataclass(frozen=True, slots=True)
class SyncGroup:
    """``vrrp_sync_group NAME``: instances that change state together."""

    name: str
    members: tuple[str, ...]
    track: TrackSet = NO_TRACKS
    notify: NotifyCommands = NO_NOTIFY
    notify_priority_changes: bool | None = None
    smtp_alert: bool = False
    tracking_weight: bool = False
    position: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class GarpGroup:
    """``garp_group``: interfaces that share one budget of announcements. 0 = no pause."""

    garp_interval_ns: int
    gna_interval_ns: int
    interfaces: tuple[str, ...]
    position: Position = field(default=NOWHERE, compare=False)
