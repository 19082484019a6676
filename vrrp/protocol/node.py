"""All virtual routers of one daemon as one core: instances, sync groups, trackers, and the heap of their deadlines.

Pure. An instance's deadline may move later without telling the heap (that is the hot path of a BACKUP): a stale entry is found when it
comes up, and put back where it belongs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from vrrp.protocol.commands import InstanceCommand
from vrrp.protocol.events import (
    FaultCleared,
    FaultRaised,
    InstanceEvent,
    ParametersChanged,
    PriorityChanged,
    ProcessStalled,
    Started,
    Stopped,
)
from vrrp.protocol.instance import VrrpInstance
from vrrp.protocol.packet import IPAddress
from vrrp.protocol.parameters import InstanceParameters
from vrrp.protocol.states import Counters, State
from vrrp.protocol.sync_group import GroupParameters, SyncGroup, is_group_cause
from vrrp.protocol.trackers import (
    ScriptParameters,
    ScriptTracker,
    TrackKind,
    TrackReference,
    Value,
    effective_priority,
    fault_cause,
    is_fault,
    is_pending,
    weight_of,
)

if TYPE_CHECKING:
    from base.core import JsonValue


@dataclass(frozen=True, slots=True)
class NodeParameters:
    """Everything configured. ``tracks``: by instance name, group tracks included. ``stop_words``: the notify word of an instance
    that a reload removes (FAULT, or DELETED with notify_deleted)."""

    instances: tuple[InstanceParameters, ...] = ()
    groups: tuple[GroupParameters, ...] = ()
    scripts: tuple[ScriptParameters, ...] = ()
    tracks: dict[str, tuple[TrackReference, ...]] = field(default_factory=dict)
    stop_words: dict[str, str] = field(default_factory=dict)


def without_instance(parameters: NodeParameters, name: str) -> NodeParameters:
    """The same parameters with one instance taken out."""
    return replace(
        parameters,
        instances=tuple(p for p in parameters.instances if p.name != name),
        groups=tuple(replace(g, members=tuple(m for m in g.members if m != name)) for g in parameters.groups),
        tracks={n: t for n, t in parameters.tracks.items() if n != name},
    )


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """The shell is ready: sockets open, interfaces known."""


@dataclass(frozen=True, slots=True)
class NodeStopped:
    """The daemon ends."""


@dataclass(frozen=True, slots=True)
class NodeStalled:
    """The process did not run for ``stalled_ns``."""

    stalled_ns: int


@dataclass(frozen=True, slots=True)
class NodeReconfigured:
    """A reload that was found good. ``renamed``: old to new name of instances that kept their identity;
    ``local_addresses``: of instances that are new."""

    parameters: NodeParameters
    renamed: dict[str, str] = field(default_factory=dict)
    local_addresses: dict[str, IPAddress | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstanceEventHappened:
    """Something that concerns one instance."""

    instance: str
    event: InstanceEvent


@dataclass(frozen=True, slots=True)
class ScriptFinished:
    """A tracked script ended; anything but exit status 0 in time is a failure."""

    name: str
    success: bool


@dataclass(frozen=True, slots=True)
class TrackChanged:
    """A tracked interface, process or BFD session (1 up, 0 down) or file (its number) has a new value."""

    kind: TrackKind
    name: str
    value: int


@dataclass(frozen=True, slots=True)
class CountersCleared:
    """The operator wants the statistics to count from 0 (keepalived's signal SIGRTMAX-1). Changes nothing else."""


NodeEvent: TypeAlias = (
    NodeStarted | NodeStopped | NodeStalled | NodeReconfigured | InstanceEventHappened | ScriptFinished | TrackChanged | CountersCleared
)


@dataclass(frozen=True, slots=True)
class RunGroupNotify:
    """A sync group changed to ``state`` (MASTER, BACKUP, FAULT, STOP); keepalived reports priority 0 for groups."""

    group: str
    state: str
    reason: str


NodeCommand: TypeAlias = InstanceCommand | RunGroupNotify


class VrrpNode:
    """A ``base.core.Core[NodeEvent, NodeCommand]`` over all instances of a daemon."""

    def __init__(
        self, parameters: NodeParameters, *, local_addresses: dict[str, IPAddress | None] | None = None, gate_closed: bool = False
    ) -> None:
        self.parameters = parameters
        self.gate_closed = gate_closed
        self.instances: dict[str, VrrpInstance] = {}
        self.groups: dict[str, SyncGroup] = {}
        self.scripts: dict[str, ScriptTracker] = {s.name: ScriptTracker(s) for s in parameters.scripts}
        self._values: dict[tuple[TrackKind, str], Value] = {}
        self._group_of: dict[str, SyncGroup] = {}
        self._trackers: dict[tuple[TrackKind, str], list[str]] = {}
        self._started: set[str] = set()
        self._running = False
        self._waiting: dict[str, None] | None = None
        """While trackers are evaluated: the members whose groups have not followed yet."""
        self._heap: list[tuple[int, str]] = []
        self._scheduled: dict[str, int] = {}
        for instance in parameters.instances:
            self._create(instance, (local_addresses or {}).get(instance.name))
        self._wire()

    # ---- Core -----------------------------------------------------------------------------------------------------

    def handle(self, now_ns: int, event: NodeEvent) -> list[NodeCommand]:
        """Take one event in; see ``base.core.Core``."""
        match event:
            case InstanceEventHappened(name, inner):
                return self._one(now_ns, name, inner)
            case ScriptFinished(name, success):
                return self._script(now_ns, name, success)
            case TrackChanged(kind, name, value):
                return self._value_changed(now_ns, (kind, name), value)
            case NodeStarted():
                self._running = True
                return self._each(now_ns, self.instances, None)
            case NodeStalled(stalled_ns):
                return self._each(now_ns, self.instances, ProcessStalled(stalled_ns))
            case NodeStopped():
                return self._stop(now_ns)
            case NodeReconfigured():
                return self._reconfigure(now_ns, event)
            case CountersCleared():
                for instance in self.instances.values():
                    instance.counters = Counters()
                return []

    def on_deadline(self, now_ns: int) -> list[NodeCommand]:
        """Fire every instance that is due."""
        commands: list[NodeCommand] = []
        while self._heap and self._heap[0][0] <= now_ns:
            due_ns, name = heapq.heappop(self._heap)
            if self._scheduled.get(name) != due_ns:
                continue  # replaced by an earlier entry
            del self._scheduled[name]
            instance = self.instances.get(name)
            if instance is None:
                continue
            actual_ns = instance.deadline_ns
            if actual_ns is not None and actual_ns <= now_ns:
                commands += instance.on_deadline(now_ns)
                self._after(now_ns, name, commands)
            self._schedule(name, instance)
        return commands

    def next_deadline(self) -> int | None:
        """The earliest instant at which something may be due; sometimes early, never late."""
        return self._heap[0][0] if self._heap else None

    def next_takeover(self) -> int | None:
        """``next_deadline`` if what is due then is really due, in a BACKUP: most likely a takeover. Puts stale entries right."""
        while self._heap:
            due_ns, name = self._heap[0]
            instance = self.instances.get(name)
            if self._scheduled.get(name) == due_ns and instance is not None and instance.deadline_ns == due_ns:
                return due_ns if instance.state is State.BACKUP else None
            heapq.heappop(self._heap)
            if self._scheduled.get(name) == due_ns:
                del self._scheduled[name]
                if instance is not None:
                    self._schedule(name, instance)
        return None

    def rehearse_takeover(self) -> list[InstanceCommand]:
        """Walk the way of ``next_takeover`` once without going it; the commands must not be carried out."""
        due_ns, name = self._heap[0]
        return self.instances[name].rehearse(due_ns)

    def snapshot(self) -> JsonValue:
        """All instances, groups and trackers as JSON."""
        return {
            "instances": [instance.snapshot() for instance in self.instances.values()],
            "groups": [
                {"name": g.parameters.name, "state": g.state.value, "members": list(g.parameters.members)} for g in self.groups.values()
            ],
            "scripts": [{"name": name, "up": tracker.up} for name, tracker in self.scripts.items()],
            "tracked": [{"kind": kind.value, "name": name, "value": value} for (kind, name), value in self._values.items()],
        }

    # ---- instances and their heap -----------------------------------------------------------------------------------

    def _create(self, parameters: InstanceParameters, local_address: IPAddress | None) -> None:
        instance = VrrpInstance(parameters, local_address=local_address, gate_closed=self.gate_closed)
        self.instances[parameters.name] = instance

    def _wire(self) -> None:
        """Rebuild what is derived from the parameters: group membership and who tracks what."""
        before = self.groups
        self.groups = {}
        self._group_of = {}
        for group in self.parameters.groups:
            members = [self.instances[m] for m in group.members if m in self.instances]
            wired = SyncGroup(group, members, joining=self._running)
            if group.name in before:
                wired.adopt(before[group.name])
            self.groups[group.name] = wired
            self._group_of.update(dict.fromkeys(group.members, wired))
        self._trackers = {}
        for name, tracks in self.parameters.tracks.items():
            for track in tracks:
                self._trackers.setdefault((track.kind, track.name), []).append(name)

    def _schedule(self, name: str, instance: VrrpInstance) -> None:
        due_ns = instance.deadline_ns
        if due_ns is None:
            return
        scheduled_ns = self._scheduled.get(name)
        if scheduled_ns is None or due_ns < scheduled_ns:
            self._scheduled[name] = due_ns
            heapq.heappush(self._heap, (due_ns, name))

    def _after(self, now_ns: int, name: str, commands: list[NodeCommand]) -> None:
        """Let the instance's sync group follow."""
        group = self._group_of.get(name)
        if group is None:
            return
        if self._waiting is not None:
            self._waiting[name] = None
            return
        state = group.state
        commands += group.follow(now_ns)
        for member in group.members:
            self._schedule(member.parameters.name, member)
        if group.state is not state and group.state is not State.INIT:
            reason = self.instances[name].reason
            commands.append(RunGroupNotify(group.parameters.name, group.state.value, reason))

    def _one(self, now_ns: int, name: str, event: InstanceEvent) -> list[NodeCommand]:
        instance = self.instances.get(name)
        if instance is None:
            return []
        commands: list[NodeCommand] = list(instance.handle(now_ns, event))
        self._after(now_ns, name, commands)
        self._schedule(name, instance)
        return commands

    def _each(self, now_ns: int, names: Iterable[str], event: InstanceEvent | None) -> list[NodeCommand]:
        """``event`` for each; None = evaluate the trackers, and start those that are not started and may be."""
        commands: list[NodeCommand] = []
        if event is not None:
            for name in list(names):
                commands += self._one(now_ns, name, event)
            return commands
        # Groups follow when every member knows: one that is clean again must not be pulled back by one that is not asked yet.
        self._waiting = {}
        for name in list(names):
            commands += self._evaluate(now_ns, name)
        waiting, self._waiting = self._waiting, None
        for name in waiting:
            self._after(now_ns, name, commands)
        return commands

    # ---- trackers -------------------------------------------------------------------------------------------------

    def _script(self, now_ns: int, name: str, success: bool) -> list[NodeCommand]:
        tracker = self.scripts.get(name)
        if tracker is None or not tracker.finished(success):
            return []
        return self._each(now_ns, self._trackers.get((TrackKind.SCRIPT, name), ()), None)

    def _value_changed(self, now_ns: int, key: tuple[TrackKind, str], value: int) -> list[NodeCommand]:
        self._values[key] = value
        return self._each(now_ns, self._trackers.get(key, ()), None)

    def _value(self, track: TrackReference) -> Value:
        if track.kind is TrackKind.SCRIPT:
            tracker = self.scripts.get(track.name)
            return None if tracker is None or tracker.up is None else int(tracker.up)
        return self._values.get((track.kind, track.name))

    def _evaluate(self, now_ns: int, name: str) -> list[NodeCommand]:
        """Bring priority and tracker faults of one instance up to date; start it if it may start."""
        instance = self.instances[name]
        tracks = [(track, self._value(track)) for track in self.parameters.tracks.get(name, ())]
        commands: list[NodeCommand] = []
        wanted = {fault_cause(t) for t, value in tracks if is_fault(t, value)}
        for cause in [c for c in instance.faults if c not in wanted and c.partition(" ")[0] in _TRACK_WORDS]:
            commands += self._one(now_ns, name, FaultCleared(cause))
        for track, _value in tracks:
            cause = fault_cause(track)
            if cause in wanted and cause not in instance.faults:
                commands += self._one(now_ns, name, FaultRaised(cause))
        priority = effective_priority(instance.parameters.priority, (weight_of(t, value) for t, value in tracks))
        if priority != instance.priority:
            commands += self._one(now_ns, name, PriorityChanged(priority))
        if self._running and name not in self._started and not any(is_pending(t, value) for t, value in tracks):
            self._started.add(name)
            commands += self._one(now_ns, name, Started())
        return commands

    # ---- stop and reload ------------------------------------------------------------------------------------------

    def _stop(self, now_ns: int) -> list[NodeCommand]:
        self._running = False
        self._group_of = {}  # nobody follows: every instance stops by itself
        commands = self._each(now_ns, self.instances, Stopped())
        self._started.clear()
        commands += [RunGroupNotify(name, "STOP", "stopped") for name in self.groups]
        return commands

    def _reconfigure(self, now_ns: int, event: NodeReconfigured) -> list[NodeCommand]:
        commands: list[NodeCommand] = []
        wanted = {p.name: p for p in event.parameters.instances}
        self._rename(event.renamed)
        self._group_of = {}
        for name in [name for name in self.instances if name not in wanted]:
            commands += self._one(now_ns, name, Stopped(self.parameters.stop_words.get(name, "FAULT")))
            del self.instances[name]
            self._scheduled.pop(name, None)
            self._started.discard(name)
        self.parameters = event.parameters
        before = self.scripts
        self.scripts = {}
        for script in event.parameters.scripts:
            tracker = before.get(script.name) or ScriptTracker(script)
            tracker.adopt(script)
            self.scripts[script.name] = tracker
        for name, parameters in wanted.items():
            if name not in self.instances:
                self._create(parameters, event.local_addresses.get(name))
            else:  # also if nothing changed that we know of: there are settings that only the shell knows, and it acts on our commands
                commands += self._one(now_ns, name, ParametersChanged(parameters))
        self.instances = {name: self.instances[name] for name in wanted}
        self._wire()
        for name in self.instances:
            commands += self._forget_group_faults(now_ns, name)
        return commands + self._each(now_ns, self.instances, None)

    def _forget_group_faults(self, now_ns: int, name: str) -> list[NodeCommand]:
        """One that left its sync group is not in FAULT because of it."""
        instance, group = self.instances[name], self._group_of.get(name)
        stale = [cause for cause in instance.faults if is_group_cause(cause) and (group is None or cause != group.cause)]
        return [command for cause in stale for command in self._one(now_ns, name, FaultCleared(cause))]

    def _rename(self, renamed: Mapping[str, str]) -> None:
        """Old to new names, all at the same time: two may have changed places."""
        self.instances = {renamed.get(name, name): instance for name, instance in self.instances.items()}
        self._started = {renamed.get(name, name) for name in self._started}
        for old, new in renamed.items():
            self._scheduled.pop(old, None)
            self._scheduled.pop(new, None)
        for new in renamed.values():
            self._schedule(new, self.instances[new])


_TRACK_WORDS = frozenset(kind.value for kind in TrackKind)
