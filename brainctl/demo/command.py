"""Builds a pair of nodes inside this machine, splits it in every way, and measures from outside what brainctl makes of it.

Needs root and nothing but this machine: every network, serial line and power switch is made for the run and removed afterwards.
Addresses, ports and the moments of the faults differ from run to run; --seed repeats one. Exit status 0: every expectation held.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from brainctl.demo.kernel import spawn
from brainctl.demo.preflight import preflight
from brainctl.demo.runner import Audience, JsonObject, play
from brainctl.demo.scenario import Scenario
from brainctl.demo.scenarios import SCENARIOS, find_scenario
from brainctl.demo.scenarios.known_failing import KNOWN_FAILING
from brainctl.demo.setup import DAEMONS, MODES, Setup
from brainctl.launcher import library_root

SABOTAGES = ("no-census", "no-yield", "no-fence", "trust-agent", "shoots-the-silent")
"""The names in sabotage.py, which is imported only in the spoiled braind."""

TELL_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl demo``."""
    parser.add_argument("--daemon", choices=DAEMONS, default="vrrpd", help="the VRRP daemon of the pair (%(default)s)")
    parser.add_argument("--mode", choices=MODES, help="what braind may do (default: what each scenario is about, mostly resolve)")
    parser.add_argument("--scenario", action="append", metavar="NAME[:MODE]", help="play only this one (may be repeated)")
    parser.add_argument("--all", action="store_true", help="every scenario in every mode that it is about; takes long")
    parser.add_argument("--list", action="store_true", help="list the scenarios and exit")
    parser.add_argument("--json", action="store_true", help="plain lines, and as the last line every result as JSON")
    parser.add_argument("--sabotage", choices=SABOTAGES, help="spoil one judgement of braind: named scenarios must then fail")
    parser.add_argument("--seed", type=int, help="repeat the addresses and moments of an earlier run")
    parser.add_argument("--keep", metavar="DIR", help="where captures and logs go (default: a new directory in /tmp)")
    parser.add_argument("--quiet-s", type=float, metavar="S", help="length of the scenario quiet in seconds (default: 120)")
    parser.add_argument("--advert-ms", type=int, metavar="MS", default=500, help="VRRP advertisement interval (%(default)s)")
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=2, help="laboratories at a time (%(default)s)")
    parser.add_argument("--without-braind", action="store_true", help="the bare pair, to see what brainctl is for")


@dataclass(frozen=True, slots=True)
class Part:
    """One scenario in one mode."""

    scenario: Scenario
    setup: Setup


def programme(args: argparse.Namespace) -> list[Part]:
    """What will be played, in order. ValueError names an unknown scenario or mode."""
    chosen: list[tuple[Scenario, tuple[str, ...]]] = []
    usual = [scenario.name for scenario in SCENARIOS if args.daemon in scenario.daemons and (scenario.usual or args.all)]
    for word in args.scenario or usual:
        name, _, mode = word.partition(":")
        scenario = find_scenario(name)
        if scenario is None:
            raise ValueError(f"there is no scenario {name!r}; brainctl demo --list names them")
        if mode and mode not in MODES:
            raise ValueError(f"the scenario {name}: there is no mode {mode!r}; choose from {', '.join(MODES)}")
        if args.daemon not in scenario.daemons:
            raise ValueError(f"the scenario {name} is about {' and '.join(scenario.daemons)}; give --daemon {scenario.daemons[0]}")
        of_itself = scenario.modes if args.all or args.scenario else scenario.modes[:1]
        chosen.append((scenario, (mode,) if mode else (args.mode,) if args.mode else of_itself))
    if args.quiet_s is not None:
        for scenario, _modes in chosen:
            if hasattr(scenario, "seconds"):
                scenario.seconds = args.quiet_s
    return [
        Part(
            scenario,
            Setup(
                daemon=args.daemon,
                mode=mode,
                brain=not args.without_braind,
                advert_ms=args.advert_ms,
                levels=scenario.levels,
                site=scenario.site,
                sabotage=args.sabotage or "",
            ),
        )
        for scenario, modes in chosen
        for mode in modes
    ]


def run(args: argparse.Namespace) -> int:
    """Play; 0 when every expectation held, 1 when one did not, 2 when the demo could not run."""
    if args.list:
        width = max(len(scenario.name) for scenario in SCENARIOS)
        for scenario in SCENARIOS:
            print(f"{scenario.name:<{width}}  {scenario.story}")
        return 0
    try:
        parts = programme(args)
    except ValueError as error:
        print(f"brainctl demo: {error}", file=sys.stderr)
        return 2
    missing = preflight((args.daemon,), brain=not args.without_braind)
    for gap in missing:
        print(f"brainctl demo: missing {gap}", file=sys.stderr)
    if missing:
        return 2
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 31)
    directory = Path(args.keep) if args.keep else Path(tempfile.mkdtemp(prefix="brainctl-demo-"))
    results = _play_all(args, parts, seed, directory)
    return 0 if len(results) == len(parts) and all(as_it_should_be(result) for result in results) else 1


