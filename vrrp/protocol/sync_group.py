"""Instances that change state together (keepalived's vrrp_sync_group).

Pure. A group becomes MASTER only when every member wants to; the first member that leaves MASTER takes all along, and a
FAULT of one is a FAULT of all until every member is clean again.

Two nodes whose members do not all win on the same side (priorities or addresses crossed) drive each other out: both become MASTER,
each loses one member and goes back, both at the same time, for ever (keepalived #2190). So a group that was driven out of MASTER waits
before it tries again: the one that lost its first member (by VRID, the same order on both nodes) one master down interval longer
than the other, and if that happens again and again both a number of intervals that is drawn from their addresses and doubles in range.

A reload that puts another member into a group in MASTER moves nobody (keepalived #2715): the newcomer is a guest until it knows where it
belongs. If nobody is MASTER of it, it joins the MASTERs when its master down interval is over; if somebody is, the group follows it.
"""

from __future__ import annotations

import hashlib
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


_CAUSE = "sync group "


def is_group_cause(cause: str) -> bool:
    """Is this the FAULT of a member that is dragged along?"""
    return cause.startswith(_CAUSE)


MAX_DOUBLINGS = 4
"""The longest wait after being driven out is drawn from 2 ** MAX_DOUBLINGS master down intervals."""
CALM_INTERVALS = 8
"""A group that was MASTER for so many master down intervals was not driven out by a quarrel."""


class SyncGroup:
    """Watches its members' states and pulls the others after a change."""

    def __init__(self, parameters: GroupParameters, members: list[VrrpInstance], *, joining: bool = False) -> None:
        """``joining``: a reload put the members together as they are."""
        self.parameters = parameters
        self.members = members
        self.state = State.INIT
        self.cause = f"{_CAUSE}{parameters.name}"
        """The FAULT of the members that have none of their own."""
        led = joining and any(m.state is State.MASTER for m in members)
        self._guests = {m.parameters.name for m in members if led and m.state in (State.INIT, State.BACKUP)}
        self._hold_until_ns = 0
        self._quarrels = 0
        self._promoted_ns = 0
        self._driven_out_ns = 0

    def _is_guest(self, member: VrrpInstance) -> bool:
        """It came to a group in MASTER and has not found out yet whether somebody else is MASTER of it."""
        if member.parameters.name not in self._guests:
            return False
        undecided = member.state is State.INIT or (member.state is State.BACKUP and member.master is None)
        if not undecided:
            self._guests.discard(member.parameters.name)
        return undecided

    def adopt(self, before: SyncGroup) -> None:
        """A reload: the state and the quarrels of the group with the same name."""
        self.state, self._promoted_ns, self._driven_out_ns = before.state, before._promoted_ns, before._driven_out_ns
        self._hold_until_ns, self._quarrels = before._hold_until_ns, before._quarrels

    def follow(self, now_ns: int) -> list[InstanceCommand]:
        """Call after anything happened to a member; returns what the other members do."""
        commands: list[InstanceCommand] = []
        self._follow_faults(now_ns, commands)
        guests = [m for m in self.members if self._is_guest(m)]
        if not any(m.state in (State.FAULT, State.INIT) and m not in guests for m in self.members):
            self._follow_master(now_ns, guests, commands)
        self.state = self._common_state()
        return commands

    def _own_faults(self, member: VrrpInstance) -> bool:
        return any(cause != self.cause for cause in member.faults)

    def _follow_faults(self, now_ns: int, commands: list[InstanceCommand]) -> None:
        faulty = any(self._own_faults(m) for m in self.members)
        for member in self.members:
            dragged = self.cause in member.faults
            if faulty and not dragged and not self._own_faults(member):
                commands += member.handle(now_ns, FaultRaised(self.cause))
            elif dragged and not faulty:
                commands += member.handle(now_ns, FaultCleared(self.cause))

    def _follow_master(self, now_ns: int, guests: list[VrrpInstance], commands: list[InstanceCommand]) -> None:
        masters = [m for m in self.members if m.state is State.MASTER]
        if masters and len(masters) + len(guests) == len(self.members):
            for member in guests:
                if member.wants_master:
                    commands += member.handle(now_ns, PromotedByGroup())
        elif masters and len(masters) < len(self.members):
            self._driven_out(now_ns, {m.parameters.vrid for m in self.members} - {m.parameters.vrid for m in masters})
            for member in masters:
                commands += member.handle(now_ns, DemotedByGroup())
        elif not masters and all(m.wants_master for m in self.members):
            if now_ns < self._hold_until_ns:
                return
            self._promoted_ns = now_ns
            for member in self.members:
                commands += member.handle(now_ns, PromotedByGroup())
        elif self._hold_until_ns and all(self._follows_a_master(m) for m in self.members):
            self._hold_until_ns = self._quarrels = 0  # somebody else is MASTER of everything: there is no quarrel

    def _follows_a_master(self, member: VrrpInstance) -> bool:
        """Not one whose last words were still under way when it was driven out like us."""
        return member.master is not None and member.last_heard_ns > self._driven_out_ns + member.master_interval_ns // 2

    def _driven_out(self, now_ns: int, lost_vrids: set[int]) -> None:
        interval_ns = max(m.master_down_ns() for m in self.members)
        if now_ns - self._promoted_ns > CALM_INTERVALS * interval_ns:
            self._quarrels = 0
        self._driven_out_ns = now_ns
        lost_first = min(m.parameters.vrid for m in self.members) in lost_vrids
        drawn = self._draw(1 << min(self._quarrels, MAX_DOUBLINGS))
        self._quarrels += 1
        self._hold_until_ns = now_ns + (drawn + lost_first) * interval_ns

    def _draw(self, below: int) -> int:
        """Not the same on both nodes: it comes from the own addresses. The same in every replay."""
        text = f"{self.parameters.name} {[str(m.local_address) for m in self.members]} {self._quarrels}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % below

    def _common_state(self) -> State:
        states = {m.state for m in self.members if m.parameters.name not in self._guests} or {State.INIT}
        if len(states) == 1:
            return states.pop()
        if State.FAULT in states:
            return State.FAULT
        return State.INIT if State.INIT in states else State.BACKUP
