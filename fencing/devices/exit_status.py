"""What the end of a child says, whoever wrote it: exit codes 0 and 2, no start, no end in time, a signal."""

from __future__ import annotations

import signal

from fencing.devices.child import ChildResult
from fencing.plan.events import DeviceOutcome, PowerState

STATUS_OFF = 2
"""Exit code of ``status`` when the target is off; 0 means on."""


def plain_outcome(action: str, result: ChildResult) -> DeviceOutcome | None:
    """The outcome, where the text and the device's own exit codes need not be looked at; else None."""
    if not result.started:
        return DeviceOutcome.UNREACHABLE
    if result.timed_out:
        return DeviceOutcome.TIMEOUT
    if result.killed_by:
        return DeviceOutcome.CRASHED
    if result.exit_code == 0 or (result.exit_code == STATUS_OFF and action == "status"):
        return DeviceOutcome.SUCCESS
    return None


def power_state(action: str, outcome: DeviceOutcome, result: ChildResult) -> PowerState:
    """What a successful ``status`` read; UNKNOWN for everything else."""
    if action != "status" or outcome is not DeviceOutcome.SUCCESS:
        return PowerState.UNKNOWN
    return PowerState.OFF if result.exit_code == STATUS_OFF else PowerState.ON


def violent_end(result: ChildResult, who: str) -> str:
    """For people: how ``who`` was ended by force, "" if it ended by itself."""
    if result.timed_out:
        return f"no answer within the deadline; the {who} and its children were killed"
    if result.killed_by:
        return f"the {who} was killed by {signal.Signals(result.killed_by).name}"
    return ""
