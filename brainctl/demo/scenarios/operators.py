"""Scenarios of what a person orders: nothing is wrong, nobody is paged, and the client hardly notices."""

from __future__ import annotations

from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.scenarios.peace import ALARMS
from brainctl.demo.stage import Stage

SKEW_MS = 1_000.0
"""What plain VRRP needs after a priority 0, for the lower priority of the pair, and what the client's clock adds."""


class HandoverAndBack(Scenario):
    """There, a restart of the watcher on the node under work, and back."""

    name = "handover"
    case = "N6 N14 S5 S6"
    story = "A hands over, its braind is restarted and reloaded meanwhile, B hands back after 8 s: no gap longer than a skew, no page"
    usual = False

    def play(self, stage: Stage) -> None:
        """As an operator would who works on A."""
        stage.moment()
        stage.say("brainctl handover on A")
        stage.order("A", "handover")
        stage.wait("B takes over", stage.owned_by("B"), 10.0)
        stage.hold(2.0)
        stage.say("A's braind is restarted")
        stage.stop_brain("A")
        if "stays held until braind runs again" not in (stage.node("A").disk / "log" / "braind.log").read_text():
            stage.in_vain.append("the stop did not say that A stays held")
        stage.start_brain("A")
        stage.hold(4.0)
        stage.say("A's braind is reloaded")
        stage.reload_brain("A")
        stage.hold(8.0)
        stage.wait("B still owns it", stage.owned_by("B"), 2.0)
        stage.say("brainctl handover on B")
        stage.order("B", "handover")
        stage.wait("A takes it back", stage.owned_by("A"), 15.0)
        stage.hold(6.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Nothing but two quick moves."""
        return Expectation(
            "two moves, no alarm, no gap longer than a skew",
            owners=("A",),
            split=False,
            never=ALARMS,
            fence=(),
            cut_power=0,
            alerts=(0, 0),
            outage_ms=6_000.0 if mode == "strict" else SKEW_MS,
        )
