"""``brainctl fence check``: find out what a device is worth before it is needed.

A check contacts the device, reads power and identity, tries what must fail (an outlet that does not exist, a wrong
password), measures, and warns about settings that others could use against us.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from base.clock import now_ns
from base.core import NS_PER_MS
from base.secrets import SecretError
from fencing.check_report import CheckReport, Grade
from fencing.devices.build import build_device
from fencing.devices.device import SECRET_SUFFIX, Device, DeviceConfigError, DeviceResult
from fencing.devices.identity import IPMI_AGENTS
from fencing.devices.parameters import validate_device
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice, FenceLevel
from fencing.plan.worth import AGENTS, DECLARABLE, Worth

_STATUS_ROUNDS = 3
_SLOW_STATUS_MS = 3_000
_REALLY_POLL_S = 0.5
SILENCE_S = 10.0
"""How long a node that was switched off may still be heard: every path's silence and what was in flight."""
BOGUS_NUMBER = "9999"
BOGUS_NAME = "brainctl-no-such-outlet"
WRONG_PASSWORD = "brainctl-wrong-password"  # noqa: S105 (meant to be wrong)


# --- check ---


class PeerObserver(Protocol):
    """Who hears the target while it is switched off: the local braind."""

    def heard_on(self) -> frozenset[str]:
        """The paths on which the target is heard now."""
        ...

    def wait_for_silence(self, before: frozenset[str], seconds: float) -> frozenset[str]:
        """Those of ``before`` that still hear it after so long."""
        ...


def check_device(
    settings: FenceDevice, *, really: bool = False, wrong_password: bool = True, observer: PeerObserver | None = None
) -> CheckReport:
    """Check one device. Blocks for several of its round trips; never raises for what the device does.

    ``really`` switches the target off and on again: only with the operator's word; ``observer`` then tells whether it really was the target
    that fell silent. ``wrong_password`` tries one wrong login (some devices lock an account after several).
    """
    report = CheckReport(settings.name, settings.target, worth=settings.worth, bound_ms=settings.deadline_ms)
    for problem in validate_device(settings):
        report.add(Grade.ERROR, "configuration", problem)
    _say_worth(settings, report)
    _warn_insecure(settings, report)
    device = _arm(settings, report)
    if device is None or not _read(device, report):
        return report
    _compare_identity(settings, report)
    _try_bogus_outlet(settings, report)
    if wrong_password:
        _try_wrong_password(settings, report)
    if really and report.passed:
        _try_really(device, report, observer)
    return report


_WORTH_MEANS = {
    Worth.POWER: "its readings prove a fence once it is enrolled",
    Worth.FABRIC: "only the silence of every channel can prove its fence; a serial line that goes on speaking refutes it",
    Worth.BOOKKEEPING: "it can only ever claim: strict gives nothing over on its word",
}


def _agent(settings: FenceDevice) -> str:
    return dict(settings.parameters).get("agent", "").rsplit("/", 1)[-1]


def _say_worth(settings: FenceDevice, report: CheckReport) -> None:
    judgement = settings.judgement
    grade = Grade.WARNING if judgement.worth is Worth.BOOKKEEPING else Grade.OK
    remedy = ""
    if judgement.worth is Worth.BOOKKEEPING:
        remedy = "add a level with a power device"
        if settings.type in DECLARABLE and _agent(settings) not in AGENTS:
            remedy += ', or, if its status reads the power itself, say worth = "power"'
    report.add(grade, "worth", f"{judgement.worth.value}: {judgement.why}; {_WORTH_MEANS[judgement.worth]}", remedy)


def _arm(settings: FenceDevice, report: CheckReport) -> Device | None:
    if not report.passed:
        return None
    try:
        return build_device(settings)
    except (DeviceConfigError, SecretError) as error:
        report.add(Grade.ERROR, "configuration", str(error))
        return None


def _perform(device: Device, action: str) -> DeviceResult:
    return device.perform(action, now_ns() + device.settings.deadline_ms * NS_PER_MS)


_REASONS = {
    DeviceOutcome.DENIED: ("denied", "the device refuses the login", "check user, password or key"),
    DeviceOutcome.UNREACHABLE: ("unreachable", "the device does not answer", "check address, port, cabling and the device itself"),
    DeviceOutcome.UNTRUSTED: (
        "untrusted",
        "its certificate or host key is not the one that was pinned",
        "find out whose it is; pin it anew",
    ),
    DeviceOutcome.AMBIGUOUS: ("ambiguous", "the name fits more than one outlet or system", "name exactly one"),
    DeviceOutcome.BUSY: ("busy", "the device had no session for us all the time", "see who else is logged in"),
    DeviceOutcome.UNKNOWN_TARGET: ("unknown-target", "the device does not know this outlet, or is another one", "check plug and host_key"),
    DeviceOutcome.TIMEOUT: ("timeout", "the device did not answer within its deadline", "raise deadline_ms if it is slow by nature"),
    DeviceOutcome.CRASHED: ("crashed", "the agent died", "run it by hand with action=status on stdin"),
}


