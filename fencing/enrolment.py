"""Which identity belongs to which node: ``brainctl fence enroll`` writes it, every fence compares it.

The identity that a device told during a passed check is bound to the node, in the state directory. From then on every
act compares it first, and only an enrolled device can prove by reading.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from base.clock import wall_ns
from fencing.check_report import CheckReport, Grade
from fencing.plan.settings import FenceDevice, FenceSettings

DEFAULT_PATH = Path("/var/lib/brainctl/enrolment.json")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What was found at one device for one node. ``wall_ns`` is for display."""

    device: str
    target: str
    type: str
    identity: str
    status_ms: int
    effect_ms: int
    wall_ns: int


class EnrolmentError(Exception):
    """The enrolment file cannot be read or written, or an enrolment is refused; says what to do."""


def load_enrolments(path: Path = DEFAULT_PATH) -> dict[str, Enrolment]:
    """Enrolments by device name; none if there is no file yet. Raises EnrolmentError for a file that is damaged."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise EnrolmentError(f"{path}: {error}; enrol the devices again") from None
    try:
        document = json.loads(text)
        if document["version"] != 1:
            raise ValueError(f"version {document['version']} is unknown")
        entries = [Enrolment(**entry) for entry in document["devices"]]
        for entry in entries:
            for name, kind in Enrolment.__annotations__.items():
                if type(getattr(entry, name)).__name__ != kind:
                    raise ValueError(f"{name} of {entry.device} is no {kind}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EnrolmentError(f"{path} is damaged ({error}); move it away and run brainctl fence enroll again") from None
    return {entry.device: entry for entry in entries}


def save_enrolments(enrolments: Iterable[Enrolment], path: Path = DEFAULT_PATH) -> None:
    """Write all enrolments at once, durably, mode 0600. Raises EnrolmentError."""
    document = {"version": 1, "devices": [asdict(e) for e in sorted(enrolments, key=lambda e: e.device)]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, encoding="utf-8", delete=False) as f:
            json.dump(document, f, indent=1)
            f.flush()
            os.fsync(f.fileno())
        os.replace(f.name, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise EnrolmentError(f"{path}: {error.strerror}") from None


def enroll(settings: FenceDevice, report: CheckReport, path: Path = DEFAULT_PATH, *, replace_identity: bool = False) -> Enrolment:
    """Bind what a passed check found to the node. ``settings`` carries the identity enrolled before, if any.

    Raises EnrolmentError if the check did not pass, if the device has no identity, if it has another one than before
    (unless ``replace_identity``), or if the same identity is enrolled for another node: then one of the two would be
    shot instead of the other.
    """
    errors = {finding.code for finding in report.findings if finding.grade is Grade.ERROR}
    if errors == {"identity-mismatch"} and not replace_identity:
        raise EnrolmentError(
            f"{settings.name} is enrolled as {settings.identity} and says {report.identity or 'nothing'} now; "
            f"find out which machine this is, then enrol it with --replace"
        )
    if errors - {"identity-mismatch"}:
        raise EnrolmentError(f"{settings.name}: the check did not pass ({', '.join(sorted(errors))}); mend what it says first")
    if not report.identity:
        raise EnrolmentError(f"{settings.name}: the device tells no identity; there is nothing to enrol")
    enrolments = load_enrolments(path)
    for other in enrolments.values():
        if other.identity == report.identity and other.target != settings.target and other.type == settings.type:
            raise EnrolmentError(
                f"{settings.name}: {report.identity} is already enrolled for node {other.target} by device {other.device}; "
                f"one outlet cannot belong to two nodes"
            )
    entry = Enrolment(settings.name, settings.target, settings.type, report.identity, report.status_ms, report.effect_ms, wall_ns())
    save_enrolments([*(e for e in enrolments.values() if e.device != entry.device), entry], path)
    return entry


def with_enrolments(settings: FenceSettings, enrolments: dict[str, Enrolment]) -> FenceSettings:
    """The settings with every device's enrolled identity filled in. An enrolment made for another node or type does not count."""

    def fill(device: FenceDevice) -> FenceDevice:
        entry = enrolments.get(device.name)
        if entry is None or (entry.target, entry.type) != (device.target, device.type):
            return device
        return replace(device, identity=entry.identity)

    levels = tuple(
        (target, tuple(replace(level, devices=tuple(fill(d) for d in level.devices)) for level in target_levels))
        for target, target_levels in settings.levels
    )
    return replace(settings, levels=levels)
