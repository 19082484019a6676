"""Scenarios in which a cable, a switch or a firewall fails."""

from __future__ import annotations

from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.stage import Stage
from brainctl.demo.switch import SERVICE, Loss

YIELD_BOUND_MS = 6_000.0
SPLIT = "SPLIT_BRAIN/confirmed"
FENCE_BOUND_MS = 20_000.0


def both_own_until_one_yields(stage: Stage, within_s: float) -> None:
    """Wait for the second owner, if there will be one, and then for its end; mode observe only looks on."""
    if stage.both_will_own:
        stage.wait("B takes the VIP as well", stage.two_owners, 15.0)
        stage.say("both nodes own the VIP")
    else:
        stage.watch_until(stage.two_owners, 6.0)
    if stage.setup.mode == "observe":
        stage.hold(6.0)
    else:
        stage.wait("one owner", stage.one_owner(1.5), within_s)


def adverts_are_lost(stage: Stage, families: str = "") -> None:
    """The classical lab test: both firewalls drop protocol 112."""
    stage.moment()
    stage.say(f"both firewalls drop protocol 112{families}")
    stage.firewall_drops_vrrp()


def nodes_hear_nothing(stage: Stage, besides: str = "") -> None:
    """Every path between the nodes is cut; both still reach client and gateway."""
    stage.moment()
    stage.say(f"{besides}service, heartbeat and serial pass nothing between A and B")
    stage.lab.cut_ethernet()
    stage.lab.cut_serial()


class CutHeartbeat(Scenario):
    """The classical lab test of the tutorials."""

    name = "cut-heartbeat"
    story = "the firewalls drop VRRP both ways: both own the VIP; over the other paths the loser is asked and yields"

    def play(self, stage: Stage) -> None:
        """Drop, watch, mend."""
        adverts_are_lost(stage)
        both_own_until_one_yields(stage, within_s=15.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """keepalived splits; vrrpd, told by braind that the master lives, need not."""
        split = True if daemon == "keepalived" and mode != "strict" else None
        if mode == "observe":
            return Expectation(
                "both own the VIP, a person is paged", split=True, verdicts=(SPLIT,), owner_count=2, fence=(), cut_power=0, alerts=(1, 2)
            )
        return Expectation(
            "the loser is asked and yields",
            owners=("A",),
            split=split,
            fence=(),
            cut_power=0,
            within_ms=YIELD_BOUND_MS,
            alerts=(0, 4),
            verdicts=(SPLIT,) if split else (),
            outage_ms=2_000.0,
        )


class CutEthernetSerialAlive(Scenario):
    """Every ethernet between the nodes fails, the serial line lives."""

    name = "cut-ethernet-serial-alive"
    story = "service and heartbeat network between the nodes are cut: the loser is asked over the serial line"

    def play(self, stage: Stage) -> None:
        """Separate the nodes on both networks."""
        stage.moment()
        stage.say("service and heartbeat network pass nothing between A and B; the serial line lives")
        stage.lab.cut_ethernet()
        both_own_until_one_yields(stage, within_s=20.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """As with any living path."""
        split = True if daemon == "keepalived" and mode != "strict" else None
        if mode == "observe":
            return Expectation(
                "both own the VIP, a person is paged", split=True, verdicts=(SPLIT,), owner_count=2, fence=(), cut_power=0, alerts=(1, 4)
            )
        return Expectation(
            "asked over the serial line, the loser yields",
            owners=("A",),
            split=split,
            fence=(),
            cut_power=0,
            within_ms=8_000.0,
            alerts=(0, 6),
            verdicts=(SPLIT,) if split else (),
            outage_ms=2_000.0,
        )


class CutEverything(Scenario):
    """No path between the nodes is left, the power switches can be reached."""

    name = "cut-everything"
    story = "no path between the nodes is left: the node that may act fences the other, proves it, and pages"

    def play(self, stage: Stage) -> None:
        """Cut all three media."""
        nodes_hear_nothing(stage)
        if stage.setup.mode == "observe":
            stage.wait("B takes the VIP as well", stage.two_owners, 15.0)
            stage.hold(6.0)
            return
        stage.wait("a power switch cuts a node's power", lambda: not all(n.on for n in stage.lab.nodes.values()), 30.0)
        stage.fence_is_proved_and_told()

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Exactly one node loses its power."""
        if mode == "observe":
            return Expectation(
                "two owners told and paged",
                owner_count=2,
                split=True,
                fence=(),
                cut_power=0,
                alerts=(1, 6),
            )
        return Expectation(
            "one node is fenced, proved, paged",
            owner_count=1,
            split=False if mode == "strict" else None,
            fence=("requested", "proved"),
            cut_power=1,
            within_ms=FENCE_BOUND_MS,
            alerts=(1, 8),
        )


class CutEverythingAndManagement(Scenario):
    """Not even the power switches can be reached."""

    name = "cut-everything-and-management"
    story = "nothing between the nodes is left, not even the power switches: strict takes nothing over, resolve tells the truth"
    modes = ("strict", "resolve")

    def play(self, stage: Stage) -> None:
        """Cut all three media and the management network."""
        stage.moment()
        stage.say("service, heartbeat, serial and management pass nothing")
        stage.lab.cut_ethernet()
        stage.lab.cut_serial()
        stage.lab.cut_management()
        if stage.setup.mode != "strict":
            stage.wait("B takes the VIP as well", stage.two_owners, 15.0)
            stage.say("both nodes own the VIP")
        stage.hold(20.0)
        stage.wait("a person is paged", lambda: bool(stage.lab.pager.events), 20.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Nothing can be proved, so nothing is."""
        if mode == "strict":
            return Expectation(
                "no takeover, no proof claimed, paged",
                owners=("A",),
                split=False,
                cut_power=0,
                alerts=(1, 8),
            )
        return Expectation(
            "two owners, told honestly and paged",
            owners=("A", "B"),
            split=True,
            cut_power=0,
            alerts=(1, 8),
        )


class OneWay(Scenario):
    """A's frames do not reach B on the service network."""

    name = "one-way"
    beside = True
    story = "A's frames no longer reach B on the service network, B's still reach A: two masters; B is asked to yield"

    def play(self, stage: Stage) -> None:
        """Drop one direction."""
        stage.moment()
        stage.say("the service network loses every frame from A to B")
        stage.lab.switch.lose(Loss(SERVICE, "A", "B"))
        both_own_until_one_yields(stage, within_s=15.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """As with any living path."""
        split = True if daemon == "keepalived" and mode != "strict" else None
        if mode == "observe":
            return Expectation(
                "both own the VIP, a person is paged", split=True, verdicts=(SPLIT,), owner_count=2, fence=(), cut_power=0, alerts=(1, 4)
            )
        return Expectation(
            "one of the two masters yields",
            owner_count=1,
            split=split,
            fence=(),
            cut_power=0,
            within_ms=YIELD_BOUND_MS,
            alerts=(0, 6),
            verdicts=(SPLIT,) if split else (),
            outage_ms=2_000.0,
        )
