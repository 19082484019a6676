"""What was tried on the cores, recorded and told: docs/reliability/*.json become docs/RELIABILITY.md (``make reliability``).

python scripts/reliability.py seeds --first 100000 --budget 1500     run fresh seeds and add what came of them to the record
python scripts/reliability.py search --depth 2 --budget 600 --start 7
python scripts/reliability.py render                                 write docs/RELIABILITY.md from the record
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from watchdog.search.run import search  # noqa: E402 - the tree must be on the path first
from watchdog.simulator.run import Result, run_seeds, summary  # noqa: E402

RECORD = ROOT / "docs" / "reliability"
PAGE = ROOT / "docs" / "RELIABILITY.md"
CHUNK = 12


def read(name: str) -> list[dict[str, Any]]:
    """One list of the record; empty if nothing was recorded."""
    path = RECORD / f"{name}.json"
    found = json.loads(path.read_text()) if path.exists() else []
    return found if isinstance(found, list) else [found]


def write(name: str, entries: list[dict[str, Any]]) -> None:
    """Replace one list of the record."""
    RECORD.mkdir(parents=True, exist_ok=True)
    (RECORD / f"{name}.json").write_text(json.dumps(entries, indent=2) + "\n")


def cpu_s() -> float:
    """CPU time of this process and its children, in s."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def run_fresh_seeds(first: int, budget_s: float, workers: int) -> int:
    """Run seeds from ``first`` on until the time is up; the record grows chunk by chunk. Returns how many broke a promise."""
    entries, began, cpu_began = read("seeds"), time.monotonic(), cpu_s()
    results: list[Result] = []
    while time.monotonic() - began < budget_s:
        at = first + len(results)
        results += run_seeds(range(at, at + CHUNK), workers=workers, quick=True)
        told = summary(results)
        entry = {
            "first": first,
            "seeds": len(results),
            "virtual_s": told["virtual_s"],
            "took_s": round(time.monotonic() - began),
            "cpu_s": round(cpu_s() - cpu_began, 1),
            "seeds_that_saw": told["seeds_that_saw"],
            "seeds_in_which": told["seeds_in_which"],
            "failing": told["failing"],
        }
        write("seeds", [*entries, entry])
    for result in results:
        for violation in result.violations:
            print(f"{violation}\n    repeat: {result.repeat()}")
    print(f"{len(results)} fresh seeds from {first}, {sum(bool(result.violations) for result in results)} of them broke a promise")
    return sum(bool(result.violations) for result in results)


def run_search(depth: int, budget_s: float, start: int, workers: int) -> int:
    """Search once and add the coverage to the record. Returns the number of findings."""
    coverage = search(depth, start=start, budget_s=budget_s, workers=workers)
    write("search", [*read("search"), coverage.to_json()])
    for finding in coverage.findings[:20]:
        print(f"{finding.violations[0]}\n    repeat: {finding.repeat()}")
    print(f"{coverage.schedules} schedules, {len(coverage.findings)} findings")
    return len(coverage.findings)


def render() -> str:
    """The page."""
    lines = [
        "# Reliability",
        "",
        "What was tried on the deciding cores, and what came of it. This page is generated from docs/reliability/*.json by",
        "`make reliability`; docs/SIMULATOR.md says what the means are, and what they do not show.",
        "",
        "## Seeds",
        "",
        "Fresh seeds of `brainctl simulate --quick` (time in which nothing goes on is left out, and counted as told).",
        "",
        "| from seed | seeds | told | CPU | could fence | split | fence proved | broke a promise |",
        "|---|---|---|---|---|---|---|---|",
    ]
    seeds = read("seeds")
    for entry in seeds:
        saw = entry["seeds_that_saw"]
        lines.append(
            f"| {entry['first']} | {entry['seeds']} | {entry['virtual_s'] / 3600:.1f} pair-hours | {entry['cpu_s']:.0f} s "
            f"| {saw.get('could_fence', 0)} | {saw['split']} | {saw['fence_proved']} | {len(entry['failing'])} |"
        )
    total, hours = sum(entry["seeds"] for entry in seeds), sum(entry["virtual_s"] for entry in seeds) / 3600
    spent_s = sum(entry["cpu_s"] for entry in seeds)
    rate = f"{hours / spent_s:.3f} pair-hours per CPU second" if spent_s else "no run yet"
    lines += ["", f"Together {total} seeds, {hours:.1f} pair-hours, {rate}."]
    failing = [failure for entry in seeds for failure in entry["failing"]]
    if failing:
        lines += ["", "Seeds that broke a promise (they are the bug reports):", ""]
        lines += [f"- `{failure['repeat']}`: {str(failure['violations'][0])[:150]}" for failure in failing[:40]]
    lines += [
        "",
        "## Search",
        "",
        "`brainctl search`: every letter of the alphabet at every moment, in eight pairs (strict and resolve, beside vrrpd and keepalived,",
        "with and without a witness). A run that was not complete explored as many first faults as is told, in the order of its start.",
        "",
        "| depth | start | first faults explored | schedules | letters | states | CPU | findings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    searches = read("search")
    for entry in searches:
        lines.append(
            f"| {entry['depth']} | {entry['start']} | {entry['first_letters_explored']} of {entry['first_letters']} | {entry['schedules']} "
            f"| {entry['letters']} | {entry['states'] or '–'} | {entry['cpu_s']:.0f} s | {len(entry['findings'])} |"
        )
    findings = [finding for entry in searches for finding in entry["findings"]]
    if findings:
        lines += ["", "Schedules that break a promise:", ""]
        lines += [f"- `{finding['repeat']}`: {str(finding['violations'][0])[:150]}" for finding in findings[:40]]
    lines += ["", "## Mutants", "", *mutants(), ""]
    return "\n".join(lines)


def mutants() -> list[str]:
    """The section on mutation testing."""
    entries = read("mutation")
    if not entries:
        return ["No run of `make mutation` is recorded."]
    lines = ["`make mutation`: one small change to watchdog/judgement, watchdog/frames or fencing/plan at a time.", ""]
    for entry in entries:
        killed = entry["tried"] - len(entry["survivors"])
        share = 100 * killed / entry["tried"] if entry["tried"] else 0
        by = ", ".join(f"{name} {count}" for name, count in entry["noticed_by"].items())
        lines.append(f"Seed {entry['seed']}: {killed} of {entry['tried']} noticed ({share:.0f} %; {by}).")
        lines += [""] if entry["survivors"] else []
        lines += [
            f"- {s['path']}:{s['line']}: {s['what']}{': ' + s['why'] if s['why'] else ' (not judged yet)'}" for s in entry["survivors"]
        ]
    return lines


def main() -> int:
    """Run, or render."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("seeds", "search", "render"))
    parser.add_argument("--first", type=int, default=0, help="first seed (0: drawn from the clock, and printed)")
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--budget", type=float, default=60, help="seconds")
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    broken = 0
    if args.what == "seeds":
        broken = run_fresh_seeds(args.first or 10_000 + time.time_ns() // 10**9 % 10**9, args.budget, args.workers)
    elif args.what == "search":
        broken = run_search(args.depth, args.budget, args.start or time.time_ns() // 10**9 % 10**6, args.workers)
    PAGE.write_text(render())
    return 2 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
