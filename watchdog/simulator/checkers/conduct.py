"""Promises 6 and 8, and observe mode: planned changes, stalls, and keeping one's hands still."""

from __future__ import annotations

from base.core import NS_PER_MS
from watchdog.config.model import Mode
from watchdog.judgement.commands import GateState, Persist, RemoveAddress, RowKind, RunFence, SetGate, WatcherCommand
from watchdog.simulator.checker import Checker
from watchdog.simulator.checkers.observer import Observer, other

ACTED_ON = ("PEER_DEAD", "PEER_HUNG", "SPLIT_BRAIN", "ISOLATED", "NO_OWNER")


class Planned(Checker):
    """Promise 6: in a run where everything that happens is planned, nobody is fenced and nobody is paged."""

    name = "planned"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def command(self, node: str, command: WatcherCommand) -> None:
        """Look for fences and pages."""
        if not all(fault.planned for fault in self.world.options.faults):
            return
        if type(command) is RunFence and command.action == "off":
            self.broken(node, f"fences {command.target} in a run of planned changes")
        elif type(command) is Persist:
            for row in command.rows:
                fields = dict(row.fields)
                told = row.kind is RowKind.ALERT and fields.get("action") == "trigger"
                if told and (fields.get("severity") == "critical" or not self._standby_is_gone(node)):
                    self.broken(node, f"pages in a run of planned changes: {fields.get('summary')}")

    def _standby_is_gone(self, node: str) -> bool:
        """That the other machine was shut down and nobody stands by is worth a warning."""
        return not self.world.machines[other(node)].kernel.powered or any(fault.verb == "shutdown" for fault in self.world.options.faults)


class Stalls(Checker):
    """Promise 8: right after an own stall nothing is judged from what was believed before."""

    name = "stalls"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def command(self, node: str, command: WatcherCommand) -> None:
        """Orders and confirmed verdicts within the listening time after a stall."""
        told = self._observer.told[node]
        listening_ns = min(path.silent_after_ms for path in self.world.settings[node].paths) * NS_PER_MS
        since_ns = self._observer.now_ns - told.stalled
        if since_ns >= listening_ns:
            return
        if type(command) is RunFence and command.action == "off":
            self.broken(node, f"fences {since_ns // NS_PER_MS} ms after its own stall")
        elif type(command) is Persist:
            for row in command.rows:
                fields = dict(row.fields)
                if row.kind is RowKind.VERDICT and fields["stage"] == "confirmed" and fields["verdict"] in ACTED_ON:
                    self.broken(node, f"{fields['verdict']} of {fields['scope']} confirmed {since_ns // NS_PER_MS} ms after its own stall")


class ObserveActsOnNobody(Checker):
    """Mode observe: detect, re-announce, page; remove nothing, hold nobody, fence nobody."""

    name = "observe"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def command(self, node: str, command: WatcherCommand) -> None:
        """Look at the acts."""
        if self.world.mode_of(node) is not Mode.OBSERVE:
            return
        held = type(command) is SetGate and command.state is GateState.HELD
        if held or type(command) is RemoveAddress or (type(command) is RunFence and command.action != "status"):
            self.broken(node, f"acts in observe mode: {command}")
