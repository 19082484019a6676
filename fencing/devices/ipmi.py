"""A BMC over IPMI 2.0, spoken by this process: no program is started, so no password stands in anybody's argv.

Every reading and every act is a session of its own. The act's completion code is the device's own word that it was not carried out; after a
command that was answered by nothing, nobody knows. Identity: the system's GUID.
"""

from __future__ import annotations

import socket
import uuid

from base.clock import now_ns
from fencing.devices.deadline import resolve
from fencing.devices.device import (
    NEVER_NS,
    DeviceConfigError,
    DeviceResult,
    elapsed_ms,
    is_stale,
    resolve_parameters,
    retry_while_busy,
    stale_result,
)
from fencing.devices.identity import NO_IDENTITY_WAY_OUT
from fencing.devices.ipmi_session import APP, CHASSIS, COMPLETION_BUSY, COMPLETION_OK, SUITES, IpmiError, IpmiSession
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice

_CONTROL = {"off": 0x00, "on": 0x01}
_GET_STATUS, _CONTROL_CHASSIS, _GET_GUID = 0x01, 0x02, 0x37


class IpmiDevice:
    """One BMC, armed. Raises DeviceConfigError or SecretError."""

    def __init__(self, settings: FenceDevice) -> None:
        self.settings = settings
        plain, secrets = resolve_parameters(settings)
        self._address = resolve(plain.get("host", ""), plain.get("port", "623"), socket.SOCK_DGRAM)
        self._user = plain.get("user", "")
        self._password = secrets["password"].reveal().encode() if "password" in secrets else b""
        self._kg = secrets["kg"].reveal().encode() if "kg" in secrets else b""
        if len(self._user.encode()) > 16 or len(self._password) > 20:
            raise DeviceConfigError("IPMI knows users of at most 16 bytes and passwords of at most 20")
        cipher = plain.get("cipher", "")
        if cipher and cipher not in ("17", "3"):
            raise DeviceConfigError(f"cipher {cipher!r} is refused; write 17 or 3 (0 authenticates nobody, the others do not encrypt)")
        self._suites = [SUITES[int(cipher)]] if cipher else [SUITES[17], SUITES[3]]

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """See Device.perform."""
        started_ns = now_ns()
        result = retry_while_busy(lambda: self._once(action, started_ns, deadline_ns, valid_until_ns), deadline_ns, valid_until_ns)
        return DeviceResult(result.outcome, result.power, result.identity, result.detail, elapsed_ms(started_ns))

    def _once(self, action: str, started_ns: int, deadline_ns: int, valid_until_ns: int) -> DeviceResult:
        for suite in self._suites:
            if is_stale(action, valid_until_ns):
                return stale_result(started_ns)
            try:
                with IpmiSession(self._address, self._user, self._password, suite, deadline_ns, self._kg) as session:
                    return self._read(session) if action == "status" else _switch(session, action, started_ns, valid_until_ns)
            except IpmiError as error:
                if error.outcome is DeviceOutcome.REFUSED and suite is not self._suites[-1]:
                    continue  # it does not offer this suite
                return DeviceResult(error.outcome, detail=error.detail)
        raise AssertionError("no cipher suite")

    def _read(self, session: IpmiSession) -> DeviceResult:
        code, guid = session.command(APP, _GET_GUID)
        if code == COMPLETION_BUSY:
            return DeviceResult(DeviceOutcome.BUSY, detail="the BMC is busy (completion code 0xc0)")
        identity, detail = _identity(code, guid)
        code, data = session.command(CHASSIS, _GET_STATUS)
        if code != COMPLETION_OK or not data:
            return DeviceResult(_refusal(code), detail=f"Get Chassis Status: completion code 0x{code:02x}")
        return DeviceResult(DeviceOutcome.SUCCESS, PowerState.ON if data[0] & 1 else PowerState.OFF, identity, detail)


def _identity(code: int, guid: bytes) -> tuple[str, str]:
    if code != COMPLETION_OK or len(guid) != 16:
        return "", f"the BMC has no GUID (completion code 0x{code:02x}); {NO_IDENTITY_WAY_OUT}"
    if guid in (bytes(16), b"\xff" * 16):
        return "", f"the BMC tells an empty GUID, as every BMC of its make does; {NO_IDENTITY_WAY_OUT}"
    return f"guid {uuid.UUID(bytes_le=guid)}", ""


def _refusal(code: int) -> DeviceOutcome:
    return DeviceOutcome.BUSY if code == COMPLETION_BUSY else DeviceOutcome.DENIED if code == 0xD4 else DeviceOutcome.REFUSED


def _switch(session: IpmiSession, action: str, started_ns: int, valid_until_ns: int) -> DeviceResult:
    if is_stale(action, valid_until_ns):
        return stale_result(started_ns)
    try:
        code, _ = session.command(CHASSIS, _CONTROL_CHASSIS, bytes([_CONTROL[action]]))
    except IpmiError as error:
        return DeviceResult(DeviceOutcome.TIMEOUT, detail=f"the {action} was sent; {error.detail}")
    if code != COMPLETION_OK:
        return DeviceResult(_refusal(code), detail=f"Chassis Control {action}: completion code 0x{code:02x}, not carried out")
    return DeviceResult(DeviceOutcome.SUCCESS, detail="completion code 0")