def _read(device: Device, report: CheckReport) -> bool:
    """Read power and identity several times: they must agree."""
    identities = set()
    for _ in range(_STATUS_ROUNDS):
        result = _perform(device, "status")
        report.status_ms = max(report.status_ms, result.took_ms)
        if result.outcome is not DeviceOutcome.SUCCESS:
            code, message, remedy = _REASONS.get(
                result.outcome, ("failure", "the device failed", "run the agent by hand with action=status on stdin")
            )
            report.add(Grade.ERROR, code, f"status: {message}: {result.detail}", remedy)
            return False
        identities.add(result.identity)
        report.power = result.power
    report.add(Grade.OK, "status", f"status is {report.power.value}, slowest of {_STATUS_ROUNDS} readings took {report.status_ms} ms")
    if report.status_ms > _SLOW_STATUS_MS:
        report.add(Grade.WARNING, "slow", f"a reading took {report.status_ms} ms", "a fence will take several times that")
    if len(identities) > 1:
        report.add(Grade.ERROR, "identity-changes", f"the identity changes between readings: {', '.join(sorted(identities))}")
        return False
    report.identity = identities.pop()
    if not report.identity:
        report.add(
            Grade.WARNING,
            "no-identity",
            "the device cannot tell whose outlet this is: its readings prove nothing, and a wrong outlet is not noticed",
            result.detail or "give identity_command, or use a device with named outlets",
        )
    return True


def _compare_identity(settings: FenceDevice, report: CheckReport) -> None:
    if settings.identity and settings.identity != report.identity:
        report.add(
            Grade.ERROR,
            "identity-mismatch",
            f"enrolled for {settings.target} as {settings.identity}, but the device says {report.identity or 'nothing'}",
            "find out which machine this is before you enrol it again",
        )
    elif settings.identity:
        report.add(Grade.OK, "identity", f"identity as enrolled: {report.identity}")
    elif report.identity:
        report.add(Grade.WARNING, "not-enrolled", f"identity {report.identity} is not enrolled", "run brainctl fence enroll")


def _try_bogus_outlet(settings: FenceDevice, report: CheckReport) -> None:
    """An outlet that does not exist must not have a power state."""
    key = next((key for key in ("plug", "port") if settings.type == "agent" and dict(settings.parameters).get(key)), "")
    if not key:
        return
    for bogus in (BOGUS_NUMBER, BOGUS_NAME):
        result = _variant(settings, {key: bogus})
        if result is not None and result.outcome is DeviceOutcome.SUCCESS:
            report.add(
                Grade.ERROR,
                "bogus-outlet",
                f"outlet {bogus} does not exist, but the device reports it as {result.power.value}: its word is worth nothing",
                'set identity_from = "list", or use an agent or protocol version that reports errors (SNMP v1 does)',
            )
            return
    report.add(Grade.OK, "bogus-outlet", "an outlet that does not exist is refused")


def _try_wrong_password(settings: FenceDevice, report: CheckReport) -> None:
    """A wrong password must be refused, and better be told apart from a dead device."""
    keys = [key for key, _ in settings.parameters if key in ("password_secret", "passwd_secret")]
    if settings.type != "agent" or not keys:
        return
    result = _variant(settings, {keys[0]: ""}, {keys[0].removesuffix("_secret"): WRONG_PASSWORD})
    if result is None:
        return
    if result.outcome is DeviceOutcome.SUCCESS:
        report.add(
            Grade.ERROR, "any-password", "the device accepts a wrong password", "switch off cipher 0, anonymous users and read-only guests"
        )
    elif result.outcome is DeviceOutcome.DENIED:
        report.add(Grade.OK, "wrong-password", "a wrong password is refused and told apart from a dead device")
    else:
        report.add(
            Grade.WARNING,
            "wrong-password",
            f"a wrong password looks like {result.outcome.value}: a page cannot tell it from a broken device",
            "nothing to mend; know it when you are paged",
        )


def _variant(settings: FenceDevice, changes: dict[str, str], extra: dict[str, str] | None = None) -> DeviceResult | None:
    """Status of the same device with other parameters ("" removes one); None if it cannot be armed."""
    parameters = {**dict(settings.parameters), **changes, **(extra or {})}
    changed = replace(settings, parameters=tuple((k, v) for k, v in parameters.items() if v), identity="")
    try:
        return _perform(build_device(changed), "status")
    except (DeviceConfigError, SecretError):
        return None


def _try_really(device: Device, report: CheckReport, observer: PeerObserver | None) -> None:
    """Off until it reads OFF and is silent, then on until it reads ON."""
    before = observer.heard_on() if observer is not None else frozenset()
    report.effect_ms = _switch_and_wait(device, "off", PowerState.OFF, report)
    if report.effect_ms and observer is not None:
        _watch_silence(observer, before, report)
    if report.effect_ms:
        report.on_ms = _switch_and_wait(device, "on", PowerState.ON, report)


