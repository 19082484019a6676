"""The operator's own command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.devices.device import DeviceConfigError
from fencing.devices.exec import ExecDevice
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice
from tests.fencing.conftest import PASSWORD


def within(ms: int) -> int:
    return now_ns() + ms * NS_PER_MS


def device(command: str, **parameters: str) -> ExecDevice:
    return ExecDevice(FenceDevice("switch", "exec", "b", (("command", command), *parameters.items())))


def test_a_power_switch_of_ten_lines(executable: Callable[[str, str], str], tmp_path: Path):
    state = tmp_path / "state"
    state.write_text("on")
    path = executable(
        f"""#!/bin/sh
echo "identity=outlet of $BRAINCTL_TARGET"
case "$BRAINCTL_ACTION" in
    on|off) echo "$BRAINCTL_ACTION" > {state} ;;
    status) grep -q on {state} || exit 2 ;;
esac
""",
        "power",
    )
    switch = device(path)
    assert switch.perform("status", within(10_000)).power is PowerState.ON
    assert switch.perform("off", within(10_000)).outcome is DeviceOutcome.SUCCESS
    reading = switch.perform("status", within(10_000))
    assert (reading.outcome, reading.power, reading.identity) == (DeviceOutcome.SUCCESS, PowerState.OFF, "outlet of b")
    assert switch.perform("on", within(10_000)).outcome is DeviceOutcome.SUCCESS
    assert state.read_text() == "on\n"


def test_secrets_are_on_stdin_only_and_in_no_report(executable: Callable[[str, str], str], secret_file: Callable[[str, str], str]):
    path = executable(
        '#!/bin/sh\ninput=$(cat); env | grep -c "$(echo "$input" | sed -n s/^password=//p)"; echo "$input" | tail -1 >&2; exit 1\n', "p"
    )
    result = device(path, password_secret=secret_file(PASSWORD, "s")).perform("off", within(10_000))
    assert result.detail == "password=***"


def test_parameters_cannot_change_action_or_target(executable: Callable[[str, str], str]):
    path = executable("#!/bin/sh\ngrep -c -e '^action=off$' -e '^target=b$' && exit 1\n", "p")
    result = device(path, action="reboot", target="a").perform("off", within(10_000))
    assert result.detail == "2"
    with pytest.raises(DeviceConfigError):
        device(path, x="y\naction=on")


@pytest.mark.parametrize(
    ("code", "off", "status", "power"),
    [
        (0, DeviceOutcome.SUCCESS, DeviceOutcome.SUCCESS, PowerState.ON),
        (1, DeviceOutcome.FAILURE, DeviceOutcome.FAILURE, PowerState.UNKNOWN),
        (2, DeviceOutcome.FAILURE, DeviceOutcome.SUCCESS, PowerState.OFF),
        (3, DeviceOutcome.DENIED, DeviceOutcome.DENIED, PowerState.UNKNOWN),
        (4, DeviceOutcome.UNREACHABLE, DeviceOutcome.UNREACHABLE, PowerState.UNKNOWN),
        (5, DeviceOutcome.UNKNOWN_TARGET, DeviceOutcome.UNKNOWN_TARGET, PowerState.UNKNOWN),
        (127, DeviceOutcome.FAILURE, DeviceOutcome.FAILURE, PowerState.UNKNOWN),
    ],
)
def test_every_exit_code(executable: Callable[[str, str], str], code: int, off: DeviceOutcome, status: DeviceOutcome, power: PowerState):
    switch = device(executable(f"#!/bin/sh\nexit {code}\n", "p"))
    assert switch.perform("off", within(10_000)).outcome is off
    reading = switch.perform("status", within(10_000))
    assert (reading.outcome, reading.power) == (status, power)


def test_a_command_that_hangs_and_one_that_dies(executable: Callable[[str, str], str]):
    assert device(executable("#!/bin/sh\nsleep 60\n", "hang")).perform("off", within(300)).outcome is DeviceOutcome.TIMEOUT
    assert device(executable("#!/bin/sh\nkill -ABRT $$\n", "die")).perform("off", within(10_000)).outcome is DeviceOutcome.CRASHED


@pytest.mark.parametrize("command", ["", "/nonexistent", "'unbalanced", "/etc/passwd"])
def test_a_command_that_cannot_run_is_refused_when_armed(command: str):
    with pytest.raises(DeviceConfigError):
        device(command)
