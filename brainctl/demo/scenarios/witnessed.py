"""Scenarios with a witness: the turn to fence is won, and neither rank nor the delay of the rules without it matter."""

from __future__ import annotations

from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.scenarios.cables import nodes_hear_nothing
from brainctl.demo.scenarios.processes import a_is_fenced, every_daemon_dies, everything_hangs
from brainctl.demo.setup import Site
from brainctl.demo.stage import Stage

TURN_MS = 300
"""From the confirmed danger to the durable intent: the turn is won meanwhile."""
DANGERS = ("PEER_HUNG", "PEER_DEAD", "SPLIT_BRAIN")


def turn_was_won_at_once(stage: Stage) -> None:
    """By the records of both nodes, watched from outside: the first intent follows the first confirmed danger within TURN_MS."""
    events = list(stage.lab.record_watch.events)
    confirmed = [e["t"] for e in events if e["table"] == "verdicts" and e["row"]["verdict"] in DANGERS and e["row"]["stage"] == "confirmed"]
    intents = [e["t"] for e in events if e["table"] == "fences" and e["row"]["state"] == "requested"]
    if not confirmed or not intents:
        stage.in_vain.append("no danger was confirmed, or no fence was intended")
        return
    took_ms = (min(intents) - min(confirmed)) / 1_000_000
    stage.say(f"the turn was won {took_ms:.0f} ms after the danger was confirmed")
    if took_ms > TURN_MS:
        stage.in_vain.append(f"the fence was intended {took_ms:.0f} ms after the danger was confirmed, more than {TURN_MS}")


class WitnessHangs(Scenario):
    """Every process of the master stops; B, which has rank 2, has not to wait for its turn."""

    name = "witness"
    story = "a witness (etcd): everything on A freezes, B of rank 2 wins the turn and fences A at once"
    site = Site(witness="etcd")
    beside = True

    def play(self, stage: Stage) -> None:
        """Freeze the node."""
        everything_hangs(stage)
        a_is_fenced(stage, 20.0)
        turn_was_won_at_once(stage)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """As hang-all, sooner."""
        return Expectation(
            "B wins the turn; A is fenced, proved, paged",
            owners=("B",),
            verdicts=("PEER_HUNG",),
            fence=("requested", "proved"),
            cut_power=1,
            within_ms=8_000.0,
            alerts=(1, 8),
        )


class WitnessDisk(WitnessHangs):
    """The same with a disk that both nodes share."""

    name = "witness-disk"
    story = "a witness on a shared disk: everything on A freezes, B wins the turn and fences A at once"
    site = Site(witness="disk")
    usual = False


class WitnessOrphans(WitnessHangs):
    """As orphan-all."""

    name = "witness-orphan-all"
    story = "a witness (etcd): every daemon on A is killed, the VIP stays in its kernel: B wins the turn and fences A at once"
    usual = False

    def play(self, stage: Stage) -> None:
        """Kill both daemons."""
        every_daemon_dies(stage)
        a_is_fenced(stage, 20.0)
        turn_was_won_at_once(stage)


class WitnessCutEverything(Scenario):
    """Nobody hears anybody; both reach the witness and their devices."""

    name = "witness-cut-everything"
    story = "a witness (etcd): every network between the nodes is cut and both live: one wins the turn, the other is fenced"
    site = Site(witness="etcd")
    modes = ("strict",)
    usual = False

    def play(self, stage: Stage) -> None:
        """Cut."""
        nodes_hear_nothing(stage)
        stage.wait("one node's power is cut", lambda: not (stage.node("A").on and stage.node("B").on), 20.0)
        stage.fence_is_proved_and_told()

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Exactly one."""
        return Expectation("exactly one is fenced", owner_count=1, fence=("requested", "proved"), cut_power=1, alerts=(1, 10))
