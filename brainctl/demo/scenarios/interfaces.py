"""Scenarios about where an address lives: a switch port that passes nothing, two service LANs, other interfaces, lo, IPv6."""

from __future__ import annotations

import signal

from brainctl.demo.scenario import At, Expectation, Scenario
from brainctl.demo.scenarios.cables import SPLIT, YIELD_BOUND_MS, adverts_are_lost, both_own_until_one_yields
from brainctl.demo.scenarios.strangers import stranger_takes
from brainctl.demo.setup import Site
from brainctl.demo.stage import Stage
from brainctl.demo.switch import INSIDE, SERVICE, Loss

HEALTH_OUTAGE_MS = {"observe": 4_000.0, "resolve": 5_000.0, "strict": 9_000.0}
"""The client's longest outage when a port dies: what plain VRRP needs and an exchange; a released keepalived needs two more intervals."""


def port_dies(stage: Stage, network: str, called: str) -> None:
    """A's port of a network passes nothing; everything else lives."""
    stage.moment()
    stage.say(f"A's port of the {called} network passes nothing any more; its carrier is up, every other path lives")
    stage.lab.switch.port_dead(network, "A")


def port_is_named(stage: Stage, interface: str) -> None:
    """A page says where to look."""
    stage.wait("a page names the port", stage.paged(interface), 15.0)
    stage.hold(4.0)


class PortDead(Scenario):
    """The switch port of the owner passes nothing, its carrier stays, the other paths live."""

    name = "port-dead"
    case = "J1 T2"
    story = "the switch port of A's service LAN passes nothing, with carrier up; the heartbeat paths live: B serves, a page names the port"
    modes = ("resolve", "strict")

    def play(self, stage: Stage) -> None:
        """Let the port die."""
        port_dies(stage, SERVICE, "service")
        stage.wait("B serves the client", stage.served_by("B"), 20.0)
        port_is_named(stage, "eth0")

    def expect(self, mode: str, daemon: str) -> Expectation:
        """The node whose port lives serves."""
        return Expectation(
            "B serves, the dead port is named",
            owners=("B",),
            fence=(),
            cut_power=0,
            alerts=(1, 6),
            pages=("eth0",),
            outage_ms=HEALTH_OUTAGE_MS[mode],
        )


class TwoLans(Scenario):
    """Outside and inside, a group on each; the owner's inside port dies."""

    name = "two-lans"
    case = "T3"
    story = "two service LANs with a group on each; A's inside port passes nothing: B serves inside, A goes on serving outside"
    modes: tuple[str, ...] = ("resolve", "strict")
    beside = True
    site = Site(inside=True)
    outside_owner = "A"

    def play(self, stage: Stage) -> None:
        """Let the inside port die."""
        port_dies(stage, INSIDE, "inside")
        stage.wait("B serves the inside client", stage.served_by("B", of="inside"), 20.0)
        stage.wait(f"{self.outside_owner} serves the outside client", stage.owned_by(self.outside_owner, for_s=1.5), 15.0)
        port_is_named(stage, "eth2")

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Health is judged per interface and group."""
        stays = self.outside_owner == "A"
        return Expectation(
            "B serves inside, A outside" if stays else "B serves both",
            owners=(self.outside_owner,),
            fence=(),
            cut_power=0,
            alerts=(1, 8),
            pages=("eth2",),
            outage_ms=600.0 if stays else HEALTH_OUTAGE_MS[mode],
            also={"inside": At(owners=("B",), outage_ms=HEALTH_OUTAGE_MS[mode])},
        )


class TwoLansSync(TwoLans):
    """The same in a sync group: its members are judged together."""

    name = "two-lans-sync"
    story = "two service LANs, their groups in one sync group; A's inside port passes nothing: B serves both"
    modes = ("resolve",)
    site = Site(inside=True, sync=True)
    outside_owner = "B"
    usual = False


class SameVrid(Scenario):
    """One VRID on two LANs is no mistake for VRRP."""

    name = "same-vrid"
    case = "T10"
    story = "the groups of two LANs have the same VRID; adverts are lost on the inside LAN: its split is ended, or called misconfigured"
    site = Site(inside=True, same_vrid=True)
    usual = False

    def play(self, stage: Stage) -> None:
        """Lose adverts on the inside LAN only."""
        stage.moment()
        stage.say("the inside network loses every advert")
        stage.lab.switch.lose(Loss(INSIDE, "A", "B", only_vrrp=True), Loss(INSIDE, "B", "A", only_vrrp=True))
        stage.watch_until(lambda: stage.two_owners("inside"), 8.0)
        ended = stage.one_owner(2.0, of="inside")
        stage.wait(
            "the split on the inside LAN is ended, or a page calls the pair misconfigured",
            lambda: ended() or stage.was_ever_paged("MISCONFIGURED.*VI_2"),
            15.0,
        )
        stage.wait("A owns the address outside", stage.owned_by("A"), 5.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Never silence."""
        return Expectation("two groups, or MISCONFIGURED", owners=("A",), split=False, fence=(), cut_power=0, alerts=(0, 6))


