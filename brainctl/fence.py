"""Fence devices.

    brainctl fence list                      what is configured and enrolled
    brainctl fence status                    ask every device for the power state
    brainctl fence check [--really]          find out what the devices are worth; --really powers the target off and on
    brainctl fence enroll [--replace]        check, then bind the device's identity to the node
    brainctl fence off NODE --yes            order braind to fence the peer now (intent, levels, proof, record) and wait for the outcome
    brainctl fence on NODE                   power a fenced node on again
    brainctl fence ack NODE --note TEXT      a person has seen with his own eyes that the node is off
    brainctl fence clear latch|quarantine    after the budget latched, or on a node that was fenced

Exit status: 0 good, 1 warnings, 2 failed or refused, 3 no daemon or wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from base.clock import now_ns
from base.control import ControlClient, RequestError
from base.core import NS_PER_MS
from base.diagnostics import ConfigError
from base.secrets import SecretError
from brainctl.following import follow_fence
from brainctl.maintenance import operate, order
from brainctl.options import add_common, control_socket
from brainctl.output import complain, paint, table, waiting
from fencing.check import check_device
from fencing.check_report import CheckReport, Grade
from fencing.client import all_devices
from fencing.devices.build import build_device
from fencing.devices.device import DeviceConfigError, DeviceResult
from fencing.enrolment import EnrolmentError, enroll
from fencing.plan.events import DeviceOutcome
from fencing.plan.settings import FenceDevice
from watchdog.config.load import load_brain
from watchdog.config.model import BrainSettings
from watchdog.enrolled import enrolment_path, with_enrolment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl fence``."""
    parser.add_argument("verb", choices=("list", "status", "check", "enroll", "off", "on", "ack", "clear"))
    parser.add_argument(
        "subject", nargs="?", default="", help="a device (status, check, enroll), a node (off, on, ack), latch or quarantine (clear)"
    )
    parser.add_argument("--really", action="store_true", help="check: power the target off and on again")
    parser.add_argument("--no-wrong-password", action="store_true", help="check: do not try a wrong login (the device locks accounts)")
    parser.add_argument("--replace", action="store_true", help="enroll: the device's identity has changed on purpose")
    parser.add_argument("--yes", action="store_true", help="off: do it")
    parser.add_argument("--no-wait", action="store_true", help="off: return as soon as it is ordered")
    parser.add_argument("--note", default="", help="off, on, ack, clear: goes into the record")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """One verb."""
    if args.verb in ("off", "on", "ack", "clear"):
        return _act(args)
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
        reports.append(check_device(device, really=args.really, wrong_password=not args.no_wrong_password))
    return reports


def _check(args: argparse.Namespace, _brain: BrainSettings, devices: list[FenceDevice]) -> int:
    reports = _reports(args, devices)
    if args.json:
        print(json.dumps({"reports": [r.to_json() for r in reports]}))
    else:
        for report in reports:
            _print_report(report)
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
        if args.subject not in ("latch", "quarantine"):
            complain("write: brainctl fence clear latch   or   brainctl fence clear quarantine", as_json=args.json)
            return 3
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
    if args.verb == "off" and not args.no_wait:
        return _off(args)
    return operate(args, _ACTIONS[args.verb], subject=args.subject, note=args.note)


def _off(args: argparse.Namespace) -> int:
    """Order it and stay until it is known what became of it: 0 only when it is proved."""
    status, answer = order(args, "fence_off", subject=args.subject, note=args.note)
    if status:
        return status
    order_id = answer["order_id"]
    try:
        with ControlClient(control_socket(args)) as client:
            outcome = follow_fence(client, answer, lambda step: None if args.json else print(f"{order_id}: {step}", flush=True))
    except (OSError, RequestError) as error:
        complain(f"{order_id} was ordered, but braind is gone: {error}", "brainctl log --kind fence tells what is known", as_json=args.json)
        return 3
    if not outcome.state:
        complain(f"{order_id}: {outcome.detail}", "brainctl log --kind fence does", as_json=args.json)
        return 2
    if args.json:
        print(json.dumps({"order_id": order_id, "state": outcome.state, "level": outcome.level, "detail": outcome.detail}))
    else:
        print(f"{order_id}: {paint(outcome.state, 'green' if outcome.proved else 'red')}: {outcome.detail}")
    return 0 if outcome.proved else 2
