"""Instances that change state together (keepalived's vrrp_sync_group).

Pure. A group becomes MASTER only when every member wants to; the first member that leaves MASTER takes all along, and a
FAULT of one is a FAULT of all until every member is clean again.
"""

from __future__ import annotations

from dataclasses import dataclass

from vrrp.protocol.commands import InstanceCommand
from vrrp.protocol.events import DemotedByGroup, FaultCleared, FaultRaised, PromotedByGroup
from vrrp.protocol.instance import VrrpInstance
from vrrp.protocol.states import State


@dataclass(frozen=True, slots=True)
class GroupParameters:
    """Name and members of a group."""

    name: str
    members: tuple[str, ...]


class SyncGroup:
    """Watches its members' states and pulls the others after a change."""

    def __init__(self, parameters: GroupParameters, members: list[VrrpInstance]) -> None:
        self.parameters = parameters
        self.members = members
        self.state = State.INIT
        self._cause = f"sync group {parameters.name}"

    def follow(self, now_ns: int) -> list[InstanceCommand]:
        """Call after anything happened to a member; returns what the other members do."""
        commands: list[InstanceCommand] = []
        self._follow_faults(now_ns, commands)
        if not any(m.state in (State.FAULT, State.INIT) for m in self.members):
            self._follow_master(now_ns, commands)
        self.state = self._common_state()
        return commands

    def _own_faults(self, member: VrrpInstance) -> bool:
        return any(cause != self._cause for cause in member.faults)

    def _follow_faults(self, now_ns: int, commands: list[InstanceCommand]) -> None:
        faulty = any(self._own_faults(m) for m in self.members)
        for member in self.members:
            dragged = self._cause in member.faults
            if faulty and not dragged and not self._own_faults(member):
                commands += member.handle(now_ns, FaultRaised(self._cause))
            elif dragged and not faulty:
                commands += member.handle(now_ns, FaultCleared(self._cause))

    def _follow_master(self, now_ns: int, commands: list[InstanceCommand]) -> None:
        masters = [m for m in self.members if m.state is State.MASTER]
        if masters and len(masters) < len(self.members):
            for member in masters:
                commands += member.handle(now_ns, DemotedByGroup())
        elif not masters and all(m.wants_master for m in self.members):
            for member in self.members:
                commands += member.handle(now_ns, PromotedByGroup())

    def _common_state(self) -> State:
        states = {m.state for m in self.members}
        if len(states) == 1:
            return states.pop()
        if State.FAULT in states:
            return State.FAULT
        return State.INIT if State.INIT in states else State.BACKUP
