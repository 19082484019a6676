"""Builds a pair of nodes inside this machine, splits it in every way, and measures from outside what brainctl makes of it.

Needs root and nothing but this machine: every network, serial line and power switch is made for the run and removed afterwards.
Addresses, ports and the moments of the faults differ from run to run; --seed repeats one. Exit status 0: every expectation held.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from brainctl.demo.daemons import DAEMONS, MODES, Setup
from brainctl.demo.preflight import preflight
from brainctl.demo.runner import Audience, Result, play
from brainctl.demo.scenario import Scenario
from brainctl.demo.scenarios import SCENARIOS, find_scenario

SABOTAGES = ("no-census", "no-yield", "no-fence", "trust-agent", "no-second-look")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl demo``."""
    parser.add_argument("--daemon", choices=DAEMONS, default="vrrpd", help="the VRRP daemon of the pair (%(default)s)")
    parser.add_argument("--mode", choices=MODES, help="what braind may do (default: what each scenario is about, mostly resolve)")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="play only this one (may be repeated)")
    parser.add_argument("--list", action="store_true", help="list the scenarios and exit")
    parser.add_argument("--json", action="store_true", help="plain lines, and as the last line every result as JSON")
    parser.add_argument("--sabotage", choices=SABOTAGES, help="spoil one judgement of braind: named scenarios must then fail")
    parser.add_argument("--seed", type=int, help="repeat the addresses and moments of an earlier run")
    parser.add_argument("--keep", metavar="DIR", help="where captures and logs go (default: a new directory in /tmp)")
    parser.add_argument("--quiet-s", type=float, metavar="S", help="length of the scenario quiet in seconds (default: 120)")
    parser.add_argument("--advert-ms", type=int, metavar="MS", default=500, help="VRRP advertisement interval (%(default)s)")
    parser.add_argument("--without-braind", action="store_true", help="the bare pair, to see what brainctl is for")


@dataclass(frozen=True, slots=True)
class Part:
    """One scenario in one mode."""

    scenario: Scenario
    setup: Setup


def programme(args: argparse.Namespace) -> list[Part]:
    """What will be played, in order. ValueError names an unknown scenario."""
    chosen: list[Scenario] = []
    for name in args.scenario or [scenario.name for scenario in SCENARIOS]:
        scenario = find_scenario(name)
        if scenario is None:
            raise ValueError(f"there is no scenario {name!r}; brainctl demo --list names them")
        chosen.append(scenario)
    if args.quiet_s is not None:
        for scenario in chosen:
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
                sabotage=args.sabotage or "",
            ),
        )
        for scenario in chosen
        for mode in ([args.mode] if args.mode else scenario.modes)
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
    results = _play_all(parts, seed, directory, args.json)
    return 0 if all(result.ok for result in results) else 1


def _leave(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(143)  # unwinds every ``with``: the laboratory is taken down


def _play_all(parts: list[Part], seed: int, directory: Path, as_json: bool) -> list[Result]:
    from rich.console import Console

    from brainctl.demo.view import Lines, Screen, results_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    live = console.is_terminal and not as_json
    audience: Audience = Screen(console) if live else Lines(sys.stdout)
    print(f"seed {seed}, captures and logs in {directory}", flush=True)
    began = time.monotonic()
    results = [
        play(part.scenario, part.setup, seed + number, directory / f"{number:02d}-{part.scenario.name}-{part.setup.mode}", audience)
        for number, part in enumerate(parts)
    ]
    console.print()
    console.print(results_table(results))
    failed = sum(not result.ok for result in results)
    print(f"{len(results)} scenarios in {time.monotonic() - began:.0f} s, {failed} failed; captures and logs: {directory}")
    if as_json:
        print(json.dumps({"scenarios": [result.to_json() for result in results], "seed": seed}), flush=True)
    return results
