"""Fence settings as they may be used on this node: identities and measured times from the enrolment file filled in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fencing.enrolment import Enrolment, EnrolmentError, load_enrolments, with_enrolments
from fencing.plan.settings import FenceSettings
from watchdog.config.model import BrainSettings


def enrolment_path(state_dir: str) -> Path:
    """Where ``brainctl fence enroll`` writes."""
    return Path(state_dir) / "enrolment.json"


def measured_ms(settings: FenceSettings, enrolments: dict[str, Enrolment]) -> int:
    """F over both targets: the slowest level, its devices one after the other. 0 while any device is not enrolled.

    Both directions count, because the delay of one node must outlast the other node's act. A device whose effect was never measured
    (``fence check --really``) counts with its deadline: by then it has failed definitely.
    """
    slowest = 0
    for _target, levels in settings.levels:
        for level in levels:
            total = 0
            for device in level.devices:
                entry = enrolments.get(device.name)
                if entry is None or (entry.target, entry.type) != (device.target, device.type):
                    return 0
                total += entry.effect_ms or device.deadline_ms
            slowest = max(slowest, total)
    return slowest


def with_enrolment(brain: BrainSettings, state_dir: str) -> tuple[BrainSettings, str]:
    """The settings to run with, and "" or why the enrolments could not be read (then nothing is enrolled, nothing proves by reading)."""
    try:
        enrolments = load_enrolments(enrolment_path(state_dir))
    except EnrolmentError as error:
        return brain, str(error)
    fence = with_enrolments(brain.fence, enrolments)
    if not fence.measured_ms:
        fence = replace(fence, measured_ms=measured_ms(fence, enrolments))
    return replace(brain, fence=fence), ""
