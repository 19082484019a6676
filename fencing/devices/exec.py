"""The operator's own fence command, with a protocol small enough for a ten-line script.

``command`` is an argument list (split like a shell would, no shell runs). The action is in the environment
(BRAINCTL_ACTION = off | on | status, BRAINCTL_TARGET, BRAINCTL_DEVICE, BRAINCTL_DEADLINE_MS) and again on stdin as
``action=…`` and ``target=…`` lines, followed by every other parameter; secrets are only on stdin. A line
``identity=…`` on stdout says whose outlet it is. Exit codes:

    0  off, on: done · status: the target is on      3  refused: wrong user or password, nothing was done
    2  status: the target is off                     4  the device cannot be reached, nothing was done
    1  and every other: failed, may have been done   5  the device does not know this target, nothing was done
"""

from __future__ import annotations

import os
import shlex
import shutil

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.devices.child import ChildResult, run_child
from fencing.devices.device import (
    ACTIONS,
    NEVER_NS,
    DeviceConfigError,
    DeviceResult,
    clean_detail,
    elapsed_ms,
    is_stale,
    resolve_parameters,
    stale_result,
)
from fencing.devices.exit_status import plain_outcome, power_state, violent_end
from fencing.plan.events import DeviceOutcome
from fencing.plan.settings import FenceDevice

OWN_PARAMETERS = frozenset({"command", "worth", "effect_ms", "settle_ms"})
_CERTAIN = {3: DeviceOutcome.DENIED, 4: DeviceOutcome.UNREACHABLE, 5: DeviceOutcome.UNKNOWN_TARGET}


class ExecDevice:
    """One command, armed. Raises DeviceConfigError or SecretError."""

    def __init__(self, settings: FenceDevice) -> None:
        self.settings = settings
        self._plain, self._secrets = resolve_parameters(settings)
        try:
            self._argv = shlex.split(self._plain.get("command", ""))
        except ValueError as error:
            raise DeviceConfigError(f"command: {error}") from None
        if not self._argv:
            raise DeviceConfigError('command is missing; write command = "/path/to/script"')
        found = shutil.which(self._argv[0])
        if found is None:
            raise DeviceConfigError(f"command: {self._argv[0]} does not exist or is not executable")
        self._argv[0] = os.path.abspath(found)
        self._stdin = {action: self._build_stdin(action) for action in ACTIONS}

    def _build_stdin(self, action: str) -> bytes:
        values = {"action": action, "target": self.settings.target}
        values |= {key: value for key, value in self._plain.items() if key not in OWN_PARAMETERS}
        values |= {key: secret.reveal() for key, secret in self._secrets.items()}
        values |= {"action": action, "target": self.settings.target}
        if any("\n" in value or "\0" in value for value in values.values()):
            raise DeviceConfigError("a parameter holds a line break; it cannot be given to the command")
        return "".join(f"{key}={value}\n" for key, value in values.items()).encode()

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """See Device.perform."""
        started_ns = now_ns()
        if is_stale(action, valid_until_ns):
            return stale_result(started_ns)
        env = {
            "BRAINCTL_ACTION": action,
            "BRAINCTL_TARGET": self.settings.target,
            "BRAINCTL_DEVICE": self.settings.name,
            "BRAINCTL_DEADLINE_MS": str(max(0, (deadline_ns - started_ns) // NS_PER_MS)),
        }
        result = run_child(self._argv, self._stdin[action], deadline_ns, env)
        outcome = _outcome(action, result)
        power = power_state(action, outcome, result)
        identity = next((line[9:].strip() for line in result.stdout.splitlines() if line.startswith("identity=")), "")
        return DeviceResult(outcome, power, identity, self._detail(result), elapsed_ms(started_ns))

    def _detail(self, result: ChildResult) -> str:
        said = "\n".join(line for line in result.stdout.splitlines() if not line.startswith("identity="))
        return violent_end(result, "command") or clean_detail(result.stderr if result.stderr.strip() else said, self._secrets)


def _outcome(action: str, result: ChildResult) -> DeviceOutcome:
    return plain_outcome(action, result) or _CERTAIN.get(result.exit_code or 1, DeviceOutcome.FAILURE)
