"""What a person sees while the demo plays: a live panel on a terminal, plain lines elsewhere, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import IO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from brainctl.demo.addresses import NODES
from brainctl.demo.runner import JsonObject, Result
from brainctl.demo.scenario import Scenario
from brainctl.demo.setup import Setup
from brainctl.demo.stage import Happening, Stage
from brainctl.demo.status import NodeStatus, ask_status

REFRESH_S = 0.25
STORY_LINES = 12


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"


def _times(result: Result) -> str:
    outcome = result.outcome
    return (
        f"two owners {_ms(outcome.split_ms)}, detected {_ms(outcome.detect_ms)}, resolved {_ms(outcome.resolve_ms)}, "
        f"client outage {_ms(outcome.client_outage_ms)}"
    )


def results_table(results: Sequence[JsonObject]) -> Table:
    """The measured times of every scenario; fits a terminal of 100 columns."""
    daemons = ", ".join(dict.fromkeys(result["daemon"] for result in results))
    table = Table(title=f"{daemons}: measured by the observers on the switch and by the client", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("scenario", no_wrap=True)
    table.add_column("mode", no_wrap=True)
    for heading in ("split", "detected", "resolved", "outage", "pages"):
        table.add_column(heading, justify="right")
    for heading in ("fence", "owner", ""):
        table.add_column(heading)
    for result in results:
        table.add_row(
            result["scenario"],
            result["mode"],
            *(_ms(result[key]) for key in ("split_ms", "detect_ms", "resolve_ms", "client_outage_ms")),
            str(result["alerts"]),
            result["fence"] or "–",
            " ".join(result["owners_after"]) or "nobody",
            Text("ok", style="green") if result["ok"] else Text("FAILED", style="bold red"),
        )
    return table


class Lines:
    """For a pipe or a log file: one line per happening, with the seconds since the scenario began."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._began_ns = 0
        self._shown: tuple[list[str], str] = ([], "")

    def _print(self, t_ns: int, text: str) -> None:
        print(f"{(t_ns - self._began_ns) / 1e9:7.2f} s  {text}", file=self._out, flush=True)

    def begins(self, scenario: Scenario, setup: Setup) -> None:
        """A heading."""
        self._began_ns = time.time_ns()
        self._shown = ([], "")
        print(f"\n== {scenario.name} ({setup.daemon}, {setup.mode}): {scenario.story}", file=self._out, flush=True)

    def tick(self, stage: Stage) -> None:
        """Say when the owner changes."""
        now = (stage.owners(), stage.client_sees())
        if now != self._shown:
            self._shown = now
            self._print(
                time.time_ns(), f"    VIP answered by {' and '.join(now[0]) or 'nobody'}; the client is served by {now[1] or 'nobody'}"
            )

    def said(self, stage: Stage, happening: Happening) -> None:
        """A line."""
        self._print(happening.t_ns, happening.text)

    def ended(self, result: Result) -> None:
        """The verdict."""
        print(f"{'ok' if result.ok else 'FAILED'}: {result.expected.text}; {_times(result)}", file=self._out)
        for failure in result.failures:
            print(f"    {failure}", file=self._out)
        self._out.flush()


class Screen:
    """For a terminal: a panel with the owner, paths, verdicts and actions, and the story below it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn = 0.0
        self._heading = ""
        self._began_ns = 0
        self._status: dict[str, NodeStatus] = {}
        self._story = Text()

    def begins(self, scenario: Scenario, setup: Setup) -> None:
        """A new panel."""
        self._heading = f"[bold]{scenario.name}[/] ({setup.daemon}, {setup.mode}) · {scenario.story}"
        self._began_ns = time.time_ns()
        self._story = Text()
        self._live.start()

    def tick(self, stage: Stage) -> None:
        """Draw a few times a second."""
        if time.monotonic() - self._drawn < REFRESH_S:
            return
        self._drawn = time.monotonic()
        for name in NODES:
            self._status[name] = ask_status(stage.node(name))
        self._live.update(self._panel(stage), refresh=True)

    def said(self, stage: Stage, happening: Happening) -> None:
        """Drawn at the next tick."""
        self._drawn = 0.0

    def ended(self, result: Result) -> None:
        """Two lines stay on the screen: what came of it and the times; of one that failed the whole story."""
        self._live.stop()
        mark = "[green]ok    [/]" if result.ok else "[bold red]FAILED[/]"
        self._console.print(f"{mark} [bold]{result.scenario}[/] ({result.setup.daemon}, {result.setup.mode}): {result.expected.text}")
        self._console.print(f"       {_times(result)}", style="dim", highlight=False)
        if not result.ok:
            self._console.print(self._story)
        for failure in result.failures:
            self._console.print(f"       {failure}", style="red", markup=False)

    def _panel(self, stage: Stage) -> Panel:
        owners = stage.owners()
        head = Text.assemble(
            ("VIP ", "dim"),
            (stage.lab.plan.vip, "bold"),
            ("  answered by ", "dim"),
            (" and ".join(owners) or "nobody", "bold green" if len(owners) == 1 else "bold red"),
            ("  the client is served by ", "dim"),
            (stage.client_sees() or "nobody", "bold"),
        )
        table = Table(box=None, pad_edge=False, expand=True)
        for column in ("node", "power", "holds VIP", "verdict", "why", "paths", "gate", "action"):
            table.add_column(column, style="cyan" if column == "node" else "", overflow="fold")
        for name in NODES:
            table.add_row(
                name, "on" if stage.node(name).on else "[red]off[/]", "yes" if name in owners else "no", *self._status[name].cells()
            )
        self._story = self._told(stage.story)
        return Panel(Group(head, Text(), table, Text(), self._told(stage.story[-STORY_LINES:])), title=self._heading, title_align="left")

    def _told(self, story: Sequence[Happening]) -> Text:
        text = Text()
        for happening in story:
            text.append(f"{(happening.t_ns - self._began_ns) / 1e9:7.2f} s  ", "dim")
            text.append(happening.text + "\n")
        return text
