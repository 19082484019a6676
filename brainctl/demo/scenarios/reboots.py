"""Scenarios in which something beside the pair reboots: the last possible owner keeps what it has."""

from __future__ import annotations

import signal

from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.stage import Stage

REBOOT_S = 12.0


class GatewayReboots(Scenario):
    """The standby is dead and proved off; then the only reference is silent for a while."""

    name = "gateway-reboots"
    case = "J3 T4"
    story = "B has lost its power and is proved off; then the gateway reboots: A is the last possible owner and keeps the address"
    modes: tuple[str, ...] = ("resolve", "strict")

    def play(self, stage: Stage) -> None:
        """End B, then the gateway for some seconds."""
        stage.moment()
        self.end_standby(stage)
        stage.say("the gateway reboots")
        stage.lab.gateway(up=False)
        stage.hold(REBOOT_S)
        stage.say("the gateway is back")
        stage.lab.gateway(up=True)
        stage.hold(3.0)
        stage.wait("A serves the client", stage.served_by("A"), 2.0)

    def end_standby(self, stage: Stage) -> None:
        """Power off, then the proof."""
        stage.say("B loses its power")
        stage.lab.unpower("B")
        stage.wait("B is proved off", lambda: stage.recorded_fence("proved"), 25.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Nobody else can own it."""
        return Expectation("A keeps the address", owners=("A",), never=("NO_OWNER/confirmed",), split=False, outage_ms=600.0)


class GatewayRebootsAfterStop(GatewayReboots):
    """The standby was shut down in order."""

    name = "gateway-reboots-after-stop"
    story = "B was shut down in order; then the gateway reboots: A is the last possible owner and keeps the address"
    modes = ("resolve",)
    usual = False

    def end_standby(self, stage: Stage) -> None:
        """systemd's order: braind, the VRRP daemon, power."""
        stage.say("B is shut down: braind, the VRRP daemon, power")
        node = stage.node("B")
        for job in ("braind", "vrrp"):
            node.signal(job, signal.SIGTERM)
            stage.wait(f"B's {job} has ended", lambda job=job: not node.running(job), 15.0)  # type: ignore[misc]
        stage.lab.unpower("B")
        stage.hold(3.0)


class OwnerShutsDown(Scenario):
    """The owner is shut down in order, and its power goes."""

    name = "owner-shuts-down"
    case = "J2"
    story = "A, the owner, is shut down in order: braind, the VRRP daemon, power. B owns the address as soon as A released it"
    modes = ("resolve", "strict")
    usual = False

    def play(self, stage: Stage) -> None:
        """systemd's order: braind is stopped after the VRRP daemon where its unit says so."""
        stage.moment()
        stage.say("A is shut down: braind, the VRRP daemon, power")
        node = stage.node("A")
        for job in ("braind", "vrrp"):
            node.signal(job, signal.SIGTERM)
            stage.wait(f"A's {job} has ended", lambda job=job: not node.running(job), 15.0)  # type: ignore[misc]
        stage.lab.unpower("A")
        stage.wait("B serves the client", stage.served_by("B"), 25.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Released is released."""
        return Expectation("B owns the address", owners=("B",), split=False, outage_ms=9_000.0)
