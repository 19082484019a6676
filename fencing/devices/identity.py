"""Who an outlet belongs to, when a fence agent cannot say it itself.

Three sources: the agent's own ``list`` (outlet number and name), a BMC's GUID by ipmitool (for fence_ipmilan and its
names), or a command of the operator. The identity is what enrolment binds to the node and what every proof by reading
rests on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from base.secrets import Secret
from fencing.devices.child import run_child
from fencing.devices.device import DeviceResult, clean_detail, last_line
from fencing.plan.events import DeviceOutcome

IPMI_AGENTS = frozenset(f"fence_{name}" for name in ("ipmilan", "ipmilanplus", "ilo3", "ilo4", "ilo5", "ilo6", "idrac", "imm", "xcc"))
_GUID = re.compile(r"^System GUID\s*:\s*([0-9A-Fa-f-]{32,36})\s*$", re.MULTILINE)


_NO_GUID = re.compile(r"Get GUID command failed.*(Invalid command|0xc1)|Get GUID.*not (supported|implemented)", re.IGNORECASE | re.DOTALL)
_BUSY = re.compile(r"node busy|\b0xc0\b|insufficient resources|no more sessions|session limit", re.IGNORECASE)
NO_IDENTITY_WAY_OUT = 'give identity_command (the chassis serial number by "ipmitool fru", say), or use type = "redfish"'


@dataclass(frozen=True, slots=True)
class IdentityAnswer:
    """What the source said. ``outcome`` SUCCESS with an empty ``identity`` = the device works and has no identity."""

    outcome: DeviceOutcome
    identity: str = ""
    detail: str = ""

    def as_result(self, took_ms: int) -> DeviceResult:
        """The same as a device result."""
        return DeviceResult(self.outcome, identity=self.identity, detail=self.detail, took_ms=took_ms)


def from_list(stdout: str, plug: str, address: str) -> IdentityAnswer:
    """Find ``plug`` in the output of an agent's ``list``: lines of ``number,name``. The identity is the whole line and the
    device's ``address``, because two devices may have outlets of the same name.

    An outlet that is not in the list does not exist, whatever the agent says about its power (reference: SNMP agents
    report a missing outlet as "off").
    """
    outlets = [tuple(part.strip() for part in line.strip().partition(",")[::2]) for line in stdout.splitlines() if "," in line]
    fitting = [(number, name) for number, name in outlets if plug in (number, name)]
    if len(fitting) == 1:
        number, name = fitting[0]
        return IdentityAnswer(DeviceOutcome.SUCCESS, f"{number},{name} at {address}")
    if fitting:
        which = " and ".join(f"number {number} (named {name})" for number, name in fitting)
        return IdentityAnswer(
            DeviceOutcome.AMBIGUOUS, detail=f"plug {plug!r} fits outlet {which}; rename an outlet at the device, or give another plug"
        )
    return IdentityAnswer(DeviceOutcome.UNKNOWN_TARGET, detail=f"outlet {plug} is not in the device's own list; known are {_known(stdout)}")


def _known(stdout: str) -> str:
    return ", ".join(line.partition(",")[0].strip() for line in stdout.splitlines()[:16]) or "none"


def from_ipmi(parameters: Mapping[str, str], secrets: Mapping[str, Secret], deadline_ns: int, tool: str = "ipmitool") -> IdentityAnswer:
    """Read the BMC's GUID. The password goes through the environment, never argv. Tells a wrong password from an unreachable BMC."""
    get = parameters.get
    lanplus = get("lanplus", "1" if get("agent", "").rsplit("/", 1)[-1] != "fence_ipmilan" else "0").lower() in ("1", "on", "true", "yes")
    argv = [tool, "-v", "-I", "lanplus" if lanplus else "lan", "-H", get("ip", get("ipaddr", "")), "-E"]
    for flag, value in (
        ("-p", get("ipport", "")),
        ("-U", get("username", get("login", ""))),
        ("-C", get("cipher", "") if lanplus else ""),
        ("-L", get("privlvl", "").upper()),
    ):
        argv += [flag, value] if value else []
    password = secrets.get("password") or secrets.get("passwd")
    result = run_child([*argv, "mc", "guid"], b"", deadline_ns, {"IPMI_PASSWORD": password.reveal() if password else ""})
    text = result.stdout + "\n" + result.stderr
    found = _GUID.search(text)
    if result.exit_code == 0 and found:
        guid = found.group(1).lower()
        if set(guid) - {"-"} in ({"0"}, {"f"}):
            return IdentityAnswer(
                DeviceOutcome.SUCCESS,
                detail=f"the BMC tells the empty GUID {guid}, which every BMC of its make tells; {NO_IDENTITY_WAY_OUT}",
            )
        return IdentityAnswer(DeviceOutcome.SUCCESS, f"guid {guid}")
    if _NO_GUID.search(text):
        return IdentityAnswer(DeviceOutcome.SUCCESS, detail=f"the BMC has no GUID; {NO_IDENTITY_WAY_OUT}")
    if _BUSY.search(text):
        return IdentityAnswer(DeviceOutcome.BUSY, detail="the BMC is busy")
    if not result.started:
        return IdentityAnswer(DeviceOutcome.FAILURE, detail=result.stderr)
    if "RAKP 2" in text or "password" in text.lower() or "invalid user name" in text.lower() or "unauthorized name" in text.lower():
        return IdentityAnswer(DeviceOutcome.DENIED, detail="the BMC refuses this user or password")
    if result.timed_out or "Get Auth Capabilities error" in text or "Authentication Capabilities" in text or "lookup" in text:
        return IdentityAnswer(DeviceOutcome.UNREACHABLE, detail="the BMC does not answer")
    return IdentityAnswer(DeviceOutcome.FAILURE, detail=clean_detail(text, secrets))


def from_command(command: str, secrets: Mapping[str, Secret], deadline_ns: int) -> IdentityAnswer:
    """Run the operator's ``identity_command``: exit code 0 and one line of output are the identity."""
    result = run_child(shlex.split(command), b"", deadline_ns)
    if result.exit_code == 0:
        return IdentityAnswer(DeviceOutcome.SUCCESS, last_line(result.stdout, secrets))
    outcome = DeviceOutcome.TIMEOUT if result.timed_out else DeviceOutcome.FAILURE
    return IdentityAnswer(outcome, detail=f"identity_command: {clean_detail(result.stderr or result.stdout, secrets)}")
