"""What an operator configured about one virtual router, as far as the protocol cares."""

from __future__ import annotations

from dataclasses import dataclass, field

from vrrp.protocol.belief import DifferingLists
from vrrp.protocol.packet import CS_NS, AuthType, Family, IPAddress

OWNER_PRIORITY = 255
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class InstanceParameters:
    """One virtual router. Defaults are keepalived's, except ``higher_prio_send_advert``: a loser says one last word, so that
    the winner always re-announces after a heal (docs/adr/0104-heal-always-reannounces.md).

    Raises ValueError when a value is out of range.
    """

    name: str
    vrid: int
    priority: int = 100
    family: Family = Family.IPV4
    version: int = 2
    interval_ns: int = NS_PER_S
    addresses: tuple[IPAddress, ...] = ()
    """The virtual addresses carried in adverts."""
    carried: tuple[tuple[str, IPAddress], ...] = ()
    """Every address that moves with it, the excluded ones too, with its interface: one that is new is announced."""
    start_as_master: bool = False
    """``state MASTER``; matters for an owner (priority 255) only."""
    preempt: bool = True
    preempt_delay_ns: int = 0
    down_timer_adverts: int = 3
    lower_prio_no_advert: bool = False
    higher_prio_send_advert: bool = True
    garp_repeat: int = 5
    garp_delay_ns: int = 5 * NS_PER_S
    """From becoming MASTER to the second set of announcements; 0 = no second set."""
    garp_refresh_ns: int = 0
    """Between periodic announcements; 0 = none."""
    garp_refresh_repeat: int = 1
    garp_lower_prio_repeat: int = 5
    garp_lower_prio_delay_ns: int = 5 * NS_PER_S
    garp_extra_ns: int = 0
    """Between announcements on interfaces that the adverts do not leave by; 0 = none."""
    announces_source: bool = False
    """After a FAULT its own source address is announced: the peers are named by address, and nobody else may speak for us (unicast)."""
    virtual_mac: bytes = b""
    """The MAC that answers for the addresses, if it is not the interface's own: a change of it is announced."""
    startup_delay_ns: int = 0
    not_before_ns: int = 0
    """CLOCK_BOOTTIME before which the instance does not leave INIT (vrrp_delay_after_boot); with startup_delay_ns the later counts."""
    unheard_limit: int = 0
    """So many adverts in a row that could not leave are a FAULT; 0 = never (keepalived)."""
    late_backup_priority: int = 0
    """timer_expired_backup: highest priority of the others; 0 = off. A MASTER that was late for them to take over goes to BACKUP."""
    in_sync_group: bool = False
    check_addresses: bool = True
    """False = keepalived's skip_check_adv_addr: do not compare the advertised list with ours."""
    differing_lists: DifferingLists = DifferingLists.KNOWN
    peers: frozenset[IPAddress] = frozenset()
    """The configured unicast peers."""
    has_secret: bool = False
    """Only adverts of routers that share our password or key get as far as the core."""
    auth_type: AuthType = AuthType.NONE
    auth_data: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.vrid <= 255:
            raise ValueError(f"virtual_router_id {self.vrid} is not in 1..255")
        if not 1 <= self.priority <= OWNER_PRIORITY:
            raise ValueError(f"priority {self.priority} is not in 1..255")
        if self.version not in (2, 3) or (self.version == 2 and self.family is Family.IPV6):
            raise ValueError(f"VRRP version {self.version} does not exist for {self.family.name}")
        unit_ns, top = (NS_PER_S, 255) if self.version == 2 else (CS_NS, 4095)
        if self.interval_ns % unit_ns or not 1 <= self.interval_ns // unit_ns <= top:
            raise ValueError(f"advert_int of {self.interval_ns / NS_PER_S} s does not fit VRRP version {self.version}")
        if self.down_timer_adverts < 1:
            raise ValueError(f"down_timer_adverts {self.down_timer_adverts} is not positive")

    @property
    def is_owner(self) -> bool:
        """True for the address owner (RFC 5798 section 1.2): trackers never change its priority."""
        return self.priority == OWNER_PRIORITY
