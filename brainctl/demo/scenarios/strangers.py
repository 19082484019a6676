"""Scenarios with a third host."""

from __future__ import annotations

from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.stage import Stage


class Foreign(Scenario):
    """A third host takes the address."""

    name = "foreign"
    beside = True
    story = "a third host configures the VIP: named, paged, and nobody is fenced for it"

    def play(self, stage: Stage) -> None:
        """Let the stranger take the VIP for a while."""
        stage.moment()
        stage.say("a third host configures the VIP and announces it")
        stage.lab.stranger_takes_address()
        stage.wait("two hosts answer", stage.two_owners, 5.0)
        stage.wait("a person is paged", lambda: bool(stage.lab.pager.events), 15.0)
        stage.hold(2.0)

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