def _watch_silence(observer: PeerObserver, before: frozenset[str], report: CheckReport) -> None:
    """The device reads OFF: does the target still speak? Then the outlet is another machine's, or the device lies."""
    if not before:
        report.add(
            Grade.WARNING, "not-observed", f"braind heard {report.target} on no path before the trial: a wrong outlet would not be noticed"
        )
        return
    still = observer.wait_for_silence(before, SILENCE_S)
    report.fell_silent, report.spoke_on = tuple(sorted(before - still)), tuple(sorted(still))
    if still:
        report.add(
            Grade.ERROR,
            "still-heard",
            f"the device reads OFF, but {report.target} still speaks on {', '.join(sorted(still))}",
            "this is another machine's outlet, or the device lies: do not enrol it",
        )
    else:
        report.add(Grade.OK, "silent", f"{report.target} fell silent on {', '.join(sorted(before))}")


def _switch_and_wait(device: Device, action: str, wanted: PowerState, report: CheckReport) -> int:
    """Milliseconds from the order to the first reading of ``wanted``; 0 and a finding if it does not come."""
    started_ns = now_ns()
    end_ns = started_ns + device.settings.deadline_ms * NS_PER_MS
    result = _perform(device, action)
    if result.outcome is not DeviceOutcome.SUCCESS:
        report.add(Grade.ERROR, f"{action}-failed", f"{action}: {result.outcome.value}: {result.detail}")
        return 0
    reading = _perform(device, "status")
    while reading.power is not wanted and now_ns() < end_ns:
        time.sleep(_REALLY_POLL_S)
        reading = _perform(device, "status")
    if reading.power is not wanted:
        said = reading.power.value if reading.outcome is DeviceOutcome.SUCCESS else reading.outcome.value
        report.add(
            Grade.ERROR, f"{action}-without-effect", f"{action} was reported done, but the target reads {said}", "the device lies or fails"
        )
        return 0
    took_ms = max(1, (now_ns() - started_ns) // NS_PER_MS)
    report.add(Grade.OK, action, f"{action} took effect after {took_ms} ms")
    return took_ms


_IN_PROC = "local users may catch it in /proc"
_INSECURE_COMMUNITIES = ("private", "public")


def _warn_insecure(settings: FenceDevice, report: CheckReport) -> None:
    """Settings that would let somebody else fence this node, or read its password."""
    values = {key: value.lower() for key, value in settings.parameters}
    agent = values.get("agent", "").rsplit("/", 1)[-1]

    def warn(code: str, message: str, remedy: str) -> None:
        report.add(Grade.WARNING, code, message, remedy)

    if values.get("cipher") == "0":
        report.add(Grade.ERROR, "cipher-0", "IPMI cipher 0 authenticates nobody", "use cipher = 17 or 3 and switch cipher 0 off in the BMC")
    if values.get("ssl_insecure") in ("1", "on", "true", "yes"):
        warn("ssl-insecure", "the device's certificate is not checked", "install its certificate and remove ssl_insecure")
    if values.get("ssl") in ("0", "off", "false", "no"):
        warn("no-tls", "the device is spoken to without TLS", "remove ssl = 0")
    if values.get("community") in _INSECURE_COMMUNITIES:
        warn("community", f"SNMP community {values['community']!r} is every device's default", "choose another, or SNMP v3")
    if values.get("snmp_version") in ("1", "2c") or (agent.endswith("_snmp") and "snmp_version" not in values):
        warn(
            "snmp-clear",
            "SNMP before v3 sends its password in clear",
            "use snmp_version = 3 with authPriv, or a management network of its own",
        )
    if "telnet" in agent or (values.get("secure") in ("0", "off") and "login" in values):
        warn("telnet", "telnet sends the password in clear", "use ssh: secure = 1")
    if "password_script" in values:
        warn("password-script", "password_script runs another program while fencing", "use password_secret")
    secret = any(key.endswith(SECRET_SUFFIX) for key in values)
    if agent in IPMI_AGENTS and secret:
        warn(
            "argv-leak", f"{agent} gives the password to ipmitool as an argument: {_IN_PROC}", 'use type = "ipmi", which starts no program'
        )
    if (secret and any(key.startswith(("snmp", "community")) for key in values)) or (secret and agent.endswith("_snmp")):
        warn(
            "argv-leak",
            f"{agent} gives community and passphrases to snmpget as arguments: {_IN_PROC}",
            'use type = "snmp_pdu" or "snmp_port"',
        )


# --- F ---


def measured_ms(reports: Iterable[CheckReport], levels: Iterable[FenceLevel]) -> int:
    """F for ``fence.measured_ms``: the slowest level, all its devices one after the other.

    A device that was not tried with ``really`` counts with its deadline: that is when it has failed definitely.
    """
    times = {report.device: report.effect_ms or report.bound_ms for report in reports}
    return max((sum(times.get(device.name, device.deadline_ms) for device in level.devices) for level in levels), default=0)