def as_it_should_be(result: JsonObject) -> bool:
    """Whether a scenario held, or is listed as known failing."""
    return bool(result["ok"] or result["known_failing"])


def _leave(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(143)  # unwinds every ``with``: the laboratory is taken down


def _play_all(args: argparse.Namespace, parts: list[Part], seed: int, directory: Path) -> list[JsonObject]:
    from rich.console import Console

    from brainctl.demo.view import Lines, Screen, results_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=130)
    audience: Audience = Screen(console) if console.is_terminal and not args.json else Lines(sys.stdout)
    print(f"seed {seed}, captures and logs in {directory}", flush=True)
    began = time.monotonic()
    beside = [part for part in parts if part.scenario.beside and args.jobs > 1]
    here = [part for part in parts if part not in beside]
    if not here:
        here, beside = beside, []
    other = _OtherLaboratory(args, beside, seed + 1000, directory) if beside else None
    results: list[JsonObject] = []
    try:
        for number, part in enumerate(here):
            where = directory / f"{number:02d}-{part.scenario.name}-{part.setup.mode}"
            results.append(play(part.scenario, part.setup, seed + number, where, audience).to_json())
        if other is not None:
            print(f"what was and is played in the second laboratory (its story is in {other.log}):", flush=True)
            results += other.results()
    finally:
        if other is not None:
            other.close()
    order = [scenario.name for scenario in SCENARIOS]
    results.sort(key=lambda result: order.index(result["scenario"]))
    console.print()
    console.print(results_table(results))
    for result in results:
        for failure in result["failures"]:
            print(f"{result['scenario']} ({result['mode']}): {failure}")
    for result in results:
        result["known_failing"] = KNOWN_FAILING.get(result["scenario"], "")
        if result["known_failing"]:
            now = "holds again, take it out of the list" if result["ok"] else "is known to fail"
            print(f"{result['scenario']} ({result['mode']}) {now}: {result['known_failing']}")
    failed = sum(not as_it_should_be(result) for result in results) + len(parts) - len(results)
    print(f"{len(parts)} scenarios in {time.monotonic() - began:.0f} s, {failed} failed; captures and logs: {directory}")
    if args.json:
        print(json.dumps({"scenarios": results, "seed": seed}), flush=True)
    return results


def second_laboratory(args: argparse.Namespace, parts: list[Part], seed: int, directory: Path) -> list[str]:
    """The options with which another ``brainctl demo`` plays these parts, and no others."""
    argv = ["--jobs", "1", "--daemon", args.daemon, "--seed", str(seed), "--json", "--keep", str(directory / "second")]
    argv += ["--advert-ms", str(args.advert_ms)]
    for part in parts:
        argv += ["--scenario", f"{part.scenario.name}:{part.setup.mode}"]
    for option, value in (("--quiet-s", args.quiet_s), ("--sabotage", args.sabotage)):
        argv += [option, str(value)] if value is not None else []
    argv += ["--without-braind"] if args.without_braind else []
    return argv


class _OtherLaboratory:
    """Scenarios played by a process of their own while others are played here."""

    def __init__(self, args: argparse.Namespace, parts: list[Part], seed: int, directory: Path) -> None:
        argv = second_laboratory(args, parts, seed, directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "second.log"
        environment = {**os.environ, "PYTHONPATH": str(library_root())}
        with self.log.open("wb") as log:
            self._process = spawn([sys.executable, "-m", "brainctl.demo", *argv], stdout=log, stderr=log, env=environment)

    def results(self) -> list[JsonObject]:
        """Wait for its end and tell what comes meanwhile; empty if it said nothing that can be read."""
        told = 0
        while True:
            ended = self._process.poll() is not None
            lines = [line for line in self.log.read_text().splitlines() if line.startswith(("== ", "ok: ", "FAILED: "))]
            for line in lines[told:]:
                print(f"second laboratory: {line}", flush=True)
            told = len(lines)
            if ended:
                break
            time.sleep(TELL_S)
        try:
            found: list[JsonObject] = json.loads(self.log.read_text().splitlines()[-1])["scenarios"]
        except (ValueError, KeyError, IndexError):
            print(f"the second laboratory gave no result; see {self.log}", file=sys.stderr)
            return []
        return found

    def close(self) -> None:
        """End it in an orderly way if it still runs."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
