"""A virtual machine under libvirt, by ``virsh`` (its connection URI carries the transport; no secret passes through us).

The domain is named by its UUID: a name may be given to another machine tomorrow. A word of ``domstate`` that is not in the table is no
reading ("in shutdown" is a machine that still runs, whatever an agent makes of it).
"""

from __future__ import annotations

import re
import shutil
import uuid

from base.clock import now_ns
from fencing.devices.child import ChildResult, run_child
from fencing.devices.device import (
    NEVER_NS,
    DeviceConfigError,
    DeviceResult,
    clean_detail,
    elapsed_ms,
    is_stale,
    resolve_parameters,
    stale_result,
)
from fencing.devices.exit_status import plain_outcome, violent_end
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice

_POWER = {
    "running": PowerState.ON,
    "paused": PowerState.ON,
    "pmsuspended": PowerState.ON,
    "shut off": PowerState.OFF,
    "crashed": PowerState.OFF,
}
_NO_DOMAIN = re.compile(r"domain not found|failed to get domain", re.IGNORECASE)
_NO_CONNECTION = re.compile(r"failed to connect|cannot recv data|unable to connect|no route to host|connection refused", re.IGNORECASE)
_DENIED = re.compile(r"authentication (failed|unavailable|cancelled)|permission denied|access denied", re.IGNORECASE)
_ALREADY = re.compile(r"domain is not running|domain is already (running|active)", re.IGNORECASE)


class LibvirtDevice:
    """One domain of one hypervisor, armed. Raises DeviceConfigError."""

    def __init__(self, settings: FenceDevice) -> None:
        self.settings = settings
        plain, _secrets = resolve_parameters(settings)
        self._uri = plain.get("uri", "")
        if not self._uri:
            raise DeviceConfigError('uri is missing; write uri = "qemu+ssh://root@hypervisor/system?no_tty=1"')
        try:
            self._domain = str(uuid.UUID(plain.get("domain", "")))
        except ValueError:
            raise DeviceConfigError("domain must be the machine's UUID (virsh domuuid NAME): a name may change hands") from None
        found = shutil.which("virsh", path="/usr/bin:/usr/local/bin:/bin")
        if found is None:
            raise DeviceConfigError("virsh is not installed; apt-get install libvirt-clients")
        self._virsh = found

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """See Device.perform."""
        started_ns = now_ns()
        if is_stale(action, valid_until_ns):
            return stale_result(started_ns)
        if action == "status":
            result = self._run(deadline_ns, "domstate", self._domain)
            outcome = _outcome(result, acting=False)
            power = _POWER.get(result.stdout.strip().splitlines()[0] if result.stdout.strip() else "", PowerState.UNKNOWN)
            if outcome is not DeviceOutcome.SUCCESS:
                return DeviceResult(outcome, detail=_detail(result), took_ms=elapsed_ms(started_ns))
            return DeviceResult(outcome, power, f"domain {self._domain}", _detail(result), elapsed_ms(started_ns))
        result = self._run(deadline_ns, "destroy" if action == "off" else "start", self._domain)
        outcome = _outcome(result, acting=True)
        return DeviceResult(outcome, detail=_detail(result), took_ms=elapsed_ms(started_ns))

    def _run(self, deadline_ns: int, *words: str) -> ChildResult:
        return run_child([self._virsh, "-q", "-c", self._uri, *words], b"", deadline_ns)


def _outcome(result: ChildResult, *, acting: bool) -> DeviceOutcome:
    plain = plain_outcome("off", result)
    if plain is not None:
        return plain
    text = result.stderr
    if _ALREADY.search(text):
        return DeviceOutcome.SUCCESS
    # libvirt opens the connection and looks the domain up before it acts: these are its own typed ends of those steps.
    if _NO_DOMAIN.search(text):
        return DeviceOutcome.UNKNOWN_TARGET
    if _DENIED.search(text):
        return DeviceOutcome.DENIED
    if _NO_CONNECTION.search(text) and not (acting and "recv" in text):
        return DeviceOutcome.UNREACHABLE
    return DeviceOutcome.FAILURE


def _detail(result: ChildResult) -> str:
    return violent_end(result, "virsh") or clean_detail(result.stderr or result.stdout, {})
