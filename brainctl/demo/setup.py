"""How a pair is set up: the daemons, the mode, the times, and what its site looks like beyond the plain one."""

from __future__ import annotations

from dataclasses import dataclass

from brainctl.demo.addresses import Plan
from brainctl.demo.switch import INSIDE, SERVICE
from fencing.plan.settings import FenceDevice, FenceLevel, FenceSettings
from watchdog.config.model import GroupKey, Mode, PathKind, PathSettings, PolicySettings
from watchdog.judgement.delays import least_delay_ms

DAEMONS = ("vrrpd", "keepalived")
MODES = tuple(mode.value for mode in Mode)

PRIORITY = {"A": 150, "B": 100}

QUICK = PolicySettings(confirm_ms=600, settle_ms=3_000, stall_ms=400, census_interval_ms=500)
"""Shorter times than the defaults, so that the demo ends in minutes."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a pair has beyond one group with one address on one service LAN.

    ``inside``: a second service LAN (eth2) with a gateway, a client and a stranger of its own, and the group VI_2 on it; ``sync``: both
    groups are one sync group; ``same_vrid``: both groups have the same VRID; ``elsewhere``: no VI_2, but VI_1 on eth0 has its second
    address on eth2, and the nodes answer ARP on an interface only for what that interface has. ``addresses``: how many VI_1 has.
    ``local_node``: the address of VI_1 also stands as /32 on lo of both nodes (directors that are real servers too), which answer likewise.
    ``ipv6``: the group VI_6 on eth0. ``nopreempt``: both nodes. ``node_addresses``: brain.toml names the nodes' own addresses.
    ``unheld``: nodes whose keepalived.conf lacks the stanza of `brainctl init`. ``gate_late``: nodes whose gate directory is made only
    after keepalived has read its configuration. ``routed``: eth0 of B is on the inside LAN and the gateway routes between the two, with
    unicast adverts and beats. ``witness``: "etcd" or "disk", or none. ``older``: both nodes begin with the release before.
    """

    inside: bool = False
    sync: bool = False
    same_vrid: bool = False
    elsewhere: bool = False
    addresses: int = 1
    local_node: bool = False
    ipv6: bool = False
    nopreempt: bool = False
    node_addresses: bool = True
    unheld: tuple[str, ...] = ()
    gate_late: tuple[str, ...] = ()
    routed: bool = False
    witness: str = ""
    older: bool = False

    @property
    def has_inside_lan(self) -> bool:
        """Whether the nodes have eth2."""
        return self.inside or self.elsewhere

    def service_network(self, node: str) -> str:
        """The network that a node's eth0 is plugged into."""
        return INSIDE if self.routed and node == "B" else SERVICE

    @property
    def flawed(self) -> bool:
        """Whether a good watcher says from the beginning that something is wrong."""
        return self.same_vrid or not self.node_addresses or bool(self.unheld or self.gate_late)


PLAIN = Site()


@dataclass(frozen=True, slots=True)
class Group:
    """One vrrp_instance. ``lines``: its ``virtual_ipaddress`` lines, in keepalived's words."""

    name: str
    key: GroupKey
    interface: str
    lines: tuple[str, ...]


def groups(plan: Plan, site: Site) -> tuple[Group, ...]:
    """Every group of the pair, the one that the client asks first."""
    length = plan.service.prefixlen
    first = [f"{address}/{length} dev eth0" for address in (plan.vip, *plan.more_vips[: site.addresses - 1])]
    if site.elsewhere:
        first.append(f"{plan.inside_vip}/{plan.inside.prefixlen} dev eth2")
    found = [Group("VI_1", GroupKey(plan.vrid, 4), "eth0", tuple(first))]
    if site.inside:
        vrid = plan.vrid if site.same_vrid else plan.inside_vrid
        found.append(Group("VI_2", GroupKey(vrid, 4), "eth2", (f"{plan.inside_vip}/{plan.inside.prefixlen} dev eth2",)))
    if site.ipv6:
        lines = (f"fe80::{plan.vrid6:x} dev eth0", f"{plan.vip6}/{plan.service6.prefixlen} dev eth0")
        found.append(Group("VI_6", GroupKey(plan.vrid6, 6), "eth0", lines))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Setup:
    """How a pair is set up. ``advert_ms``: advertisement interval; ``levels``: power switches used as fence levels, in order.

    ``phase_ms``: how long after an advert of A faults fall (None: at any time).
    """

    daemon: str
    mode: str
    brain: bool = True
    version: int = 3
    advert_ms: int = 500
    levels: tuple[str, ...] = ("bmc",)
    fence_enabled: bool = True
    device_deadline_ms: int = 3_000
    silent_after_ms: int = 1_000
    interval_ms: int = 200
    policy: PolicySettings = QUICK
    site: Site = PLAIN
    sabotage: str = ""
    phase_ms: int | None = None

    @property
    def first_owner(self) -> str:
        """Who owns the addresses of a pair that was just raised: A by its priority; in strict a node that nothing holds needs no grant."""
        unheld = self.site.unheld if self.brain and self.mode == "strict" else ()
        return "A" if not unheld or "A" in unheld else unheld[0]

    @property
    def master_down_ms(self) -> float:
        """RFC 5798 section 6.1: how long B waits for A's adverts."""
        return 3 * self.advert_ms + (256 - PRIORITY["B"]) / 256 * self.advert_ms

    @property
    def fence_delay_ms(self) -> int:
        """How long the lower-ranked node waits: what ``brainctl check`` asks for, and half a second more."""
        serial = PathSettings("serial", PathKind.SERIAL, "serial", self.interval_ms, self.silent_after_ms)
        device = FenceDevice("outlet", "agent", "B", (), self.device_deadline_ms)
        fence = FenceSettings(levels=(("B", (FenceLevel("outlet", (device,)),)),))
        return least_delay_ms([serial], self.policy, fence) + 500
