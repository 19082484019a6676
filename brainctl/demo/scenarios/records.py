"""Scenarios in which the record is sick: a page must not wait for a disk."""

from __future__ import annotations

from brainctl.demo.addresses import NODES
from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.scenarios.cables import YIELD_BOUND_MS, adverts_are_lost, both_own_until_one_yields
from brainctl.demo.stage import Stage

STATE = "/var/lib/brainctl"
DISK = "24m"
PAGED_WITHIN_S = 8.0
"""Seconds, not minutes: a verdict's confirmation, and a busy machine."""
NO_ROOM, SPLIT_TOLD = r"disk|space|record", "both nodes own|SPLIT_BRAIN"


class DiskFull(Scenario):
    """The disk of the state is full on both nodes when a split happens."""

    name = "disk-full"
    case = "A3 S1"
    story = "the disk of both records is full: told before it is needed; then the firewalls drop VRRP: the page still leaves in seconds"
    usual = False

    def play(self, stage: Stage) -> None:
        """A small disk, filled, then as cut-heartbeat."""
        for name in NODES:
            node = stage.node(name)
            stage.say(f"{name}'s state moves to a disk of {DISK}")
            stage.stop_brain(name)
            node.run("cp", "-a", STATE, "/tmp/state")  # noqa: S108
            node.run("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "tmpfs", STATE)
            node.run("cp", "-a", "/tmp/state/.", STATE)  # noqa: S108
            stage.start_brain(name)
        for name in NODES:
            stage.wait(f"{name} is content", lambda name=name: stage.succeeds(name, "status"), 20.0)  # type: ignore[misc]
        stage.say("both disks are filled")
        for name in NODES:
            stage.node(name).run_unchecked("dd", "if=/dev/zero", f"of={STATE}/something-else", "bs=64k")
        stage.wait("a page says that there is no room for the record", stage.paged(NO_ROOM), 60.0)
        adverts_are_lost(stage)
        if stage.setup.daemon == "keepalived" and stage.setup.mode != "strict":
            stage.wait("B takes the VIP as well", stage.two_owners, 15.0)
            stage.wait("the split is paged", stage.paged(SPLIT_TOLD), PAGED_WITHIN_S)
        both_own_until_one_yields(stage, within_s=15.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """As cut-heartbeat, but for the record."""
        split = True if daemon == "keepalived" and mode != "strict" else None
        pages = (NO_ROOM, SPLIT_TOLD) if split else (NO_ROOM,)
        if mode == "observe":
            return Expectation("paged, both own the VIP", owner_count=2, split=True, fence=(), cut_power=0, alerts=(2, 8), pages=pages)
        return Expectation(
            "paged in seconds, the loser yields",
            owners=("A",),
            split=split,
            fence=(),
            cut_power=0,
            within_ms=YIELD_BOUND_MS,
            alerts=(1, 12),
            pages=pages,
            outage_ms=2_000.0,
        )
