"""Checks brain.toml, keepalived.conf, key, devices and gate on this node, and prints the bounds that this configuration gives.

Exit status: 0 all good, 1 warnings, 2 errors. Nothing is changed and nothing is sent.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from base.diagnostics import ConfigError, Diagnostic, Position, Severity
from base.secrets import SecretError, read_secret_file, resolve_secret
from brainctl.check_addresses import check_addresses
from brainctl.check_witness import check_witness
from brainctl.local_network import local_addresses
from brainctl.options import add_common
from brainctl.output import paint
from brainctl.stanza import track_file_blocks
from fencing.plan.delay import check_delay
from fencing.topology import topology_warnings
from watchdog.config.load import LoadedBrain, load_brain
from watchdog.config.model import BrainSettings, GroupKey, Mode, PathKind
from watchdog.groups import LoadedGroups, read_groups
from watchdog.judgement.delays import Bounds, bounds_of, spread_ms
from watchdog.judgement.self_fence import bound_ms
from watchdog.tracked_gate import gate_path, missing_gate

LEAST_KEY_BYTES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl check``."""
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Print every finding and the bounds."""
    findings: list[Diagnostic] = []
    bounds: Bounds | None = None
    try:
        loaded = load_brain(args.config, args.node)
        findings += loaded.diagnostics
        findings += check_node(loaded)
        bounds = _bounds(loaded.settings)
        findings += check_gate_and_groups(loaded)
        findings += check_fence(loaded, args.state_dir)
        findings += check_self_fence(loaded)
        findings += check_witness(loaded)
    except ConfigError as error:
        findings += error.diagnostics
    errors = sum(d.severity is Severity.ERROR for d in findings)
    warnings = sum(d.severity is Severity.WARNING for d in findings)
    if args.json:
        print(
            json.dumps(
                {"findings": [d.to_json() for d in findings], "bounds": _bounds_json(bounds), "errors": errors, "warnings": warnings}
            )
        )
    else:
        _print(findings, bounds, errors, warnings)
    return 2 if errors else 1 if warnings else 0


def _bounds(brain: BrainSettings) -> Bounds:
    """With the groups that keepalived.conf has; what is wrong with it is said by check_gate_and_groups."""
    try:
        groups = read_groups(brain.gate.config).groups
    except ConfigError:
        return bounds_of(brain)
    return bounds_of(brain, max(1, len(groups)), max(1, len({group.priority for group in groups})))


def _bounds_json(bounds: Bounds | None) -> dict[str, int | str | None] | None:
    if bounds is None:
        return None
    return {
        "detect_ms": bounds.detect_ms,
        "resolve_ms": bounds.resolve_ms,
        "fence_ms": bounds.fence_ms,
        "why": bounds.why,
        "serial_detect_ms": bounds.serial_ms[0] if bounds.serial_ms else None,
        "serial_resolve_ms": bounds.serial_ms[1] if bounds.serial_ms else None,
        "rank1_until_ms": bounds.turns.first_until_ms if bounds.turns else None,
        "rank2_from_ms": bounds.turns.second_from_ms if bounds.turns else None,
    }


def check_node(loaded: LoadedBrain) -> Iterator[Diagnostic]:
    """Key, interfaces, serial devices and secrets on this node."""
    brain, at = loaded.settings, loaded.positions
    try:
        key = read_secret_file(brain.key_file).strip()
        if len(key) < LEAST_KEY_BYTES:
            yield _error(
                at.of(("cluster", "key_file")),
                f"{brain.key_file} holds {len(key)} bytes",
                f"at least {LEAST_KEY_BYTES}; brainctl init makes one",
            )
    except SecretError as error:
        yield _error(at.of(("cluster", "key_file")), str(error), "brainctl init makes a key; both nodes need the same bytes")
    names = {name for _, name in socket.if_nameindex()}
    for number, path in enumerate(brain.paths):
        place = at.of(("path", number, "interface"))
        interface = path.interface.of(brain.self_name)
        if path.kind is not PathKind.SERIAL and interface not in names:
            yield _error(place, f"path {path.name}: this node has no interface {interface!r}", f"it has {', '.join(sorted(names))}")
        if path.kind is PathKind.SERIAL:
            yield from _serial(at.of(("path", number, "device")), path.name, path.device.of(brain.self_name))
    for number, reference in enumerate(brain.references):
        if reference.interface.of(brain.self_name) not in names:
            yield _error(
                at.of(("reference", number, "interface")), f"reference {reference.name}: no such interface here", "name one of this node"
            )
    for number, receiver in enumerate(brain.alerts):
        for key_name, value in receiver.parameters:
            if key_name.endswith("_secret"):
                yield from _secret(at.of(("alert", number, key_name)), value)
    for target, levels in brain.fence.levels:
        for level in levels:
            for device in level.devices:
                for key_name, value in device.parameters:
                    if key_name.endswith("_secret") and target != brain.self_name:
                        yield from _secret(at.of(("fence",)), value)


def _serial(place: Position, name: str, device: str) -> Iterator[Diagnostic]:
    try:
        if not stat.S_ISCHR(os.stat(device).st_mode):
            yield _error(place, f"path {name}: {device} is not a character device", "name the tty, e.g. /dev/ttyS0")
    except OSError as error:
        yield _error(place, f"path {name}: {device}: {error.strerror}", "name the tty of this node, e.g. /dev/ttyS0")


def _secret(place: Position, reference: str) -> Iterator[Diagnostic]:
    try:
        resolve_secret(reference)
    except SecretError as error:
        yield _error(place, str(error), "the daemon needs it before the first incident")


def check_gate_and_groups(loaded: LoadedBrain) -> Iterator[Diagnostic]:
    """keepalived.conf, and that the local VRRP daemon can be held."""
    brain = loaded.settings
    try:
        groups = read_groups(brain.gate.config)
    except ConfigError as error:
        yield from error.diagnostics
        return
    yield from (d for d in groups.diagnostics if d.severity is not Severity.NOTE)
    if not groups.groups:
        yield _error(
            Position(brain.gate.config), "no vrrp_instance", "brainctl watches VRRP instances; name the right file in [gate] config"
        )
    yield from check_addresses(brain, loaded.positions, groups.groups, local_addresses())
    seen: dict[GroupKey, str] = {}
    for instance in groups.config.instances:
        key = GroupKey(instance.vrid, int(instance.family.value))
        if key in seen:
            yield _error(
                instance.position,
                f"{instance.name} has the same VRID and family as {seen[key]} on another interface",
                "give it another virtual_router_id: beats name a group by VRID and family",
            )
        seen[key] = instance.name
        if not instance.addresses and not instance.excluded_addresses:
            yield _warning(instance.position, f"{instance.name} has no VIP: braind can only watch its adverts", "add virtual_ipaddress")
    if brain.gate.daemon == "keepalived" and brain.policy.mode is not Mode.OBSERVE:
        yield from _stanza(brain, groups)


def _stanza(brain: BrainSettings, groups: LoadedGroups) -> Iterator[Diagnostic]:
    """Does every instance track its gate file?"""
    mode = brain.policy.mode
    for instance in groups.config.instances:
        key = GroupKey(instance.vrid, int(instance.family.value))
        if why := missing_gate(groups.config, instance.name, gate_path(brain.gate, mode, key), mode):
            text = track_file_blocks([key], mode, brain.gate).replace("\n", " ").strip()
            yield _error(
                instance.position,
                f"{why}: braind cannot hold it in mode {mode.value}",
                f"add {text} and track it in the instance (brainctl init writes it)",
            )


def check_fence(loaded: LoadedBrain, state_dir: str) -> Iterator[Diagnostic]:
    """Known parameters, enrolment, and d ≥ Δ + F + margin."""
    from fencing.devices.parameters import validate_device  # paramiko stays out of the other checks
    from watchdog.enrolled import with_enrolment

    at = loaded.positions
    brain, problem = with_enrolment(loaded.settings, state_dir)
    if problem:
        yield _error(at.of(("fence",)), problem, "the fence devices prove nothing without enrolment")
        return
    place = at.of(("fence", "enabled"))
    for _target, levels in brain.fence.levels:
        for level in levels:
            for device in level.devices:
                for text in validate_device(device):
                    yield _error(at.of(("fence", "level")), f"device {device.name}: {text}", "see docs/FENCING.md")
                if not device.identity:
                    yield _warning(
                        at.of(("fence", "level")), f"device {device.name} is not enrolled: it cannot prove a fence", "brainctl fence enroll"
                    )
    for text in topology_warnings(brain.fence, {node.name: node.addresses for node in brain.nodes}):
        yield _warning(at.of(("fence", "level")), text, "see docs/FENCING.md")
    for text in check_delay(brain.fence, spread_ms(brain.paths, brain.policy)):
        yield _error(place, text, "without it automatic fencing stays refused: both nodes could fence each other")


def check_self_fence(loaded: LoadedBrain) -> Iterator[Diagnostic]:
    """The device of the named node, and the price of the arrangement in words."""
    brain, at = loaded.settings, loaded.positions
    settings = brain.self_fence
    if settings is None:
        return
    place = at.of(("self_fence", "node"))
    if brain.policy.mode is Mode.OBSERVE:
        yield _warning(place, "observe acts on nobody: nobody resets itself", 'policy.mode = "resolve" or "strict"')
    if brain.self_name == settings.node and not Path(settings.device).is_char_device():
        remedy = "load the driver of the board's watchdog (or softdog), or name another device"
        yield _error(at.of(("self_fence", "device")), f"{settings.device} is no device on this node", remedy)
    other = next(node.name for node in brain.nodes if node.name != settings.node)
    resets_ms = settings.after_ms + settings.timeout_s * 1_000
    text = (
        f"the price: {settings.node} alone gives no service, it resets itself at most {resets_ms} ms after the "
        f"last frame that {other} acknowledged; {other} counts it gone {bound_ms(settings)} ms after it last heard it"
    )
    yield Diagnostic(place, Severity.NOTE, text, "")


def _error(position: Position, message: str, remedy: str) -> Diagnostic:
    return Diagnostic(position, Severity.ERROR, message, remedy)


def _warning(position: Position, message: str, remedy: str) -> Diagnostic:
    return Diagnostic(position, Severity.WARNING, message, remedy)


_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "grey"}


def _print(findings: list[Diagnostic], bounds: Bounds | None, errors: int, warnings: int) -> None:
    for finding in findings:
        head = paint(finding.severity.value, _COLOURS[finding.severity])
        print(f"{finding.position}: {head}: {finding.message}")
        if finding.remedy:
            print(f"    → {finding.remedy}")
    if bounds is not None:
        print(f"\nD  second owner's claim → confirmed verdict   ≤ {bounds.detect_ms} ms")
        print(f"R  confirmed → one owner, if a path lives     {_limit(bounds.resolve_ms, 'observe acts on nobody')}")
        print(f"F  confirmed → proved fence                   {_limit(bounds.fence_ms, 'no automatic fencing')}")
        print(f"   {bounds.why}")
        if bounds.serial_ms is not None:
            print(f"   while only the serial line lives: D ≤ {bounds.serial_ms[0]} ms, R ≤ {bounds.serial_ms[1]} ms")
        if bounds.turns is not None:
            turns = bounds.turns
            print(f"d  rank 1 knows of a cut after ≤ {turns.confirmed_ms} ms and begins no act later than {turns.first_until_ms} ms")
            print(f"   after its last acknowledged frame; rank 2 begins none earlier than {turns.second_from_ms} ms after it last heard")
            print(f"   rank 1, and is done after ≤ {turns.second_done_ms} ms; shorter deadline_ms of the devices make all of it shorter")
    words = f"{errors} error(s), {warnings} warning(s)"
    print(paint(words, "red" if errors else "yellow" if warnings else "green"))


def _limit(value: int | None, otherwise: str) -> str:
    return f"≤ {value} ms" if value is not None else f"none: {otherwise}"
