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
        stage.wait("B is proved off", stage.proved_off("B"), 25.0)

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
        """By the order of the units."""
        shut_down(stage, "B", ("vrrp", "braind"))
        stage.hold(3.0)


class OwnerShutsDown(Scenario):
    """The owner is shut down in order, and its power goes."""

    name = "owner-shuts-down"
    case = "J2"
    story = "A, the owner, is shut down by the order of the units, then its power goes: B owns the address as soon as A released it"
    modes = ("resolve", "strict")
    usual = False
    order: tuple[str, ...] = ("vrrp", "braind")

    def play(self, stage: Stage) -> None:
        """Shut down, and see what becomes of the address."""
        stage.moment()
        shut_down(stage, "A", self.order)
        self.afterwards(stage)

    def afterwards(self, stage: Stage) -> None:
        """B serves."""
        stage.wait("B serves the client", stage.served_by("B"), 25.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Released is released."""
        return Expectation("B owns the address", owners=("B",), split=False, outage_ms=9_000.0)


class WatcherStopsFirst(OwnerShutsDown):
    """Somebody stops braind first: nobody is there any more who could release."""

    name = "watcher-stops-first"
    story = "A, the owner, is shut down, its braind first, then its power goes: B owns the address, or (strict) a critical page says why"
    order = ("braind", "vrrp")

    def afterwards(self, stage: Stage) -> None:
        """B serves, or a person knows."""
        served, paged = stage.served_by("B"), stage.paged(r'"severity": "critical"|CRITICAL')
        stage.wait("B serves the client, or a critical page says why not", lambda: served() or paged(), 25.0)
        if stage.setup.mode != "strict":
            stage.wait("B serves the client", served, 10.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """strict may choose no service, but not in silence."""
        if mode == "strict":
            return Expectation("B owns the address, or a critical page", split=False)
        return super().expect(mode, daemon)


def shut_down(stage: Stage, name: str, order: tuple[str, ...]) -> None:
    """What systemd does: one unit after the other, each to its end, then the power."""
    stage.say(f"{name} is shut down: {', '.join(order)}, power")
    node = stage.node(name)
    for job in order:
        node.signal(job, signal.SIGTERM)
        stage.wait(f"{name}'s {job} has ended", lambda job=job: not node.running(job), 15.0)  # type: ignore[misc]
    stage.lab.unpower(name)
