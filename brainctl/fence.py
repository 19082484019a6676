"""Fence devices.

    brainctl fence VERB --help     one page a verb: list status check enroll history test-schedule off on ack clear

Exit status: 0 good, 1 warnings, 2 failed or refused, 3 no daemon or wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from base.clock import now_ns, wall_ns
from base.control import ControlClient, RequestError
from base.core import NS_PER_MS
from base.diagnostics import ConfigError
from base.secrets import SecretError
from brainctl import fence_history
from brainctl.following import follow_fence
from brainctl.maintenance import operate, order
from brainctl.options import add_common, control_socket
from brainctl.output import complain, paint, table, waiting
from brainctl.rehearsing import observed
from fencing.check import check_device, measured_ms
from fencing.check_report import CheckReport, Grade
from fencing.client import all_devices
from fencing.devices.build import build_device
from fencing.devices.device import DeviceConfigError, DeviceResult
from fencing.enrolment import EnrolmentError, enroll
from fencing.plan.events import DeviceOutcome
from fencing.plan.settings import FenceDevice
from fencing.rehearsal import DEFAULT_EVERY_DAYS, Due, Rehearsal, RehearsalError, keep_rehearsal, load_rehearsals, plan
from watchdog.config.load import load_brain
from watchdog.config.model import BrainSettings
from watchdog.enrolled import enrolment_path, with_enrolment

REHEARSALS = "rehearsals.json"
"""In the state directory."""
VERBS = {
    "list": "what is configured and enrolled",
    "status": "ask every device for the power state",
    "check": "find out what the devices are worth; --really powers the target off and on",
    "enroll": "check, then bind the device's identity to the node",
    "history": "every fence in the record: when, what came of it, how it was proved",
    "test-schedule": "when each device was last tried for real, and which trial is due",
    "off": "order braind to fence the peer now (intent, levels, proof, record) and wait for the outcome",
    "on": "order braind to power a fenced node on again by every device that may have cut it, and wait for the outcome",
    "ack": "a person has seen with his own eyes that the node is off",
    "clear": "after the budget latched, or on a node that was fenced",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl fence``: each verb has its own."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in VERBS.items():
        options = verbs.add_parser(verb, help=text, description=text[0].upper() + text[1:] + ".")
        if verb in ("list", "status", "check", "enroll", "test-schedule"):
            options.add_argument(
                "subject", nargs="?", default="", metavar="DEVICE|NODE", help="only this device, or those that fence this node"
            )
        elif verb in ("off", "on", "ack"):
            options.add_argument("subject", nargs="?", default="", metavar="NODE", help="the node")
        elif verb == "clear":
            options.add_argument("subject", choices=("latch", "quarantine"))
        if verb in ("check", "enroll"):
            options.add_argument("--really", action="store_true", help="power the target off and on again, and watch it fall silent")
            options.add_argument("--no-wrong-password", action="store_true", help="do not try a wrong login (the device locks accounts)")
        if verb == "enroll":
            options.add_argument("--replace", action="store_true", help="the device's identity has changed on purpose")
        if verb == "off":
            options.add_argument("--yes", action="store_true", help="do it")
        if verb in ("off", "on"):
            options.add_argument("--no-wait", action="store_true", help="return as soon as it is ordered")
        if verb in ("off", "on", "ack", "clear"):
            options.add_argument("--note", default="", help="goes into the record")
        if verb == "history":
            options.add_argument("--lines", "-n", type=int, default=20, help="at most so many fences (%(default)s)")
        if verb == "test-schedule":
            options.add_argument(
                "--every", type=int, default=DEFAULT_EVERY_DAYS, metavar="DAYS", help="how often to try (%(default)s days)"
            )
        add_common(options)


def run(args: argparse.Namespace) -> int:
    """One verb."""
    if args.verb in ("off", "on", "ack", "clear"):
        return _act(args)
    if args.verb == "history":
        return fence_history.run(args)
    try:
        brain, problem = with_enrolment(load_brain(args.config, args.node).settings, args.state_dir)
    except ConfigError as error:
        complain(str(error), as_json=args.json)
        return 2
    if problem:
        complain(problem, as_json=args.json)
        return 2
    devices = [d for d in all_devices(brain.fence) if args.subject in ("", d.name, d.target)]
    if not devices:
        complain(f"no fence device{' ' + args.subject if args.subject else ''} in {args.config}", "see docs/FENCING.md", as_json=args.json)
        return 2
    verbs: dict[str, Callable[[argparse.Namespace, BrainSettings, list[FenceDevice]], int]] = {
        "list": _list,
        "status": _status,
        "check": _check,
        "enroll": _enroll,
        "test-schedule": _schedule,
    }
    return verbs[args.verb](args, brain, devices)


def _list(args: argparse.Namespace, brain: BrainSettings, devices: list[FenceDevice]) -> int:
    levels = {d.name: (number, level.name) for _t, ls in brain.fence.levels for number, level in enumerate(ls, 1) for d in level.devices}
    if args.json:
        rows = [
            {
                "device": d.name,
                "type": d.type,
                "worth": d.worth.value,
                "target": d.target,
                "level": levels[d.name][0],
                "identity": d.identity,
                "deadline_ms": d.deadline_ms,
            }
            for d in devices
        ]
        print(json.dumps({"enabled": brain.fence.enabled, "measured_ms": brain.fence.measured_ms, "devices": rows}))
        return 0
    rows_text = [
        [d.target, f"{levels[d.name][0]} {levels[d.name][1]}", d.name, d.type, d.worth.value, d.identity or paint("not enrolled", "yellow")]
        for d in devices
    ]
    print(table(rows_text, ("target", "level", "device", "type", "worth", "identity")))
    switch = "enabled" if brain.fence.enabled else "not enabled"
    print(f"\nautomatic fencing: {switch}; F (measured): {brain.fence.measured_ms or 'unknown'} ms")
    return 0


def _read(device: FenceDevice) -> DeviceResult:
    try:
        return build_device(device).perform("status", now_ns() + device.deadline_ms * NS_PER_MS)
    except (DeviceConfigError, SecretError) as error:
        return DeviceResult(DeviceOutcome.FAILURE, detail=str(error))


def _status(args: argparse.Namespace, _brain: BrainSettings, devices: list[FenceDevice]) -> int:
    with waiting(f"asking {len(devices)} fence device(s)"), ThreadPoolExecutor(len(devices)) as pool:
        results = list(pool.map(_read, devices))
    changed = {d.name for d, r in zip(devices, results, strict=True) if d.identity and r.identity and r.identity != d.identity}
    good = all(r.outcome is DeviceOutcome.SUCCESS for r in results) and not changed
    if args.json:
        rows = [
            {
                "device": d.name,
                "target": d.target,
                "outcome": r.outcome.value,
                "power": r.power.value,
                "identity": r.identity,
                "as_enrolled": r.identity == d.identity if d.identity else None,
                "detail": r.detail,
            }
            for d, r in zip(devices, results, strict=True)
        ]
        print(json.dumps({"devices": rows}))
    else:
        colour = {"on": "green", "off": "red"}
        rows_text = [
            [d.target, d.name, paint(r.power.value, colour.get(r.power.value, "yellow")), r.outcome.value, f"{r.took_ms} ms", r.detail]
            for d, r in zip(devices, results, strict=True)
        ]
        print(table(rows_text, ("target", "device", "power", "outcome", "took", "")))
        for d, r in zip(devices, results, strict=True):
            if d.name in changed:
                print(f"{paint(d.name, 'red')}: enrolled as {d.identity}, but it says {r.identity}: another machine may hang on it now")
                print("  → find out which machine this is; then brainctl fence enroll --replace, or mend the cabling")
    return 0 if good else 2


def _reports(args: argparse.Namespace, devices: list[FenceDevice]) -> list[CheckReport]:
    """One device after the other: two checks at once would disturb each other's target."""
    reports = []
    for device in devices:
        if not args.json:
            print(f"checking {device.name} → {device.target} (at most {device.deadline_ms * 8 // 1000} s) …", file=sys.stderr)
        reports.append(_tried(args, device) if args.really else check_device(device, wrong_password=not args.no_wrong_password))
    return reports


