"""When nothing goes on in a world: then its time may be left out (``--quick``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.core import NS_PER_S
from watchdog.judgement.commands import BridgeAdvert, ProbeOwners, ProbeReference, PublishStatus, WatcherCommand
from watchdog.simulator.options import NODES
from watchdog.simulator.process import Life

if TYPE_CHECKING:
    from watchdog.simulator.world import World

CALM_AFTER_NS = 3 * NS_PER_S
ROUTINE = (ProbeOwners, ProbeReference, BridgeAdvert, PublishStatus)
"""Commands that a healthy pair gives for ever; frames are not even shown to this class."""


class Calm:
    """One owner of each address, HEALTHY of everything, every process running, and nothing but routine for 3 s."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stirred_ns = 0

    def command(self, command: WatcherCommand) -> None:
        """A core asked for something."""
        if type(command) not in ROUTINE:
            self._stirred_ns = self._world.scheduler.now_ns

    def is_calm(self) -> bool:
        """May the time until the next turn of the story be left out?"""
        world = self._world
        if world.scheduler.now_ns - self._stirred_ns < CALM_AFTER_NS or any(len(owners) != 1 for owners in world.owners.values()):
            return False
        for node in NODES:
            verdicts = world.observer.told[node].verdicts
            scopes = ("pair", *(str(group.key) for group in world.groups[node]))
            if any(verdicts.get(scope, ("",))[0] != "HEALTHY" for scope in scopes):
                return False
            if any(process.life is not Life.RUNNING for process in (world.vrrp[node], world.brains[node])):
                return False
        return True
