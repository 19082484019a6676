"""A run is repeated exactly by its seed. Faults instead of the seed's own: --fault 'cut eth0 at 10s' (repeat it for more; the
language is in docs/SIMULATOR.md and at the top of watchdog/simulator/faults.py). Exit status: 0 all promises kept, 2 one was
broken, 3 wrong usage."""

from __future__ import annotations

import argparse
import json
import sys
import time

from base.core import JsonValue
from watchdog.simulator.faults import Fault, FaultSyntaxError, parse_fault
from watchdog.simulator.options import SettingError, with_setting
from watchdog.simulator.plants import PLANTS
from watchdog.simulator.run import Result, build, finish, options_of, run_seeds, summary
from watchdog.simulator.stories import draw_options
from watchdog.simulator.table import Storyteller


def _fault(line: str) -> Fault:
    try:
        return parse_fault(line)
    except FaultSyntaxError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _setting(text: str) -> str:
    try:
        with_setting(draw_options(0), text)
    except SettingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``brainctl simulate``."""
    parser.add_argument("--seed", type=int, metavar="N", help="run one seed and show it in columns")
    parser.add_argument("--seeds", type=int, metavar="K", help="run K seeds on all processors")
    parser.add_argument("--budget", type=float, default=0, metavar="SECONDS", help="with --seeds: end after this time (no end)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first of --seeds (0)")
    parser.add_argument("--fault", type=_fault, action="append", metavar="TEXT", help="instead of the seed's own faults")
    parser.add_argument(
        "--plant", choices=sorted(PLANTS), metavar="NAME", help=f"a bug for the checkers to find: {', '.join(sorted(PLANTS))}"
    )
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option instead of the drawn one, e.g. mode=strict",
    )
    parser.add_argument("--quick", action="store_true", help="leave out the time in which nothing goes on (another run of the same seed)")
    parser.add_argument("--json", action="store_true", help="one JSON line per seed, the summary last")
    parser.add_argument("--trace", metavar="FILE", help="with --seed: write every event and command to FILE")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes to use (one per processor)")


def run(args: argparse.Namespace) -> int:
    """Run; returns the exit status."""
    if args.seed is not None and args.seeds is not None:
        print("brainctl simulate: give --seed or --seeds, not both", file=sys.stderr)
        return 3
    faults = None if args.fault is None else tuple(args.fault)
    plant = args.plant or ""
    if args.seeds is None:
        return _one(args, args.seed or 0, plant, faults)
    if args.seeds < 1 or args.trace:
        print("brainctl simulate: --seeds needs a positive number and no --trace", file=sys.stderr)
        return 3
    return _many(args, plant, faults)


def _one(args: argparse.Namespace, seed: int, plant: str, faults: tuple[Fault, ...] | None) -> int:
    began = time.perf_counter()
    settings = tuple(args.set)
    options = options_of(seed, faults, settings)
    world = build(options, plant, keep_trace=args.trace is not None, quick=args.quick)
    observer = world.observer
    teller = Storyteller(observer)
    world.watch(teller)
    result = finish(world, began, plant, () if faults is None else tuple(str(fault) for fault in faults), settings)
    if args.trace:
        with open(args.trace, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in world.trace.lines)
    if args.json:
        print(json.dumps(result.to_json()))
        print(json.dumps(summary([result])))
    else:
        print("\n".join(options.describe()), "", *teller.header(), *teller.lines, "", sep="\n")
        _tell(result)
    return 2 if result.violations else 0


def _tell(result: Result) -> None:
    rate = result.virtual_s / max(result.took_s, 1e-9)
    healed = result.seen.get("healed_after_ms", 0) / 1000
    print(f"{result.virtual_s:g} virtual seconds in {result.took_s:.2f} s ({rate:.0f} times real time), trace {result.trace_hash}")
    if not result.violations:
        print(f"every promise kept; in order again {healed:.1f} s after the repair")
        return
    for violation in result.violations:
        print(f"BROKEN {violation}")
    print(f"repeat: {result.repeat()}")


def _many(args: argparse.Namespace, plant: str, faults: tuple[Fault, ...] | None) -> int:
    began = time.perf_counter()
    results = []
    for result in run_seeds(range(args.first, args.first + args.seeds), plant, faults, args.workers, tuple(args.set), quick=args.quick):
        results.append(result)
        _progress(len(results), args.seeds, sum(len(r.violations) for r in results), time.perf_counter() - began)
        if args.json:
            print(json.dumps(result.to_json()), flush=True)
        elif result.violations:
            print(f"seed {result.seed} ({result.story}, {result.mode}, {result.daemon})")
            for violation in result.violations:
                print(f"  BROKEN {violation}")
            print(f"  repeat: {result.repeat()}", flush=True)
        if args.budget and time.perf_counter() - began > args.budget:
            break
    total = summary(results)
    if args.json:
        print(json.dumps(total))
    else:
        took_s = time.perf_counter() - began
        print(f"{len(results)} seeds, {total['virtual_s']} virtual seconds in {took_s:.1f} s, {total['violations']} violations")
        print(f"seeds that saw: {', '.join(f'{name} {count}' for name, count in _saw(total).items())}")
    return 2 if total["violations"] else 0


def _progress(done: int, of: int, violations: int, took_s: float) -> None:
    """How far it is, on one line that goes away; only for a person at a terminal."""
    if sys.stderr.isatty():
        left_s = took_s / done * (of - done)
        text = f"{done}/{of} seeds, {violations} violations, {left_s:.0f} s left"
        print(f"\r{text}\x1b[K" if done < of else "\r\x1b[K", end="", file=sys.stderr, flush=True)


def _saw(total: dict[str, JsonValue]) -> dict[str, JsonValue]:
    saw = total["seeds_that_saw"]
    return saw if isinstance(saw, dict) else {}