class ForeignElsewhere(Scenario):
    """An address of the group lives on another interface than its adverts."""

    name = "foreign-elsewhere"
    case = "T7"
    story = "an address of A's group lives on eth2 (`dev eth2`); a third host takes it there: named, paged, nobody is fenced"
    site = Site(elsewhere=True)
    usual = False

    def play(self, stage: Stage) -> None:
        """Let a stranger of the inside LAN take it."""
        stranger_takes(stage, "inside", "a third host on the inside network configures the address")

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Each address is watched on its own interface."""
        return Expectation(
            "FOREIGN_OWNER, paged, nobody fenced",
            owners=("A",),
            split=False,
            verdicts=("FOREIGN_OWNER",),
            fence=(),
            cut_power=0,
            alerts=(1, 6),
            also={"inside": At(owners=("A", "stranger"), split=True)},
        )


class RoutedPeers(Scenario):
    """The nodes are on different LANs: nobody hears the other's ARP, ever."""

    name = "routed-peers"
    case = "T8"
    story = "unicast peers behind a router: check refuses to arm a fence, for a dead peer cannot be told; no path is left: nobody is fenced"
    site = Site(routed=True)
    usual = False

    def play(self, stage: Stage) -> None:
        """Cut the router, the heartbeat network and the serial line."""
        stage.wait("check says that fencing may not be armed", lambda: "fencing may not be armed" in stage.check_says("A"), 5.0)
        stage.moment()
        stage.say("the router routes nothing, heartbeat network and serial line pass nothing")
        stage.lab.cut_router()
        stage.lab.cut_ethernet()
        stage.lab.cut_serial()
        stage.hold(stage.setup.fence_delay_ms / 1000 + 5.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Never the healthy owner."""
        return Expectation("said by check; nobody is fenced, A serves its LAN", owners=("A",), split=False, fence=(), cut_power=0)


class LocalNode(Scenario):
    """The directors are real servers, too."""

    name = "local-node"
    case = "T5"
    story = "both directors are real servers too: the address stands as /32 on lo. That is no second owner; a handover goes as ever"
    modes = ("resolve", "strict")
    beside = True
    site = Site(local_node=True)

    def play(self, stage: Stage) -> None:
        """Look on, then hand over."""
        stage.say("nothing happens for 6 s")
        stage.hold(6.0)
        stage.say("A's VRRP daemon is stopped (SIGTERM)")
        stage.node("A").signal("vrrp", signal.SIGTERM)
        stage.wait("B takes over", stage.owned_by("B"), 15.0)
        stage.hold(4.0)
        for name in stage.lab.nodes:
            stage.wait(f"{name} has the address on lo", lambda name=name: stage.has_on_lo(name), 1.0)  # type: ignore[misc]

    def expect(self, mode: str, daemon: str) -> Expectation:
        """An address owns the LAN only on its own interface."""
        return Expectation(
            "no alarm, B takes over, the address stays on lo",
            owners=("B",),
            split=False,
            never=("SPLIT_BRAIN/confirmed", "ORPHAN_VIP", "FOREIGN_OWNER", "ISOLATED", "MISCONFIGURED", "PEER_HUNG", "PEER_DEAD"),
            fence=(),
            cut_power=0,
            outage_ms=6_000.0 if mode == "strict" else 3_000.0,
        )


class SixGroups(Scenario):
    """An IPv6 group beside the IPv4 one."""

    name = "ipv6"
    story = "an IPv4 and an IPv6 group; the firewalls drop VRRP both ways: both families are split, asked, and healed"
    beside = True
    site = Site(ipv6=True)

    def play(self, stage: Stage) -> None:
        """As cut-heartbeat, in both families."""
        adverts_are_lost(stage, " in IPv4 and IPv6")
        both_own_until_one_yields(stage, within_s=15.0)
        if stage.setup.mode != "observe":
            stage.wait("one owner of the IPv6 address", stage.one_owner(1.5, of="six"), 15.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """As cut-heartbeat."""
        split = True if mode == "observe" or (daemon == "keepalived" and mode != "strict") else None
        if mode == "observe":
            two = At(owner_count=2, split=True)
            return Expectation("both own both, a person is paged", owner_count=2, split=True, fence=(), alerts=(1, 4), also={"six": two})
        return Expectation(
            "the loser is asked and yields, in both families",
            owners=("A",),
            split=split,
            verdicts=(SPLIT,) if split else (),
            fence=(),
            cut_power=0,
            within_ms=YIELD_BOUND_MS,
            alerts=(0, 8),
            outage_ms=2_000.0,
            also={"six": At(owners=("A",), split=split, within_ms=YIELD_BOUND_MS, outage_ms=2_000.0)},
        )
