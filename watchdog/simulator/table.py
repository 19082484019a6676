"""A run told in columns: what each node is, says, holds and hears, one line per change."""

from __future__ import annotations

from base.core import NS_PER_MS, NS_PER_S
from watchdog.judgement.commands import Persist, RowKind, WatcherCommand
from watchdog.simulator.checker import Checker
from watchdog.simulator.checkers.observer import Observer
from watchdog.simulator.faults import Fault
from watchdog.simulator.options import NODES
from watchdog.simulator.process import Life

WIDTHS = (9, 12, 25, 14, 12)
HEADS = ("role", "verdict", "VIPs", "hears on")
_SHORT = {"MASTER": "MASTER", "BACKUP": "BACKUP", "FAULT": "FAULT", "INIT": "INIT"}


class Storyteller(Checker):
    """Watches like a checker and writes lines; it never finds anything wrong."""

    name = "table"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._last: tuple[tuple[str, ...], ...] = ()
        self.lines: list[str] = []

    def header(self) -> list[str]:
        """Two head lines."""
        names = "".join(f"| {'node ' + name:<{sum(WIDTHS[1:]) + 3}}" for name in NODES)
        heads = "".join("| " + " ".join(f"{head:<{width}}" for head, width in zip(HEADS, WIDTHS[1:], strict=True)) for _ in NODES)
        return [f"{'':<{WIDTHS[0]}}{names}", f"{'time':<{WIDTHS[0]}}{heads}"]

    def poll(self) -> None:
        """A line if anything in the columns changed."""
        now = tuple(self._columns(name) for name in NODES)
        if now != self._last:
            self._last = now
            cells = "".join("| " + " ".join(f"{text:<{width}}" for text, width in zip(node, WIDTHS[1:], strict=True)) for node in now)
            self.lines.append(f"{self._time()}{cells}".rstrip())

    def fault(self, fault: Fault) -> None:
        """Faults stand between the lines."""
        self.lines.append(f"{self._time()}>>> {fault}")

    def command(self, node: str, command: WatcherCommand) -> None:
        """Fence states and pages stand between the lines too."""
        if type(command) is not Persist:
            return
        for row in command.rows:
            fields = dict(row.fields)
            if row.kind is RowKind.FENCE:
                self.lines.append(
                    f"{self._time()}{node}: fence of {fields['target']} level {fields['level']}: {fields['state']} ({fields['detail']})"
                )
            elif row.kind is RowKind.ACTION:
                self.lines.append(f"{self._time()}{node}: {fields['action']} {fields['subject']} ({fields['detail']})")
            elif row.kind is RowKind.ALERT and fields.get("action") == "trigger":
                self.lines.append(f"{self._time()}{node}: pages: {fields.get('summary')}")

    def power(self, node: str, on: bool, why: str) -> None:
        """Power changes."""
        self.lines.append(f"{self._time()}{node}: power {'on' if on else f'off: {why}'}")

    def _time(self) -> str:
        seconds = self.world.scheduler.now_ns / NS_PER_S
        return f"{seconds:>{WIDTHS[0] - 2}.2f}s "

    def _columns(self, node: str) -> tuple[str, ...]:
        machine = self.world.machines[node]
        if not machine.kernel.powered:
            return ("off", "", "", "")
        return (self._role(node), self._verdict(node), self._vips(node), self._paths(node))

    def _role(self, node: str) -> str:
        host = self.world.vrrp[node]
        if host.life is not Life.RUNNING:
            return "hung" if host.life is Life.PAUSED else "dead"
        return "/".join(_SHORT[instance.state.value][:6] for instance in host.instances.values())[: WIDTHS[1]]

    def _verdict(self, node: str) -> str:
        brain = self.world.brains[node]
        if brain.life is not Life.RUNNING:
            return "(hung)" if brain.life is Life.PAUSED else "(dead)"
        verdicts = self._observer.told[node].verdicts
        scopes = ("pair", *(str(group.key) for group in self.world.groups[node]))
        words = dict.fromkeys(
            f"{verdict}{'?' if stage == 'suspected' else ''}" for verdict, stage, _ in (verdicts.get(s, ("-", "", 0)) for s in scopes)
        )
        return ",".join(words)[: WIDTHS[2]]

    def _vips(self, node: str) -> str:
        kernel = self.world.machines[node].kernel
        return " ".join(vip.rpartition(".")[2] for vip in self.world.owners if kernel.holds(vip))

    def _paths(self, node: str) -> str:
        told, now_ns = self._observer.told[node], self._observer.now_ns
        letters = []
        for path in self.world.settings[node].paths:
            times = told.frames.get(path.name)
            heard = times is not None and len(times) > 0 and now_ns - times[-1] <= path.silent_after_ms * NS_PER_MS
            letters.append(path.name[0] if heard else "-")
        return "".join(letters)
