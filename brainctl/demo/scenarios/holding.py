"""Scenarios about a hold that must hold, and must end: what the VRRP daemon does with what it is told."""

from __future__ import annotations

import signal

from brainctl.demo.kernel import ip
from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.scenarios.cables import SPLIT, YIELD_BOUND_MS, adverts_are_lost, both_own_until_one_yields
from brainctl.demo.setup import Site
from brainctl.demo.stage import Stage

MANY = 40
CANNOT_HOLD = r"cannot hold|not obey|does not hold|hold.{0,40}(fail|not)"
"""What a page about a VRRP daemon that cannot be held says."""


class ManyAddresses(Scenario):
    """Forty addresses are announced again and again while two nodes own them."""

    name = "many-addresses"
    case = "T1"
    story = "one group with 40 addresses; the firewalls drop VRRP: the loser yields all of them, and no beat is late for it"
    site = Site(addresses=MANY)

    def play(self, stage: Stage) -> None:
        """As cut-heartbeat."""
        adverts_are_lost(stage)
        both_own_until_one_yields(stage, within_s=15.0)
        stage.hold(2.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """The announcements of 40 addresses stop nothing."""
        if mode == "observe":
            return Expectation(
                "both own them, a person is paged", split=True, owner_count=2, fence=(), cut_power=0, alerts=(1, 2), beat_gap_ms=800.0
            )
        split = True if daemon == "keepalived" and mode != "strict" else None
        return Expectation(
            "one owner of each address, the beats keep their rhythm",
            owners=("A",),
            split=split,
            verdicts=(SPLIT,) if split else (),
            fence=(),
            cut_power=0,
            within_ms=YIELD_BOUND_MS,
            alerts=(0, 4),
            outage_ms=2_000.0,
            each_owned_once=True,
            beat_gap_ms=800.0,
        )


class HoldIgnored(Scenario):
    """keepalived's configuration on B lacks what braind holds it with."""

    name = "hold-ignored"
    case = "T6"
    story = "B's keepalived.conf lacks the stanza: a yield that does not stick has failed; paged, and B is fenced"
    daemons = ("keepalived",)
    site = Site(unheld=("B",))
    found_at_start = True

    def play(self, stage: Stage) -> None:
        """As cut-heartbeat."""
        self.prepare(stage)
        adverts_are_lost(stage)
        if stage.setup.mode == "strict":
            stage.hold(8.0)
            if self.found_at_start:
                stage.wait("a page says that B's keepalived cannot be held", lambda: stage.was_ever_paged(CANNOT_HOLD), 20.0)
            return
        stage.wait("B takes the VIP as well", stage.two_owners, 15.0)
        stage.wait("a page says that B's keepalived cannot be held", stage.paged(CANNOT_HOLD), 20.0)
        stage.wait("a power switch cuts B's power", lambda: not stage.node("B").on, 30.0)
        stage.fence_is_proved_and_told()

    def prepare(self, stage: Stage) -> None:
        """Before the fault."""

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Asking for ever is no answer."""
        if mode == "strict":  # no split to end: a B that nothing holds owned it from the start and A is held, else B was never let go
            return Expectation("one owner all the time", owners=("B" if self.found_at_start else "A",), split=False, fence=(), cut_power=0)
        return Expectation(
            "paged, and the node that cannot be held is fenced",
            owners=("A",),
            split=True,
            verdicts=(SPLIT,),
            fence=("requested", "proved"),
            cut_power=1,
            alerts=(1, 10),
            pages=(CANNOT_HOLD,),
        )


class HoldUnwritable(HoldIgnored):
    """The gate directory became read-only."""

    name = "hold-unwritable"
    story = "B's gate directory is read-only: the hold cannot be written; paged, and B is fenced"
    site = Site()
    found_at_start = False
    usual = False

    def prepare(self, stage: Stage) -> None:
        """Mount the directory over itself, read-only."""
        stage.say("B's gate directory becomes read-only")
        gate = "/run/brainctl/gate"
        stage.node("B").run("mount", "--bind", gate, gate)
        stage.node("B").run("mount", "-o", "remount,ro,bind", gate)


class GateLate(Scenario):
    """keepalived was started before the gate directory was there: it has dropped the track_file."""

    name = "gate-late"
    case = "N2"
    story = "both keepalived started before the gate directory existed and do not obey: found and paged before it is needed"
    modes = ("resolve", "strict")
    daemons = ("keepalived",)
    site = Site(gate_late=("A", "B"))
    usual = False

    def play(self, stage: Stage) -> None:
        """Only look on: no fault is needed to find it."""
        stage.wait("a page says that keepalived cannot be held", lambda: stage.was_ever_paged(CANNOT_HOLD), 25.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """A hold that does not hold is no hold."""
        return Expectation("paged before it is needed", owners=("A",), fence=(), cut_power=0, alerts=(1, 6))


class HoldEnds(Scenario):
    """A hold that is over must not keep the standby from its work."""

    name = "hold-ends"
    case = "T11"
    story = "an address is put on B by hand and removed by braind; then A's VRRP daemon hangs: B takes over as ever"
    usual = False

    def play(self, stage: Stage) -> None:
        """By hand, then hang."""
        stage.moment()
        plan = stage.lab.plan
        stage.say("somebody configures the VIP on B by hand")
        ip(stage.node("B").network, f"addr add {plan.vip}/{plan.service.prefixlen} dev eth0")
        stage.wait("B's braind removes it", stage.owned_by("A", for_s=3.0), 15.0)
        stage.say("A's VRRP daemon is frozen (SIGSTOP)")
        stage.node("A").freeze("vrrp")
        stage.wait("B is the only owner", stage.owned_by("B", for_s=1.5), 20.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """As hang."""
        return Expectation("B takes over as if nothing had been", owners=("B",), fence=(), cut_power=0, alerts=(0, 8), outage_ms=6_000.0)


class OwnerStopsAfterSplit(Scenario):
    """A backup that was held for a split must hear the owner's last word."""

    name = "owner-stops-after-split"
    case = "S4"
    story = "a split is ended and its cause mended; seconds later A's VRRP daemon is stopped: B takes over as soon as ever"
    modes = ("resolve", "strict")
    usual = False

    def play(self, stage: Stage) -> None:
        """Split, mend, stop."""
        adverts_are_lost(stage)
        stage.watch_until(stage.two_owners, 4.0)
        stage.hold(4.0)
        stage.say("the firewalls are mended")
        stage.firewall_is_mended()
        stage.hold(5.0)
        stage.wait("A is the only owner", stage.owned_by("A"), 10.0)
        stage.moment()
        stage.say("A's VRRP daemon is stopped (SIGTERM)")
        stage.node("A").signal("vrrp", signal.SIGTERM)
        stage.wait("B takes over", stage.owned_by("B"), 15.0)
        stage.hold(2.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """A hold ends with its reason; priority 0 counts."""
        held = mode == "resolve" and daemon == "keepalived"  # it may still be held, comes back through BACKUP and waits for a master
        outage_ms = 6_000.0 if mode == "strict" else 3_000.0 if held else 1_000.0
        return Expectation("B takes over as soon as it can", owners=("B",), fence=(), cut_power=0, alerts=(0, 8), outage_ms=outage_ms)


class NoPreempt(Scenario):
    """Where the daemons do not preempt, who serves keeps it."""

    name = "nopreempt"
    case = "T9"
    story = "nopreempt: B owns since A was restarted; the firewalls drop VRRP: B keeps the address"
    site = Site(nopreempt=True)
    usual = False

    def play(self, stage: Stage) -> None:
        """Move it to B, then cut."""
        stage.moment()
        stage.say("A's VRRP daemon is stopped (SIGTERM) and started again")
        stage.stop_vrrp("A")
        stage.wait("B takes over", stage.owned_by("B"), 10.0)
        stage.start_vrrp("A")
        stage.hold(4.0)
        stage.wait("B keeps it", stage.owned_by("B"), 5.0)
        adverts_are_lost(stage)
        stage.watch_until(stage.two_owners, 6.0)
        stage.wait("B is the only owner", stage.owned_by("B", for_s=1.5), 15.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Not the rank, but who serves."""
        return Expectation(
            "B keeps the address", owners=("B",), fence=(), cut_power=0, alerts=(0, 4), within_ms=YIELD_BOUND_MS, outage_ms=3_000.0
        )


class NoStandby(Scenario):
    """Nobody would take over."""

    name = "no-standby"
    case = "N7"
    story = "B's VRRP daemon is gone: nothing is lost yet, but nobody would take over: a page says so"
    modes = ("observe", "resolve")
    usual = False

    def play(self, stage: Stage) -> None:
        """Kill the standby's daemon."""
        stage.moment()
        stage.say("B's VRRP daemon is killed (SIGKILL)")
        stage.node("B").kill("vrrp")
        stage.wait("a page says that there is no standby", stage.paged("standby"), 50.0)
        stage.hold(1.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """A warning in time."""
        return Expectation(
            "paged: no standby", owners=("A",), split=False, fence=(), cut_power=0, alerts=(1, 4), pages=("standby",), outage_ms=500.0
        )
