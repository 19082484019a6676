"""``make bench``: takeover, detection, cost and LVS beside keepalived; runs interleaved, keepalived against itself shown as the noise.

Exit status 1 when a goal is missed: takeover ratio ≤ 1 + noise, detection median ≤ 20 ms, vrrpd ≤ 60 MiB, in every fault (bench/faults)
where keepalived was measured to fail vrrpd holds, the client's outage with braind is that without it and its bound (bench/outage.py), and
a failed real server is removed and restored with ratio ≤ 1 + noise. LVS is measured in the kernel lab (``make lab``), and it and the outage
when asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import sys

from bench import outage
from bench.faults import report
from bench.faults.catalogue import BY_NAME
from bench.fence_devices import measure_fence_devices, print_table
from bench.lvs import measure_lvs
from bench.observer import real_time
from bench.takeover import measure_takeover
from bench.watcher import measure_detection, measure_idle
from vrrp.config import compatibility

DETECTION_GOAL_MS = 20.0
MEMORY_GOAL_MIB = 60.0
LVS_SMALLEST_NOISE = 0.1
"""The wait for the next check is random: the medians of a few runs may be equal by luck."""
DEFAULT_PARTS = ("takeover", "detection", "idle", "faults")
PARTS = (*DEFAULT_PARTS, "outage", "lvs", "fence")
KEYS = ("advert_ms", "address_ms", "arp_ms")


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


def spread(values: list[float]) -> str:
    """median [min – max]."""
    return f"{median(values):7.3f} [{min(values):.3f} – {max(values):.3f}]"


def noise_of(values: list[float]) -> float:
    """How far the medians of two halves of the same daemon's runs lie apart, as a part of the whole's median: 95 % of random splits.

    A small difference between two daemons that is within this says nothing.
    """
    rng, half = random.Random(1), len(values) // 2
    apart = []
    for _ in range(2000):
        rng.shuffle(values)
        apart.append(abs(median(values[:half]) - median(values[half:])) / median(values))
    return sorted(apart)[len(apart) * 95 // 100]


def takeover(runs: int, rt_priority: int) -> tuple[dict[str, object], bool]:
    """Ours between two series of keepalived's, run by run."""
    series: dict[str, list[dict[str, float]]] = {"keepalived": [], "vrrpd": [], "keepalived again": []}
    for number in range(runs):
        for name, rows in series.items():
            rows.append(measure_takeover(name.split()[0], rt_priority=rt_priority))
        print(f"\rtakeover {number + 1}/{runs}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    out: dict[str, object] = {}
    good = True
    print("\ntakeover above the protocol floor, ms: median [min – max]")
    for key in KEYS:
        columns = {name: [row[key] for row in rows] for name, rows in series.items()}
        theirs = columns["keepalived"] + columns["keepalived again"]
        ratio, noise = median(columns["vrrpd"]) / median(theirs), noise_of(theirs)
        out[key] = {**{name: [round(v, 4) for v in values] for name, values in columns.items()}, "ratio": ratio, "noise": noise}
        print(f"  {key:11s}" + "".join(f"  {name} {spread(values)}" for name, values in columns.items()))
        print(f"  {'':11s}  ratio vrrpd/keepalived {ratio:.2f}, keepalived against itself 1 ± {noise:.2f}")
        if key == "arp_ms":  # until the address is usable
            good = ratio <= 1 + noise
    return out, good


def lvs(runs: int) -> tuple[dict[str, object], bool]:
    """Three directors at the same time; see bench.lvs."""
    times = measure_lvs(runs)
    good = True
    print("\na real server that fails and comes back, ms: median [min – max]")
    for key in next(iter(times.values())):
        reference = median(times["keepalived"][key])
        ratio, noise = median(times["vrrpd"][key]) / reference, abs(median(times["keepalived again"][key]) / reference - 1)
        print(f"  {key:26s}" + "".join(f"  {name} {spread(columns[key])}" for name, columns in times.items()))
        print(f"  {'':26s}  ratio vrrpd/keepalived {ratio:.2f}, keepalived against itself 1 ± {noise:.2f}")
        if not key.endswith("answer"):
            good = good and ratio <= 1 + max(noise, LVS_SMALLEST_NOISE)
    return dict(times), good


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PART",
        help="takeover, detection, idle, faults[:NAME], outage[:NAME or :all], lvs or fence; may be repeated",
    )
    parser.add_argument("--runs", type=int, default=15, help="interleaved runs, splits (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="idle measurement (%(default)s)")
    parser.add_argument("--rt", type=int, default=0, metavar="PRIORITY", help="takeover: SCHED_RR for both daemons, on a busy machine")
    parser.add_argument("--out", help="write everything as JSON to this file")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of tables")
    parser.add_argument("--write", action="store_true", help="keep the figures of faults and outage in docs")
    options = parser.parse_args()
    if problem := unknown_part(options.only):
        parser.error(problem)
    real_time()
    wanted = options.only or list(DEFAULT_PARTS)
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        results, goals = measure(wanted, options)
    if options.json:
        print(json.dumps({"results": results, "goals": goals}, indent=1))
    if options.out:
        with open(options.out, "w", encoding="utf-8") as f:
            json.dump(results, f, indent=1)
    return 0 if all(goals.values()) else 1


def unknown_part(words: list[str]) -> str:
    """What is wrong with the arguments of ``--only``, or an empty string."""
    for word in words:
        part, _, name = word.partition(":")
        names = {"faults": list(BY_NAME), "outage": outage.known()}
        if part not in PARTS or (name and name not in names.get(part, ())):
            every = [f"{which}:{one}" for which, all_of_it in names.items() for one in all_of_it]
            return f"--only {word}: choose from {', '.join((*PARTS, *every))}"
    return ""


def measure(wanted: list[str], options: argparse.Namespace) -> tuple[dict[str, object], dict[str, bool]]:
    """Everything that is wanted; returns the figures and, goal by goal, whether it was met."""
    results: dict[str, object] = {}
    goals: dict[str, bool] = {}
    if "takeover" in wanted:
        results["takeover"], goals["takeover: address usable, ratio ≤ 1 + noise"] = takeover(options.runs, options.rt)
    if "detection" in wanted:
        for daemon in ("keepalived", "vrrpd"):
            values = measure_detection(daemon, options.runs)
            results[f"detection {daemon}"] = values
            goals[f"detection beside {daemon}: median ≤ {DETECTION_GOAL_MS:.0f} ms"] = median(values) <= DETECTION_GOAL_MS
            print(f"\nsecond owner's first claim → suspected, beside {daemon}, ms: {spread(values)}  n={len(values)}")
    if "idle" in wanted:
        for daemon in ("keepalived", "vrrpd"):
            idle = measure_idle(daemon, options.seconds)
            results[f"idle {daemon}"] = idle
            print(f"\nidle beside {daemon}: " + ", ".join(f"{name} {value:.2f}" for name, value in idle.items()))
            if daemon == "vrrpd":
                goals[f"vrrpd ≤ {MEMORY_GOAL_MIB:.0f} MiB PSS"] = idle["vrrp_pss_mib"] <= MEMORY_GOAL_MIB
    if "lvs" in wanted:
        results["lvs"], goals["LVS: removed and restored, ratio ≤ 1 + noise"] = lvs(options.runs)
    if "fence" in wanted:
        table = measure_fence_devices(options.runs)
        results["fence"] = table
        print_table(table)
        for fault, row in table.items():
            ours, agent = (float(str(row[who]["median_ms"])) for who in ("ours", "agent"))
            goals[f"fence {fault}: ours not later than the agent"] = ours <= agent
    if faults := report.chosen(wanted):
        rows = report.run(faults)
        results["faults"] = rows
        report.show(rows)
        for row in rows:
            goals[f"faults:{row['name']}: {row['goal']}"] = row["vrrpd"]["holds"]
        if options.write:
            report.keep(rows)
            compatibility.main(["--write"])
    if cases := outage.chosen(wanted):
        compared = outage.run(cases)
        results["outage"] = compared
        outage.show(compared)
        goals |= {f"outage: {row['name']}: as without braind, and its bound": row["holds"] for row in compared}
        if options.write:
            outage.keep(compared)
    print()
    for goal, met in goals.items():
        print(f"  {'met   ' if met else 'MISSED'}  {goal}")
    return results, goals


if __name__ == "__main__":
    sys.exit(main())
