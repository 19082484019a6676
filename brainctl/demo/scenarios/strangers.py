"""Scenarios with a third host."""

from __future__ import annotations

from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.stage import Stage

FORGED = 79


def stranger_takes(stage: Stage, of: str, said: str) -> None:
    """A third host takes a watched address."""
    stage.moment()
    stage.say(f"{said} and announces it")
    stage.lab.stranger_takes_address(of)
    stage.wait("two hosts answer", lambda: stage.two_owners(of), 5.0)
    stage.wait("a person is paged", stage.paged(), 15.0)
    stage.hold(2.0)


class Foreign(Scenario):
    """A third host takes the address."""

    name = "foreign"
    beside = True
    story = "a third host configures the VIP: named, paged, and nobody is fenced for it"

    def play(self, stage: Stage) -> None:
        """Let the stranger take the VIP for a while."""
        stranger_takes(stage, "vip", "a third host configures the VIP")

    def expect(self, mode: str, daemon: str) -> Expectation:
        """No fence can end this."""
        return Expectation(
            "FOREIGN_OWNER, paged, nobody fenced",
            owners=("A", "stranger"),
            split=True,
            verdicts=("FOREIGN_OWNER",),
            fence=(),
            cut_power=0,
            alerts=(1, 6),
        )


class ForgedFrames(Scenario):
    """A host of the LAN forges what anybody can send."""

    name = "stranger"
    case = "A1"
    story = "B's braind is dead; a third host forges 79 adverts and 79 ARP claims in B's name: healthy B is not fenced"
    modes = ("resolve", "strict")
    beside = True

    def play(self, stage: Stage) -> None:
        """Kill the standby's watcher, then forge."""
        stage.moment()
        stage.say("B's braind is killed (SIGKILL)")
        stage.node("B").kill("braind")
        stage.hold(1.5)
        stage.say("a third host forges adverts and ARP claims in B's name, ten a second")
        with stage.lab.forger(count=FORGED, per_second=10) as forger:
            stage.wait("all is sent", lambda: any(event["event"] == "sent" for event in forger.events), 20.0)
        stage.hold(stage.setup.fence_delay_ms / 1000)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """What anybody can send is no evidence for a fence."""
        return Expectation("nobody is fenced", owners=("A",), fence=(), cut_power=0, alerts=(1, 10))