def _tried(args: argparse.Namespace, device: FenceDevice) -> CheckReport:
    """The real trial, with braind as the observer, kept as a rehearsal."""
    wrong_password = not args.no_wrong_password
    minutes = 2 + device.deadline_ms * 6 // 60_000
    try:
        with observed(control_socket(args), device.target, minutes) as braind:
            report = check_device(device, really=True, wrong_password=wrong_password, observer=braind)
    except (OSError, RequestError, ValueError) as error:
        report = CheckReport(device.name, device.target, worth=device.worth, bound_ms=device.deadline_ms)
        report.add(
            Grade.ERROR,
            "no-observer",
            f"nobody would notice a wrong outlet: {error}",
            f"run this on the node whose braind watches {device.target}, with braind running",
        )
        return report
    rehearsal = Rehearsal(
        device.name, device.target, wall_ns(), report.passed, report.effect_ms, report.on_ms, report.fell_silent, report.spoke_on
    )
    try:
        keep_rehearsal(rehearsal, Path(args.state_dir) / REHEARSALS)
    except RehearsalError as error:
        report.add(Grade.WARNING, "not-kept", str(error))
    return report


def _schedule(args: argparse.Namespace, _brain: BrainSettings, devices: list[FenceDevice]) -> int:
    try:
        planned = plan(devices, load_rehearsals(Path(args.state_dir) / REHEARSALS), wall_ns(), max(1, args.every))
    except RehearsalError as error:
        complain(str(error), as_json=args.json)
        return 2
    due = [entry for entry in planned if entry.due is not Due.FINE]
    if args.json:
        rows = [
            {"device": p.device, "target": p.target, "due": p.due.value, "next_wall_ns": p.next_wall_ns, "last": p.last and asdict(p.last)}
            for p in planned
        ]
        print(json.dumps({"devices": rows}))
        return 1 if due else 0
    rows_text = [
        [
            p.target,
            p.device,
            paint(p.due.value, "green" if p.due is Due.FINE else "yellow"),
            _day(p.last.wall_ns) if p.last else "–",
            f"off {p.last.effect_ms} ms, on {p.last.on_ms} ms" if p.last and p.last.effect_ms else "–",
            _day(p.next_wall_ns) if p.next_wall_ns else "now",
        ]
        for p in planned
    ]
    print(table(rows_text, ("target", "device", "", "last trial", "took", "next")))
    if due:
        print(f"\nin a maintenance window, on the other node: brainctl fence check {due[0].device} --really")
    return 1 if due else 0


