"""Every short schedule of faults, tried on the cores of the daemons in small virtual pairs (docs/SIMULATOR.md): strict and resolve, beside
vrrpd and keepalived, with and without a witness. The promises are the invariants. Exit status: 0 none is broken, 2 one is, 3 wrong
usage."""

from __future__ import annotations

import argparse
import json
import sys

from base.core import NS_PER_MS
from watchdog.judgement.watcher import WatcherCore
from watchdog.search.alphabet import LETTERS
from watchdog.search.explore import play_schedule
from watchdog.search.plants import PLANTS
from watchdog.search.run import Coverage, Finding, search
from watchdog.search.settings import CONFIGURATIONS, Configuration

DEEP_BUDGET_S = 540.0
"""A search for two faults or more ends after nine minutes unless told otherwise, and says how far it came."""
TOLD_AFTER_S = 2.0


def _step(text: str) -> tuple[int, str]:
    letter, found, at_ms = text.partition("@")
    if letter not in LETTERS or not found:
        raise argparse.ArgumentTypeError(f"{text!r}: LETTER@MS, where a letter is one of {', '.join(LETTERS)}")
    try:
        return round(float(at_ms) * NS_PER_MS), letter
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: {at_ms!r} is no number of milliseconds") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``brainctl search``."""
    parser.add_argument("--depth", type=int, default=1, metavar="N", help="faults in one schedule, at most (1)")
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS", help="end after this time, whatever is left; 0: no end (no end at depth 1, else 540)"
    )
    parser.add_argument("--start", type=int, default=0, metavar="N", help="shifts the grid and the order of the search (0)")
    names = [str(configuration) for configuration in CONFIGURATIONS]
    parser.add_argument("--pair", choices=names, metavar="PAIR", help=f"only one pair: {', '.join(names)}")
    parser.add_argument("--step", type=_step, action="append", metavar="LETTER@MS", help="with --pair: play this one schedule")
    parser.add_argument("--plant", choices=sorted(PLANTS), metavar="NAME", help=f"a bug to be found: {', '.join(sorted(PLANTS))}")
    parser.add_argument("--json", action="store_true", help="the coverage and every finding as one JSON document")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes to use (one per processor)")


def run(args: argparse.Namespace) -> int:
    """Search; returns the exit status."""
    core = PLANTS[args.plant].core if args.plant else WatcherCore
    pairs = tuple(pair for pair in CONFIGURATIONS if args.pair in (None, str(pair)))
    if args.step:
        if len(pairs) != 1:
            print("brainctl search: --step needs --pair", file=sys.stderr)
            return 3
        return _play(pairs[0], tuple(args.step), core, as_json=args.json)
    budget_s = args.budget if args.budget is not None else DEEP_BUDGET_S if args.depth > 1 else 0.0
    if not 1 <= args.depth <= 9 or budget_s < 0:
        print("brainctl search: --depth is 1 to 9, --budget not negative", file=sys.stderr)
        return 3
    coverage = search(
        args.depth, start=args.start, budget_s=budget_s, workers=args.workers, pairs=pairs, core=core, progress=_Progress(budget_s)
    )
    if args.json:
        print(json.dumps(coverage.to_json()))
    else:
        _tell(coverage)
    return 2 if coverage.findings else 0


class _Progress:
    """How far it is, on one line that goes away; only for a person at a terminal."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._told_s = 0.0

    def __call__(self, coverage: Coverage) -> None:
        if coverage.took_s - self._told_s < 0.5 or coverage.took_s < TOLD_AFTER_S or not sys.stderr.isatty():
            return
        self._told_s = coverage.took_s
        left = f", {max(0, self._budget_s - coverage.took_s):.0f} s left" if self._budget_s else ""
        done = f"{coverage.units_done}/{coverage.units} first faults"
        text = f"{done}, {coverage.schedules} schedules, {len(coverage.findings)} findings{left}"
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)


def _play(pair: Configuration, schedule: tuple[tuple[int, str], ...], core: type[WatcherCore], *, as_json: bool) -> int:
    outcome = play_schedule(pair, schedule, core)
    finding = Finding(str(pair), schedule, outcome.violations)
    if as_json:
        print(json.dumps(finding.to_json()))
    else:
        for at_ns, letter in schedule:
            print(f"{at_ns / NS_PER_MS:>9g} ms  {LETTERS[letter]}")
        print("\n".join(f"BROKEN {violation}" for violation in outcome.violations) or "every promise kept")
    return 2 if outcome.violations else 0


def _tell(coverage: Coverage) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    for finding in coverage.findings[:50]:
        print(f"{finding.configuration}: {', '.join(f'{letter} at {at_ns / NS_PER_MS:g} ms' for at_ns, letter in finding.schedule)}")
        print(f"  BROKEN {finding.violations[0]}")
        print(f"  repeat: {finding.repeat()}")
    if len(coverage.findings) > 50:
        print(f"… and {len(coverage.findings) - 50} more")
    depths = ", ".join(f"{count} of {depth}" for depth, count in sorted(coverage.by_depth.items()))
    whole = "all" if coverage.complete else f"{coverage.units_done} of {coverage.units} first faults (the time was up)"
    print(
        f"start {coverage.start}, depth {coverage.depth}: {whole}; {coverage.schedules} schedules ({depths} faults) of "
        f"{len(coverage.letters)} letters over {len(coverage.by_pair)} pairs in {coverage.took_s:.1f} s"
        f"{f', {coverage.states} states' if coverage.states else ''}; {len(coverage.findings)} findings"
    )
