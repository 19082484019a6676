"""PURE: brain.toml as typed values (what keepalived.conf does not know). The same file lies on both nodes.

``PerNode`` pairs hold what differs between the nodes (an interface name, an address, a tty).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from alerts.routing.settings import Receiver
from fencing.plan.settings import FenceSettings


class Mode(Enum):
    """``policy.mode``; what each may do is in DESIGN section 1."""

    OBSERVE = "observe"
    RESOLVE = "resolve"
    STRICT = "strict"


class PathKind(Enum):
    """Transports of heartbeats."""

    ETHERNET = "ethernet"
    MULTICAST = "multicast"
    UNICAST = "unicast"
    SERIAL = "serial"


@dataclass(frozen=True, slots=True)
class PerNode:
    """A value for each of the two nodes."""

    values: tuple[tuple[str, str], ...]

    def of(self, node: str) -> str:
        """The value of ``node``, or "" if it has none."""
        return dict(self.values).get(node, "")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """``[node.NAME]``. ``rank`` 1 acts first where both may act (fence, keep the VIP at equal health); ranks differ."""

    name: str
    rank: int
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PathSettings:
    """``[[path]]``: one heartbeat path. Paths with the same ``medium`` fail together and count as one."""

    name: str
    kind: PathKind
    medium: str
    interval_ms: int = 200
    silent_after_ms: int = 1_000
    interface: PerNode = PerNode(())
    address: PerNode = PerNode(())
    group: str = "239.255.83.66"
    port: int = 6994
    device: PerNode = PerNode(())
    baud: int = 9600


@dataclass(frozen=True, slots=True)
class ReferenceSettings:
    """``[[reference]]``: a host on the service LAN that answers ARP when our own transmission works (usually the gateway)."""

    name: str
    address: str
    interface: PerNode
    interval_ms: int = 1_000
    silent_after_ms: int = 3_000


@dataclass(frozen=True, slots=True)
class GateSettings:
    """``[gate]``: which VRRP daemon runs beside us and how we hold it (DESIGN section 6)."""

    daemon: str = "keepalived"
    config: str = "/etc/keepalived/keepalived.conf"
    pid_file: str = "/run/keepalived.pid"
    vrrp_pid_file: str = "/run/vrrp.pid"
    vrrpd_socket: str = "/run/brainctl/vrrpd.sock"
    hold_file: str = "/run/brainctl/gate/hold"
    grant_file: str = "/run/brainctl/gate/grant"
    bridge_adverts: bool = True


class WitnessKind(Enum):
    """Engines that give a turn to fence (docs/WITNESS.md)."""

    ETCD = "etcd"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """``[witness]``: who decides whose turn it is to fence (Promise 5). The same on both nodes.

    ``endpoints`` are URLs of etcd's members; ``user`` and ``password_secret`` (a secret reference) go together, so do the client's
    ``certificate_file`` and ``private_key_file``. ``device`` is the shared block device or file of each node. ``lease_ms``: how long a
    granted turn lasts; ``poll_ms``: how often the witness is asked whether it is there; ``silent_after_ms``: without an answer for
    this long it is out.
    """

    kind: WitnessKind
    lease_ms: int
    poll_ms: int = 1_000
    silent_after_ms: int = 3_000
    endpoints: tuple[str, ...] = ()
    ca_file: str = ""
    certificate_file: str = ""
    private_key_file: str = ""
    user: str = ""
    password_secret: str = ""
    device: PerNode = PerNode(())

    def shared(self) -> tuple[str, ...]:
        """What both nodes must have in common, for the digest of the settings: a node that asks another witness has none."""
        where = sorted(self.endpoints) if self.kind is WitnessKind.ETCD else [f"{node}={path}" for node, path in sorted(self.device.values)]
        return (self.kind.value, str(self.lease_ms), *where)


@dataclass(frozen=True, slots=True)
class SelfFenceSettings:
    """``[self_fence]``: a pair without a fence device. The same on both nodes.

    ``node`` is the one that resets itself: it feeds its hardware watchdog ``device`` (which resets the machine after ``timeout_s``, W) only
    while the other node acknowledges its frames, at least every ``after_ms`` (X).
    """

    node: str
    device: str = "/dev/watchdog"
    after_ms: int = 8_000
    timeout_s: int = 10


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """``[policy]``. All times in ms.

    ``confirm_ms``: a suspected split must still be true after this, and after one active census. ``settle_ms``:
    nothing is judged worse than UNKNOWN for this long after start. ``yield_deadline_ms``: how long the asked loser
    has before the next rung. ``act_on_isolation``: from resolve on, give the addresses up when isolated.
    ``planned_grace_ms``: how long both may own a VIP after a priority-0 advert or a handover. ``second_look_ms``:
    evidence used by the second look must be younger. ``barrier_ms``: a slower durable write means that we are sick:
    no fence.
    """

    mode: Mode = Mode.OBSERVE
    confirm_ms: int = 1_000
    settle_ms: int = 5_000
    yield_deadline_ms: int = 1_500
    planned_grace_ms: int = 2_000
    second_look_ms: int = 1_500
    barrier_ms: int = 2_000
    census_interval_ms: int = 1_000
    census_window_ms: int = 200
    stall_ms: int = 500


@dataclass(frozen=True, slots=True)
class BrainSettings:
    """The whole of brain.toml, seen from node ``self_name``."""

    cluster: str
    key_file: str
    self_name: str
    nodes: tuple[NodeSettings, NodeSettings]
    policy: PolicySettings
    gate: GateSettings
    paths: tuple[PathSettings, ...]
    references: tuple[ReferenceSettings, ...]
    fence: FenceSettings
    alerts: tuple[Receiver, ...]
    witness: WitnessSettings | None = None
    self_fence: SelfFenceSettings | None = None

    @property
    def me(self) -> NodeSettings:
        """This node."""
        return next(n for n in self.nodes if n.name == self.self_name)

    @property
    def peer(self) -> NodeSettings:
        """The other node."""
        return next(n for n in self.nodes if n.name != self.self_name)


@dataclass(frozen=True, slots=True, order=True)
class LinkAddress:
    """An address where it lives: the same text on two links is two addresses (every fe80::1, an address on ``lo``).

    ``interface`` is the one whose LAN the address belongs to: of an address on a macvlan or ipvlan the interface below it.
    """

    interface: str
    address: str

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    def __str__(self) -> str:
        return f"{self.address} on {self.interface}"


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """A VIP group = one VRRP instance, the same on both nodes. ``family`` is 4 or 6."""

    vrid: int
    family: int

    def __str__(self) -> str:
        return f"{self.vrid}/{self.family}"


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What the watcher reads from keepalived.conf about one VRRP instance.

    ``interface`` carries the adverts; ``addresses`` are the virtual addresses without prefix, each with the interface where it is
    configured to live (its ``dev``, else the instance's interface).
    """

    key: GroupKey
    name: str
    interface: str
    addresses: tuple[LinkAddress, ...]
    priority: int
    version: int
    advert_interval_ms: int
    use_vmac: bool = False
    preempt: bool = True
    """Whether the daemon takes the group back from a master of lower priority (no ``nopreempt``)."""
    sync_group: str = ""
    """The vrrp_sync_group: its members change state together, so they are judged together."""
    clash: str = ""
    """Another instance of this VRID and family on another LAN: beats cannot tell the two apart, and it is not watched (case T10)."""

    @property
    def vips(self) -> tuple[str, ...]:
        """The plain addresses, for people."""
        return tuple(at.address for at in self.addresses)

    @property
    def links(self) -> tuple[str, ...]:
        """The interfaces whose LANs the group serves, each once: those of its addresses, else the adverts' own."""
        return tuple(dict.fromkeys(at.interface for at in self.addresses)) or (self.interface,)

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Every interface that the group needs: that of its adverts and those whose LANs it serves, each once."""
        return tuple(dict.fromkeys((self.interface, *self.links)))