def _day(at_wall_ns: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at_wall_ns // 1_000_000_000))


def _check(args: argparse.Namespace, brain: BrainSettings, devices: list[FenceDevice]) -> int:
    reports = _reports(args, devices)
    levels = [level for _target, levels in brain.fence.levels for level in levels]
    measured = measured_ms(reports, levels)
    if args.json:
        print(json.dumps({"reports": [r.to_json() for r in reports], "measured_ms": measured}))
    else:
        for report in reports:
            _print_report(report)
        if args.really:
            print(f"\nF, the slowest level as tried (a device that was not tried counts with its deadline): measured_ms = {measured}")
    return _grade(reports)


def _grade(reports: list[CheckReport]) -> int:
    if not all(r.passed for r in reports):
        return 2
    return 1 if any(f.grade is Grade.WARNING for r in reports for f in r.findings) else 0


def _print_report(report: CheckReport) -> None:
    colours = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.ERROR: "red"}
    print(paint(f"{report.device} → {report.target}", "bold"))
    for finding in report.findings:
        print(f"  {paint(finding.grade.value.ljust(7), colours[finding.grade])} {finding.message}")
        if finding.remedy:
            print(f"          → {finding.remedy}")


def _enroll(args: argparse.Namespace, _brain: BrainSettings, devices: list[FenceDevice]) -> int:
    reports = _reports(args, devices)
    failed = False
    enrolled = []
    for device, report in zip(devices, reports, strict=True):
        if not args.json:
            _print_report(report)
        try:
            entry = enroll(device, report, enrolment_path(args.state_dir), replace_identity=args.replace)
        except EnrolmentError as error:
            print(f"{paint('refused', 'red')}: {error}", file=sys.stderr)
            failed = True
            continue
        enrolled.append({"device": entry.device, "target": entry.target, "identity": entry.identity, "effect_ms": entry.effect_ms})
        if not args.json:
            print(paint(f"  enrolled: {entry.device} is {entry.identity}, outlet of node {entry.target}", "green"))
    if args.json:
        print(json.dumps({"enrolled": enrolled, "reports": [replace(r).to_json() for r in reports]}))
    elif enrolled:
        print("reload braind (SIGHUP) so that it uses the enrolment")
    return 2 if failed else 0


_ACTIONS = {"off": "fence_off", "on": "fence_on", "ack": "confirm_off"}


def _act(args: argparse.Namespace) -> int:
    if args.verb == "clear":
        return operate(args, f"clear_{args.subject}", note=args.note)
    if not args.subject:
        complain(f"which node? brainctl fence {args.verb} NODE", as_json=args.json)
        return 3
    if args.verb == "off" and not args.yes:
        complain(f"this powers {args.subject} off", "say --yes if you mean it", as_json=args.json)
        return 2
    if args.verb == "ack" and not args.note:
        complain("an acknowledgement needs --note", "what did you see, and how do you know that the node is off?", as_json=args.json)
        return 2
    if args.verb in ("off", "on") and not args.no_wait:
        return _followed(args)
    return operate(args, _ACTIONS[args.verb], subject=args.subject, note=args.note)


def _followed(args: argparse.Namespace) -> int:
    """Order it and stay until it is known what became of it: 0 only when it is proved."""
    status, answer = order(args, _ACTIONS[args.verb], subject=args.subject, note=args.note)
    if status:
        return status
    order_id, kind = answer["order_id"], "fence" if args.verb == "off" else "action"
    try:
        with ControlClient(control_socket(args)) as client:
            outcome = follow_fence(
                client, answer, lambda step: None if args.json else print(f"{order_id}: {step}", flush=True), power_on=args.verb == "on"
            )
    except (OSError, RequestError) as error:
        complain(
            f"{order_id} was ordered, but braind is gone: {error}", f"brainctl log --kind {kind} tells what is known", as_json=args.json
        )
        return 3
    if not outcome.state:
        complain(f"{order_id}: {outcome.detail}", f"brainctl log --kind {kind} does", as_json=args.json)
        return 2
    if args.json:
        print(json.dumps({"order_id": order_id, "state": outcome.state, "level": outcome.level, "detail": outcome.detail}))
    else:
        print(f"{order_id}: {paint(outcome.state, 'green' if outcome.proved else 'red')}: {outcome.detail}")
    return 0 if outcome.proved else 2
