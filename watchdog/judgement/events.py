"""PURE: everything that can happen to the watcher. The shell and the simulator make these; nothing else reaches the core.

The shell reports facts, never judgements: it decodes packets into addresses and priorities, and leaves "duplicate",
"dead" and "isolated"
to the core. Interfaces and addresses are plain strings ("eth0", "10.0.0.100"), MACs are lower-case colon form.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from fencing.plan.events import DeviceOutcome, PowerState
from watchdog.config.model import GroupKey, GroupSettings, LinkAddress
from watchdog.frames.heartbeat import GroupState, LinkMac
from watchdog.judgement.durable_facts import NOTHING_DURABLE, DurableFacts


@dataclass(frozen=True, slots=True)
class HeldAddress:
    """An address in this kernel. ``interface`` holds it; ``lan``: the interface whose LAN it owns, "" = the same (a macvlan's or
    ipvlan's addresses own the LAN of the interface below)."""

    interface: str
    address: str
    lan: str = ""

    @property
    def at(self) -> LinkAddress:
        """Where it lives."""
        return LinkAddress(self.lan or self.interface, self.address)


@dataclass(frozen=True, slots=True)
class OpenFence:
    """A fence whose intent is durable but whose result is not: this daemon died in between. It is *unknown* until verified."""

    order_id: str
    target: str
    level: int
    intent_wall_ns: int


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An incident that an earlier run opened and did not close; ``paged``: somebody was told."""

    id: str
    scope: str
    verdict: str
    summary: str
    paged: bool


@dataclass(frozen=True, slots=True)
class Started:
    """First event of every run; the core does nothing before it.

    ``incarnation`` is durable and counts starts; ``wall_ns`` is for records only. ``quarantined``: this node was fenced
    and nobody has cleared it.
    ``recent_fence_wall_ns``: when fences of the peer were started in the last hour (for the budget); ``latched``: the
    budget latch is shut.
    ``same_boot``: the machine did not reboot since the last run of the daemon.
    ``links``: the MACs of the interfaces that serve a group, and of the virtual interfaces on them: the peer is told them.
    ``watchdog_armed``: a run before this one, in this process, armed the hardware watchdog.
    ``durable``: what earlier runs left for this one (maintenance, acknowledgements, handovers …).
    """

    wall_ns: int
    boot: bytes
    nonce: bytes
    incarnation: int
    groups: tuple[GroupSettings, ...]
    held: tuple[HeldAddress, ...]
    quarantined: bool = False
    latched: bool = False
    open_fences: tuple[OpenFence, ...] = ()
    recent_fence_wall_ns: tuple[int, ...] = ()
    seen_peer_before: bool = False
    same_boot: bool = False
    macs: tuple[str, ...] = ()
    open_incidents: tuple[OpenIncident, ...] = ()
    durable: DurableFacts = NOTHING_DURABLE
    links: tuple[LinkMac, ...] = ()
    watchdog_armed: bool = False


@dataclass(frozen=True, slots=True)
class GroupsChanged:
    """keepalived.conf was re-read and is valid."""

    groups: tuple[GroupSettings, ...]


@dataclass(frozen=True, slots=True)
class BytesReceived:
    """A datagram or serial frame arrived on a heartbeat path, undecoded."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class PathChanged:
    """A path can or cannot be used at all (carrier, socket error, hang-up); silence of the peer is not this."""

    path: str
    usable: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AdvertHeard:
    """The sniffer saw a VRRP advert. ``outgoing``: this host sent it. ``problem`` is "" or why a VRRP daemon would drop it."""

    interface: str
    key: GroupKey
    priority: int
    source_ip: str
    source_mac: str
    outgoing: bool
    interval_ms: int
    vips: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """The kernel gained (``held``) or lost an address; ``interface`` and ``lan`` as in HeldAddress."""

    interface: str
    address: str
    held: bool
    lan: str = ""


@dataclass(frozen=True, slots=True)
class AddressesListed:
    """A full dump of this kernel's addresses (start, netlink overrun)."""

    held: tuple[HeldAddress, ...]


@dataclass(frozen=True, slots=True)
class OwnerClaimed:
    """Somebody on the segment said by ARP or NA that ``address`` is at ``mac``.

    ``probe_id`` names the probe it answers, None for what was heard passively (``gratuitous``). ``sender_mac`` is the
    link-layer source. Our own answers
    are not reported. ``request_index`` tells which request of the probe it answers: two answers to one request = two
    owners behind one (virtual) MAC.
    """

    interface: str
    address: str
    mac: str
    sender_mac: str
    probe_id: int | None = None
    request_index: int = 0
    gratuitous: bool = False

    @property
    def at(self) -> LinkAddress:
        """The address on the LAN where this was heard."""
        return LinkAddress(self.interface, self.address)


@dataclass(frozen=True, slots=True)
class ProbeFinished:
    """The whole window of an ownership probe is over. ``error`` is "" or why it could not be sent."""

    probe_id: int
    interface: str
    address: str
    requests_sent: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceAnswered:
    """Somebody answered our question to a reference target, from ``mac`` (lower-case colon form)."""

    name: str
    mac: str = ""


@dataclass(frozen=True, slots=True)
class LinkMacsChanged:
    """This node's MACs changed. ``macs``: all of them but virtual routers'; ``links`` as in Started."""

    macs: tuple[str, ...]
    links: tuple[LinkMac, ...]


@dataclass(frozen=True, slots=True)
class CarrierChanged:
    """An interface gained or lost carrier (IFF_UP and IFF_RUNNING)."""

    interface: str
    up: bool


@dataclass(frozen=True, slots=True)
class TrafficCounted:
    """The kernel's count of packets received on an interface that serves clients, read about once a second."""

    interface: str
    packets: int


class DaemonState(Enum):
    """The local VRRP daemon as the operating system sees it."""

    RUNNING = "running"
    STOPPED = "stopped"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class LocalDaemonChanged:
    """The local VRRP daemon started, died, or is stopped in the scheduler's sense (SIGSTOP, D state for long)."""

    state: DaemonState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class GroupStateReported:
    """Our own vrrpd told its state of a group (``subscribe``); a stock keepalived never does."""

    key: GroupKey
    state: GroupState
    priority: int


@dataclass(frozen=True, slots=True)
class LoopStalled:
    """This process (or the machine) did not run for ``stalled_ns``."""

    stalled_ns: int


@dataclass(frozen=True, slots=True)
class Persisted:
    """The recorder has committed everything up to and including ``barrier``."""

    barrier: int


@dataclass(frozen=True, slots=True)
class RecorderChanged:
    """The recorder came up or went away. While it is away nothing is durable: no fence."""

    up: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RecordSpaceChanged:
    """The disk of the state directory has become nearly full (``low``), or has room again. ``free_bytes`` is for people."""

    low: bool
    free_bytes: int = 0


class GateObedience(Enum):
    """Whether the local VRRP daemon looks at the gate of a group."""

    OBEYED = "obeyed"
    """It has read the gate since it was last written, or our vrrpd answers on its control socket."""
    NOT_CONFIGURED = "not_configured"
    """keepalived.conf does not track the gate file, or not with the weight that holds."""
    NOT_READ = "not_read"
    """keepalived.conf tracks the file, but the running daemon does not read it: it was started before the directory existed."""
    NOT_WRITABLE = "not_writable"
    """We cannot write the file."""
    NOT_CONNECTED = "not_connected"
    """Our vrrpd does not answer on its control socket."""
    UNKNOWN = "unknown"
    """It cannot be seen here (a file system that keeps no access times)."""


@dataclass(frozen=True, slots=True)
class GateChecked:
    """The shell looked whether the VRRP daemon obeys the gate of this group; told when it changes, and after every hold."""

    key: GroupKey
    obedience: GateObedience
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FenceRunnerChanged:
    """The fence runner is armed, or gone."""

    up: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FenceReported:
    """The runner finished one device action of an order. ``power`` only after ``status``; ``identity`` is what the
    device says the outlet belongs to. ``attempt`` is the order's, so that a late report of an earlier reading is told apart."""

    order_id: str
    level: int
    device: str
    action: str
    outcome: DeviceOutcome
    power: PowerState = PowerState.UNKNOWN
    identity: str = ""
    took_ms: int = 0
    detail: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class CommandFailed:
    """The shell could not execute a command (EPERM on a send, netlink error, gate file not writable)."""

    command: str
    detail: str


class OperatorAction(Enum):
    """What a person can order at the control socket."""

    MAINTENANCE_ON = "maintenance_on"
    MAINTENANCE_OFF = "maintenance_off"
    CLEAR_QUARANTINE = "clear_quarantine"
    CLEAR_LATCH = "clear_latch"
    CONFIRM_OFF = "confirm_off"
    FENCE_OFF = "fence_off"
    FENCE_ON = "fence_on"
    ACKNOWLEDGE = "acknowledge"
    HANDOVER = "handover"
    NOTE = "note"
    """Nothing is done: something on this node shall stand in the record."""


@dataclass(frozen=True, slots=True)
class OperatorActed:
    """A person acted; ``who`` is uid and login. ``until_ms`` from now for maintenance; ``subject`` is an incident id,
    group or node."""

    action: OperatorAction
    who: str
    subject: str = ""
    until_ms: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class WitnessChanged:
    """The witness was asked whether it is there: sent after every poll, and when the witness process ends (``up`` False).

    ``up``: it answered within its time. ``took_ms``: how long that took. ``holder``: the node that has the turn now, "" for nobody.
    ``detail``: which member answered, or why none did.
    """

    up: bool
    took_ms: int = 0
    holder: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """The turn that ``request`` asked for is ours until ``until_ns`` of our own CLOCK_BOOTTIME at the earliest: counted from before the
    witness was asked, less what two clocks may differ. Sent again with a later time when a request is repeated (renewed)."""

    request: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class LeaseRefused:
    """``request`` was not granted: ``holder`` has the turn ("" when the witness could not be asked; ``detail`` says why)."""

    request: int
    holder: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """A turn that was granted is ours no more (expired, taken back, the witness process is gone)."""

    request: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WatchdogChanged:
    """The hardware watchdog is armed, or could not be (``detail`` says why and what to do)."""

    armed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Stopping:
    """SIGTERM: the daemon ends in an orderly way. ``restarting``: it puts itself in place anew (SIGHUP) and will be back at once.
    ``shutdown``: the whole machine goes down."""

    restarting: bool = False
    shutdown: bool = False


WatcherEvent: TypeAlias = (
    Started
    | GroupsChanged
    | BytesReceived
    | PathChanged
    | AdvertHeard
    | AddressChanged
    | AddressesListed
    | OwnerClaimed
    | ProbeFinished
    | ReferenceAnswered
    | LinkMacsChanged
    | CarrierChanged
    | TrafficCounted
    | LocalDaemonChanged
    | GroupStateReported
    | LoopStalled
    | Persisted
    | RecorderChanged
    | RecordSpaceChanged
    | GateChecked
    | FenceRunnerChanged
    | FenceReported
    | CommandFailed
    | OperatorActed
    | WitnessChanged
    | LeaseGranted
    | LeaseRefused
    | LeaseLost
    | WatchdogChanged
    | Stopping
)
