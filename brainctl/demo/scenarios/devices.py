"""Scenarios about the fence itself: a device that lies, a node that comes back, a braind that dies in the act."""

from __future__ import annotations

from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.scenarios.cables import nodes_hear_nothing
from brainctl.demo.scenarios.processes import every_daemon_dies, everything_hangs
from brainctl.demo.stage import Stage


class LyingFence(Scenario):
    """The first level says done and does nothing."""

    name = "lying-fence"
    story = "A freezes; the first power switch says done, is deaf, and later reads ON: refuted; the second level proves"
    levels = ("bmc", "pdu")

    def play(self, stage: Stage) -> None:
        """Make the first device lie to its agent, which looks once after the order, then freeze A."""
        stage.lab.behave("A", "bmc", deaf=True, pretends_reads=1)
        everything_hangs(stage)
        if stage.setup.mode == "observe":
            stage.hold(8.0)
            return
        stage.wait("A's power is cut", lambda: not stage.node("A").on, 60.0)
        stage.fence_is_proved_and_told()

    def expect(self, mode: str, daemon: str) -> Expectation:
        """A lie of the action is found out by two readings."""
        if mode == "observe":
            return Expectation("paged", fence=(), cut_power=0, alerts=(1, 6))
        return Expectation(
            "refuted, then proved by the second level",
            owners=("B",),
            fence=("refuted", "proved"),
            cut_power=1,
            alerts=(1, 8),
        )


class LyingStatus(Scenario):
    """The device lies in action and in status: the stated limit (docs/FENCING.md). What anybody can send refutes no reading."""

    name = "lying-status"
    story = "A freezes; its power switch says done and reads off, and is deaf; a page says that somebody answers in its name"
    usual = False

    def play(self, stage: Stage) -> None:
        """Make the device lie in everything, then freeze A."""
        stage.lab.behave("A", "bmc", deaf=True, pretends=True)
        everything_hangs(stage)
        stage.wait("the fence is called proved", lambda: stage.recorded_fence("proved"), 40.0)
        stage.wait("a page says that somebody answers in A's name", stage.paged("in its name"), 10.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """The readings count, the contradiction is paged."""
        return Expectation("proved by the readings, the contradiction is paged", cut_power=0, alerts=(1, 8), pages=("in its name",))


class FencedNodeReturns(Scenario):
    """The fenced node boots again."""

    name = "fenced-node-returns"
    story = "one node is fenced in a cut; mended and switched on again by the written steps it is quarantined, then a standby: no page"

    def play(self, stage: Stage) -> None:
        """Cut, fence, mend, power on."""
        nodes_hear_nothing(stage)
        if stage.setup.mode == "observe":
            stage.hold(8.0)
            return
        if not stage.wait("a power switch cuts a node's power", lambda: not all(n.on for n in stage.lab.nodes.values()), 40.0):
            return
        fenced = next(node.name for node in stage.lab.nodes.values() if not node.on)
        other = next(name for name in stage.lab.nodes if name != fenced)
        stage.fence_is_proved_and_told()
        stage.wait("its fence is told", stage.paged("is proved off"), 10.0)
        stage.hold(0.5)  # what was under way to the pager is no page about its return
        stage.lab.mend()
        paged = len(stage.triggers())
        stage.say(f"the cables are mended and {fenced} is switched on again: brainctl fence on {fenced}")
        stage.order(other, "fence", "on", fenced, "--no-wait")  # the laboratory itself carries out what the switch is told
        stage.wait(f"{fenced} has power", lambda: stage.node(fenced).on, 10.0)
        stage.start_daemons(fenced)
        stage.wait(f"{fenced} says that it is in quarantine", stage.status_says(fenced, "in quarantine"), 15.0)
        stage.hold(8.0)
        stage.say(f"brainctl fence clear quarantine on {fenced}")
        stage.order(fenced, "fence", "clear", "quarantine")
        stage.wait(f"brainctl status on {fenced} finds nothing", lambda: stage.succeeds(fenced, "status"), 20.0)
        stage.wait("one owner", stage.one_owner(1.0), 10.0)
        for page in stage.triggers()[paged:]:
            stage.in_vain.append(f"paged after its return: {page[:200]}")

    def expect(self, mode: str, daemon: str) -> Expectation:
        """One fence, not two."""
        if mode == "observe":
            return Expectation("paged", fence=(), cut_power=0, alerts=(1, 8))
        return Expectation(
            "quarantined after its return, no second fence",
            owner_count=1,
            fence=("proved",),
            cut_power=1,
            alerts=(1, 10),
        )


class KillBetweenIntentAndResult(Scenario):
    """braind dies while the device works."""

    name = "kill-between-intent-and-result"
    story = "braind is killed while the power switch works: after its restart the fence is unknown, verified, and not repeated"

    def play(self, stage: Stage) -> None:
        """Slow devices, cut everything, kill the braind that acts."""
        for name in stage.lab.nodes:
            stage.lab.behave(name, "bmc", delay_s=2.0)
        nodes_hear_nothing(stage, "the power switches take two seconds; ")
        if stage.setup.mode == "observe":
            stage.hold(8.0)
            return
        if not stage.wait("a power switch is asked to act", lambda: stage.asked_to_act() is not None, 40.0):
            return
        target = stage.asked_to_act()
        actor = "A" if target == "B" else "B"
        stage.say(f"{actor}'s braind is killed while {target}'s power switch works")
        stage.node(actor).kill("braind")
        stage.hold(1.0)
        stage.say(f"{actor}'s braind is started again")
        stage.start_brain(actor)
        stage.wait(f"{target} has no power", lambda: not stage.node(str(target)).on, 20.0)
        stage.wait("the open fence is called unknown", lambda: stage.recorded_fence("unknown"), 15.0)
        stage.wait("the client is served by the owner", stage.client_follows, 10.0)
        stage.hold(12.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Never twice."""
        if mode == "observe":
            return Expectation("paged", fence=(), cut_power=0, alerts=(1, 8))
        return Expectation(
            "unknown, verified, not repeated",
            owner_count=1,
            fence=("requested", "unknown"),
            cut_power=1,
            alerts=(1, 10),
        )


class RestartInTime(Scenario):
    """The peer comes back while the fence waits."""

    name = "restart-in-time"
    beside = True
    story = "A's daemons are killed; its VRRP daemon is started again while B waits to fence: the second look spares A"

    def play(self, stage: Stage) -> None:
        """Kill both daemons, wait until B is about to fence, start the VRRP daemon again."""
        every_daemon_dies(stage)
        stage.watch_until(stage.about_to_fence, 15.0)
        stage.hold(0.5)
        if stage.setup.mode == "strict":
            # No grant without a watcher: in strict mode a node is back only when both its daemons are.
            stage.say("A's VRRP daemon and braind are started again")
            stage.start_daemons("A")
        else:
            stage.say("A's VRRP daemon is started again, its braind is not")
            stage.start_vrrp("A")
        stage.hold(stage.setup.fence_delay_ms / 1000 + 6.0)
        if stage.setup.mode == "strict":
            stage.wait("one owner", stage.one_owner(1.5), 15.0)
        else:
            stage.wait("A is the only owner", stage.owned_by("A"), 10.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """A living node is not fenced on old evidence. strict gives the address to whoever gets the other's release first."""
        if mode == "strict":
            return Expectation("the second look spares A", owner_count=1, cut_power=0)
        return Expectation("the second look spares A", owners=("A",), cut_power=0)
