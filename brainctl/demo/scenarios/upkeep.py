"""Scenarios of upkeep by the written steps of docs/UPGRADE.md: nothing is fenced, nobody is paged, and status shows every step."""

from __future__ import annotations

import shutil
from dataclasses import replace

from brainctl.demo.addresses import NODES
from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.scenarios.operators import SKEW_MS
from brainctl.demo.scenarios.peace import ALARMS
from brainctl.demo.setup import Site
from brainctl.demo.stage import Stage

STRICT_HANDOVER_MS = 6_000.0
"""A skew, and what `brainctl check` prints for a takeover in strict, where the release is asked for."""
UNNOTICED_MS = 400.0
"""What a client may miss when nothing moves, on a busy machine."""


def undisturbed(text: str, owner: str, outage_ms: float) -> Expectation:
    """No fence, no page, no alarm."""
    return Expectation(text, owners=(owner,), split=False, never=ALARMS, fence=(), cut_power=0, alerts=(0, 0), outage_ms=outage_ms)


def content(stage: Stage, name: str, within_s: float = 20.0) -> None:
    """Wait until ``brainctl status`` on a node ends with 0: every path is heard, every gate obeyed, nothing is on its way."""
    stage.wait(f"brainctl status on {name} finds nothing", lambda: stage.succeeds(name, "status"), within_s)


class Upgrade(Scenario):
    """One node after the other, the standby first."""

    name = "upgrade"
    story = "both nodes run the release before; the standby is upgraded, then the other: status says so meanwhile, no fence, no page"
    modes = ("resolve", "strict")
    site = Site(older=True)
    usual = False

    def play(self, stage: Stage) -> None:
        """docs/UPGRADE.md, Upgrade."""
        stage.say("maintenance on")
        for name in NODES:
            stage.order(name, "maintenance", "on", "--for", "30m", "--why", "upgrade")
        self._upgrade(stage, "B")
        stage.wait("B says that A runs an older release", stage.status_says("B", "A runs an older release"), 15.0)
        stage.hold(8.0)
        self._upgrade(stage, "A")
        stage.say("maintenance off")
        for name in NODES[::-1]:
            stage.order(name, "maintenance", "off")
        for name in NODES:
            content(stage, name)
        stage.hold(3.0)

    def _upgrade(self, stage: Stage, name: str) -> None:
        stage.say(f"{name}: check, the new release is started")
        stage.wait(f"brainctl check on {name} finds no error", lambda: stage.succeeds(name, "check", "--node", name), 10.0)
        stage.stop_brain(name)
        stage.start_brain(name)
        stage.hold(4.0)
        for one in NODES:
            stage.wait(f"{one} hears its peer on every path", lambda one=one: stage.hears_on_every_path(one), 15.0)  # type: ignore[misc]

    def expect(self, mode: str, daemon: str) -> Expectation:
        """As if nothing were."""
        return undisturbed("no fence, no page, A goes on serving", "A", UNNOTICED_MS)


class KeyChange(Scenario):
    """The cluster key is changed under a running pair."""

    name = "key-change"
    story = "the cluster key is changed by the written steps: status says who still sends with the old one, no path is lost, no page"
    modes = ("resolve", "strict")
    usual = False

    def play(self, stage: Stage) -> None:
        """docs/UPGRADE.md, Changing the cluster key."""
        old = stage.key_file("A").read_text()
        stage.brainctl("A", "init", "--out", "/tmp/x", "--node", "A", "--peer", "B")  # noqa: S108
        new = (stage.node("A").root / "tmp/x/cluster.key").read_text()
        for text, said in ((old + new, ""), (new + old, "still sends with the second key"), (new, "")):
            for name, peer in (("A", "B"), ("B", "A")):
                stage.say(f"{name}: another key file, reload")
                stage.key_file(name).write_text(text)
                stage.reload_brain(name)
                if said and name == "A":
                    stage.wait(f"A says that {peer} {said}", stage.status_says("A", f"{peer} {said}"), 15.0)
                stage.hold(4.0)
            for name in NODES:
                content(stage, name)
        stage.hold(2.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """As if nothing were."""
        return undisturbed("no fence, no page, A goes on serving", "A", UNNOTICED_MS)


class NodeReplaced(Scenario):
    """The owner is another machine now, with the same name."""

    name = "node-replaced"
    story = "A is replaced by a new machine of the same name by the written steps: no fence, no page; B says that A counts its starts anew"
    modes = ("resolve", "strict")
    usual = False

    def play(self, stage: Stage) -> None:
        """docs/UPGRADE.md, Replacing a node; B stays."""
        stage.say("maintenance on at B, handover on A")
        stage.order("B", "maintenance", "on", "--for", "4h", "--why", "replacing A")
        stage.order("A", "handover")
        stage.wait("B serves", stage.owned_by("B"), 15.0)
        stage.say("A: the VRRP daemon and braind are stopped, the machine is switched off")
        stage.stop_vrrp("A")
        stage.stop_brain("A")
        stage.lab.unpower("A")
        stage.hold(6.0)
        stage.say("the new machine: same brain.toml and key, an empty /var/lib/brainctl")
        shutil.rmtree(stage.node("A").disk / "var-lib" / "brainctl")
        stage.power_on("A")
        stage.enrol("A")
        stage.wait("brainctl check on A finds no error", lambda: stage.succeeds("A", "check", "--node", "A"), 10.0)
        stage.start_daemons("A")
        stage.wait("B says that A counts its starts anew", stage.status_says("B", "A counts its starts anew"), 20.0)
        stage.hold(4.0)
        stage.say("maintenance off")
        stage.order("B", "maintenance", "off")
        content(stage, "A")
        stage.wait("one owner", stage.one_owner(2.0), 10.0)
        stage.hold(2.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Two planned moves at most; with priority 150 the new A takes its address back, except in strict."""
        text, never = "no fence, no page", tuple(verdict for verdict in ALARMS if verdict != "PEER_DEAD")  # it is off, after all
        if mode == "strict":
            return replace(undisturbed(text, "B", STRICT_HANDOVER_MS), never=never)
        return replace(undisturbed(text, "A", SKEW_MS), never=never)
