"""The recorder of one node and its disk: rows become durable late, or not at all; what is durable survives everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.core import NS_PER_MS, NS_PER_S, JsonValue
from watchdog.judgement.commands import Persist, Row, RowKind
from watchdog.judgement.events import OpenFence, OpenIncident, Persisted, RecorderChanged

if TYPE_CHECKING:
    from watchdog.simulator.watcherhost import BrainHost
    from watchdog.simulator.world import World

FINAL = ("proved", "refuted", "unknown", "not_done")
"""States of a whole fence (level 0) after which nothing is open."""


class Recorder:
    """Commits what it is sent, one transaction after the other, each in a few ms; a stalled disk holds it up."""

    def __init__(self, world: World, brain: BrainHost) -> None:
        self._world = world
        self._brain = brain
        self.rows: list[tuple[int, Row]] = []
        """Durable rows with the wall time of their commit."""
        self.incarnation = 0
        self.last_boot = 0
        self.stalls = 0
        self.full = 0
        """Faults that leave no room on the disk: every write is refused."""
        self.gone = 0
        """Faults that hold the recorder process itself dead."""
        self._queue: list[Persist] = []
        self._busy = False
        self._generation = 0
        self._rng = world.streams.of(f"{brain.kernel.name}/disk")

    def write(self, command: Persist) -> None:
        """Take one transaction; a recorder that is not there takes nothing."""
        if self.gone:
            return
        self._queue.append(command)
        self._work()

    def _work(self) -> None:
        if self._busy or self.stalls or self._brain.hung or not self._queue or not self._brain.kernel.powered:
            return
        self._busy = True
        self._world.scheduler.after(NS_PER_MS + int(self._rng.random() * 9 * NS_PER_MS), self._commit, self._generation)

    def _commit(self, generation: int) -> None:
        if generation != self._generation:
            return
        self._busy = False
        if self.stalls or self._brain.hung:
            return
        command = self._queue.pop(0)
        if self.full:
            self._world.note(self._brain.kernel.name, "recorder: no room on the disk")
            self._work()
            return
        self._keep(command)
        if command.barrier is not None:
            self._brain.post(Persisted(command.barrier))
        self._work()

    def _keep(self, command: Persist) -> None:
        wall_ns = self._world.wall_ns(self._brain.kernel.name)
        self.rows.extend((wall_ns, row) for row in command.rows)
        self._world.committed(self._brain.kernel.name, command.rows)

    def stall(self) -> None:
        """The disk answers nothing from now on."""
        self.stalls += 1

    def unstall(self) -> None:
        """The disk works again."""
        self.stalls = max(0, self.stalls - 1)
        self._work()

    def wake(self) -> None:
        """The machine's processes run again."""
        self._work()

    def died(self, *, power_lost: bool) -> None:
        """With the power everything uncommitted is gone; after a kill the recorder may still commit what it had read."""
        self._generation += 1
        self._busy = False
        if not power_lost and not self.stalls and not self.full and self._rng.random() < 0.5:
            for command in self._queue:
                self._keep(command)
        self._queue.clear()

    def killed(self) -> None:
        """SIGKILL of the recorder alone: what it had not committed is lost; braind sees it go."""
        self._generation += 1
        self._busy = False
        self._queue.clear()
        self.gone += 1
        self._brain.post(RecorderChanged(False, "killed"))

    def restarted(self) -> None:
        """braind started it again."""
        self.gone -= 1
        if not self.gone:
            self._brain.post(RecorderChanged(True))

    # ---- what a start reads ---------------------------------------------------------------------------------------------

    def _fields(self, kind: RowKind) -> list[tuple[int, dict[str, JsonValue]]]:
        return [(wall_ns, dict(row.fields)) for wall_ns, row in self.rows if row.kind is kind]

    def node_fact(self, key: str) -> JsonValue:
        """The newest value of a durable fact about this node, or None."""
        value: JsonValue = None
        for _, fields in self._fields(RowKind.NODE):
            if fields.get("key") == key:
                value = fields.get("value")
        return value

    def node_facts(self) -> dict[str, JsonValue]:
        """The newest value of every durable fact about this node."""
        return {str(fields["key"]): fields["value"] for _, fields in self._fields(RowKind.NODE)}

    def open_fences(self) -> tuple[OpenFence, ...]:
        """Fences whose intent is durable and whose end is not."""
        opened: dict[str, OpenFence] = {}
        for wall_ns, fields in self._fields(RowKind.FENCE):
            order_id, level, state = str(fields["order_id"]), int(str(fields["level"])), str(fields["state"])
            if level == 0 and state in FINAL:
                opened.pop(order_id, None)
            elif state == "requested" or order_id in opened:
                opened[order_id] = OpenFence(order_id, str(fields["target"]), level or opened[order_id].level, wall_ns)
        return tuple(opened.values())

    def open_incidents(self) -> tuple[OpenIncident, ...]:
        """Incidents that nobody has closed."""
        paged = {fields["incident"] for _, fields in self._fields(RowKind.ALERT) if fields["action"] == "trigger"}
        newest = {str(fields["id"]): fields for _, fields in self._fields(RowKind.INCIDENT)}
        return tuple(
            OpenIncident(name, str(f["scope"]), str(f["verdict"]), str(f["summary"]), name in paged)
            for name, f in newest.items()
            if f["state"] != "closed"
        )

    def recent_fences(self, wall_ns: int) -> tuple[int, ...]:
        """When fences were started in the last hour."""
        first: dict[str, int] = {}
        for at_ns, fields in self._fields(RowKind.FENCE):
            first.setdefault(str(fields["order_id"]), at_ns)
        return tuple(at_ns for at_ns in first.values() if wall_ns - at_ns < 3_600 * NS_PER_S)
