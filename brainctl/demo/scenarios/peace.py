"""Scenarios in which nothing is wrong: whatever looks like a split must not be called one."""

from __future__ import annotations

import signal

from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.stage import Stage

ALARMS = ("SPLIT_BRAIN/confirmed", "PEER_DEAD", "PEER_HUNG", "ORPHAN_VIP", "FOREIGN_OWNER", "ISOLATED", "MISCONFIGURED")


class Quiet(Scenario):
    """Nothing happens for minutes."""

    name = "quiet"
    story = "a healthy pair for two minutes: no verdict but HEALTHY, no alert"
    seconds = 120.0
    beside = True

    def play(self, stage: Stage) -> None:
        """Wait."""
        stage.say(f"nothing happens for {self.seconds:g} s")
        stage.hold(self.seconds)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Silence."""
        return Expectation(
            "no verdict but HEALTHY, no alert",
            owners=("A",),
            split=False,
            handover_ms=0.0,
            verdicts=(),
            never=(*ALARMS, "SPLIT_BRAIN", "NO_OWNER", "PATH_DEGRADED", "UNKNOWN"),
            fence=(),
            cut_power=0,
            alerts=(0, 0),
            outage_ms=400.0,
        )


class Planned(Scenario):
    """A graceful handover and back."""

    name = "planned"
    beside = True
    story = "A's VRRP daemon is stopped in an orderly way and started again: handover and return without alarm"

    def play(self, stage: Stage) -> None:
        """Stop A, see B take over, start A again, see it come back."""
        stage.moment()
        stage.say("A's VRRP daemon is stopped (SIGTERM)")
        stage.node("A").signal("vrrp", signal.SIGTERM)
        stage.wait("B takes over", stage.owned_by("B"), 10.0)
        stage.node("A").wait_exit("vrrp", 10.0)
        stage.hold(3.0)
        stage.say("A's VRRP daemon is started again")
        stage.start_vrrp("A")
        if stage.setup.mode == "strict":
            stage.hold(6.0)  # B holds it by right, and nobody asked B to give it up
        else:
            stage.wait("A takes its address back", stage.owned_by("A"), 20.0)
        stage.hold(3.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """No confirmed alarm; in strict the address stays where it went."""
        strict = mode == "strict"
        return Expectation(
            "handover without alarm, no return without being asked" if strict else "handover and return without alarm",
            owners=("B",) if strict else ("A",),
            split=False,
            never=ALARMS,
            fence=(),
            cut_power=0,
            alerts=(0, 0),
            outage_ms=6_000.0 if strict else 3_000.0,
        )


class Reload(Scenario):
    """SIGHUP on both nodes."""

    name = "reload"
    beside = True
    story = "both VRRP daemons reload a changed file: mastership stays"

    def play(self, stage: Stage) -> None:
        """Change a harmless line on both nodes, one after the other."""
        for name in ("B", "A"):
            stage.moment()
            node = stage.node(name)
            file = node.disk / "etc-keepalived" / "keepalived.conf"
            file.write_text(file.read_text().replace("    interface eth0\n", "    interface eth0\n    garp_master_delay 2\n"))
            stage.say(f"{name} reloads a changed keepalived.conf (SIGHUP)")
            node.signal("vrrp", signal.SIGHUP)
            stage.hold(3.0)
        stage.wait("A is the only owner", stage.owned_by("A"), 10.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Nothing but a reload."""
        return Expectation(
            "mastership stays, no alarm",
            owners=("A",),
            split=False,
            never=ALARMS,
            fence=(),
            cut_power=0,
            alerts=(0, 0),
            outage_ms=1_500.0,
        )
