"""Power strips and switch ports over SNMP v1, v2c or v3, by pysnmp: no program is started, so no community stands in anybody's argv.

A variable that does not exist ("No Such Instance") is an outlet that does not exist, never one that is off (which is how the agents lie).
Identity of an outlet: the strip's serial number and the outlet's number. Identity of a switch port: the node's link-layer address
in the switch's forwarding table on that very port (BRIDGE-MIB), read while the port is up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pysnmp.hlapi.v3arch import asyncio as hlapi
from pysnmp.proto import rfc1905

from base.clock import now_ns
from fencing.devices.deadline import left_s, resolve
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
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice

RESEND_S = 1.0
UNREACHABLE_S = 4.0
_MAX_FDB_ROWS = 4096


@dataclass(frozen=True, slots=True)
class OutletTable:
    """A strip's table: OIDs without the outlet's index, and what the values mean. ``serial``: a scalar, "" if the MIB has none."""

    control: str
    status: str
    off_value: int
    on_value: int
    reads_off: int
    reads_on: int
    serial: str = ""
    suffix: str = ""


OUTLETS: Mapping[str, OutletTable] = {
    # PowerNet-MIB: rPDU2 (metered and switched rack PDUs of today) and sPDU/rPDU of before
    "apc": OutletTable("1.3.6.1.4.1.318.1.1.12.3.3.1.1.4", "1.3.6.1.4.1.318.1.1.12.3.5.1.1.4", 2, 1, 2, 1, "1.3.6.1.4.1.318.1.1.12.1.6.0"),
    "apc_rpdu2": OutletTable(
        "1.3.6.1.4.1.318.1.1.26.9.2.4.1.5", "1.3.6.1.4.1.318.1.1.26.9.2.3.1.5", 2, 1, 1, 2, "1.3.6.1.4.1.318.1.1.26.2.1.9.1"
    ),
    # EATON-EPDU-MIB: outletControlOffCmd / OnCmd take a delay in seconds (0 = now); outletControlStatus 0 = off, 1 = on
    "eaton": OutletTable(
        "1.3.6.1.4.1.534.6.6.7.6.6.1.3.0", "1.3.6.1.4.1.534.6.6.7.6.6.1.2.0", 0, 0, 0, 1, "1.3.6.1.4.1.534.6.6.7.1.2.1.4.0"
    ),
    # PDU2-MIB (Raritan PX2, PX3): switchingOperation off 0, on 1; measurementsOutletSensorStateState off 8, on 7
    "raritan": OutletTable(
        "1.3.6.1.4.1.13742.6.4.1.2.1.2.1", "1.3.6.1.4.1.13742.6.4.1.2.1.3.1", 0, 1, 8, 7, "1.3.6.1.4.1.13742.6.3.2.1.1.4.1"
    ),
    # CPS-MIB: ePDUOutletControlOutletCommand immediateOff 2, immediateOn 1; ePDUOutletStatusOutletState outletStatusOff 2, On 1
    "cyberpower": OutletTable(
        "1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4", "1.3.6.1.4.1.3808.1.1.3.3.5.1.1.4", 2, 1, 2, 1, "1.3.6.1.4.1.3808.1.1.3.1.6.0"
    ),
    # Digital Loggers web power switch: outlet state 0 / 1, written and read in one place
    "digital_loggers": OutletTable("1.3.6.1.4.1.45770.5.1.2.1.3", "1.3.6.1.4.1.45770.5.1.2.1.3", 0, 1, 0, 1, "1.3.6.1.4.1.45770.5.1.1.1.0"),
}
_EATON_ON = "1.3.6.1.4.1.534.6.6.7.6.6.1.4.0"
_IF_ADMIN, _IF_OPER, _IF_NAME = "1.3.6.1.2.1.2.2.1.7", "1.3.6.1.2.1.2.2.1.8", "1.3.6.1.2.1.31.1.1.1.1"
_IF_DESCR = "1.3.6.1.2.1.2.2.1.2"
_FDB_PORT, _BRIDGE_PORT_IF = "1.3.6.1.2.1.17.4.3.1.2", "1.3.6.1.2.1.17.1.4.1.2"
_UP, _DOWN = 1, 2
_MISSING = (rfc1905.NoSuchInstance, rfc1905.NoSuchObject, rfc1905.EndOfMibView)
_AUTH = {"MD5": hlapi.usmHMACMD5AuthProtocol, "SHA": hlapi.usmHMACSHAAuthProtocol, "SHA256": hlapi.usmHMAC192SHA256AuthProtocol}
_PRIVACY = {"DES": hlapi.usmDESPrivProtocol, "AES": hlapi.usmAesCfb128Protocol, "AES256": hlapi.usmAesCfb256Protocol}
_DENIED_STATUS = frozenset({"noAccess", "authorizationError"})
_REFUSED_STATUS = frozenset(
    {"readOnly", "notWritable", "wrongType", "wrongValue", "badValue", "inconsistentValue", "commitFailed", "genErr"}
)
_DENIED_WORDS = (
    "unknownusername",
    "wrongdigest",
    "unsupportedsecuritylevel",
    "unknownsecurityname",
    "decryptionerror",
    "authenticationfailure",
)


class SnmpRefused(Exception):
    """A definite end of a request."""

    def __init__(self, outcome: DeviceOutcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class Agent:
    """One SNMP agent (the device's), armed: who we are to it, and requests with an end. Used inside one ``asyncio.run``."""

    def __init__(self, settings: FenceDevice) -> None:
        plain, secrets = resolve_parameters(settings)
        self.plain, self.secrets = plain, secrets
        self._address = resolve(plain.get("host", ""), plain.get("port", "161"), socket.SOCK_DGRAM)
        version = plain.get("version", "3")
        if version in ("1", "2c"):
            if "community" not in secrets:
                raise DeviceConfigError('community_secret is missing; write community_secret = "file:/path"')
            self._who: Any = hlapi.CommunityData(secrets["community"].reveal(), mpModel=0 if version == "1" else 1)
        elif version == "3":
            self._who = _user(plain, secrets)
        else:
            raise DeviceConfigError(f"version {version!r} is unknown; write 3, 2c or 1")

    async def get(self, deadline_ns: int, *oids: str) -> list[Any]:
        """The values of these variables. Raises SnmpRefused; UNKNOWN_TARGET for one that does not exist."""
        binds = await self._ask(hlapi.get_cmd, deadline_ns, [hlapi.ObjectType(hlapi.ObjectIdentity(oid)) for oid in oids], acting=False)
        for oid, bind in zip(oids, binds, strict=True):
            if isinstance(bind[1], _MISSING):
                raise SnmpRefused(DeviceOutcome.UNKNOWN_TARGET, f"{oid} does not exist at this device")
        return [bind[1] for bind in binds]

    async def get_or_none(self, deadline_ns: int, oid: str) -> Any:
        """The value, or None where the device has none."""
        try:
            return (await self.get(deadline_ns, oid))[0]
        except SnmpRefused as refused:
            if refused.outcome is DeviceOutcome.UNKNOWN_TARGET:
                return None
            raise

    async def set(self, deadline_ns: int, oid: str, value: int) -> None:
        """Write an INTEGER. Raises SnmpRefused: what the agent answers with an error status was certainly not carried out."""
        await self._ask(hlapi.set_cmd, deadline_ns, [hlapi.ObjectType(hlapi.ObjectIdentity(oid), hlapi.Integer32(value))], acting=True)

    async def walk(self, deadline_ns: int, oid: str) -> dict[tuple[int, ...], Any]:
        """A column: index → value, at most _MAX_FDB_ROWS rows."""
        root = tuple(int(part) for part in oid.split("."))
        rows: dict[tuple[int, ...], Any] = {}
        at = root
        while len(rows) < _MAX_FDB_ROWS:
            name = ".".join(map(str, at))
            binds = await self._ask(hlapi.next_cmd, deadline_ns, [hlapi.ObjectType(hlapi.ObjectIdentity(name))], acting=False, walk=True)
            if not binds or isinstance(binds[0][1], _MISSING):
                break
            found = tuple(binds[0][0])
            if found[: len(root)] != root or found <= at:
                break
            rows[found[len(root) :]] = binds[0][1]
            at = found
        return rows

    async def _ask(self, command: Callable[..., Any], deadline_ns: int, binds: list[Any], *, acting: bool, walk: bool = False) -> Any:
        seconds = left_s(deadline_ns)
        patience_s = seconds if acting else min(seconds, UNREACHABLE_S)
        engine = hlapi.SnmpEngine()
        transport_class = hlapi.Udp6TransportTarget if self._address.family is socket.AF_INET6 else hlapi.UdpTransportTarget
        try:
            target = await transport_class.create(
                self._address.sockaddr[:2], timeout=RESEND_S, retries=max(0, int(patience_s / RESEND_S) - 1)
            )
            async with asyncio.timeout(patience_s):
                error, status, _index, answer = await command(engine, self._who, target, hlapi.ContextData(), *binds, lookupMib=False)
        except TimeoutError:
            raise _silent(acting) from None
        except OSError as failure:
            raise SnmpRefused(DeviceOutcome.UNREACHABLE, f"cannot send: {failure.strerror}") from None
        finally:
            engine.close_dispatcher()
        if error is not None:
            word = type(error).__name__.lower()
            if word in _DENIED_WORDS:
                raise SnmpRefused(DeviceOutcome.DENIED, f"the device refuses user or keys: {error}")
            raise _silent(acting)
        name = status.prettyPrint() if status else ""
        if int(status or 0) == 0:
            return answer
        if name == "noSuchName":
            if walk:
                return []
            raise SnmpRefused(DeviceOutcome.UNKNOWN_TARGET, "the device answers noSuchName: no such outlet or port")
        if name in ("noCreation", "noSuchInstance", "inconsistentName"):
            raise SnmpRefused(DeviceOutcome.UNKNOWN_TARGET, f"the device answers {name}: no such outlet or port")
        if name in _DENIED_STATUS:
            raise SnmpRefused(DeviceOutcome.DENIED, f"the device answers {name}: this community or user may not do that")
        if name == "resourceUnavailable":
            raise SnmpRefused(DeviceOutcome.BUSY, "the device answers resourceUnavailable")
        if name in _REFUSED_STATUS:
            raise SnmpRefused(DeviceOutcome.REFUSED, f"the device answers {name}")
        raise SnmpRefused(DeviceOutcome.FAILURE, f"the device answers {name}")


def _silent(acting: bool) -> SnmpRefused:
    if acting:
        return SnmpRefused(DeviceOutcome.TIMEOUT, "the command was sent and nothing answers")
    return SnmpRefused(DeviceOutcome.UNREACHABLE, "the device does not answer (SNMP before v3 says the same for a wrong community)")


def _user(plain: Mapping[str, str], secrets: Mapping[str, Any]) -> Any:
    auth, privacy = plain.get("auth", "SHA").upper(), plain.get("privacy", "AES").upper()
    if auth not in _AUTH or privacy not in _PRIVACY:
        raise DeviceConfigError(f"auth is one of {', '.join(_AUTH)}; privacy one of {', '.join(_PRIVACY)}")
    if not plain.get("user") or "auth_password" not in secrets:
        raise DeviceConfigError("SNMP v3 needs user and auth_password_secret (and privacy_password_secret)")
    for name in ("auth_password", "privacy_password"):
        if name in secrets and len(secrets[name].reveal()) < 8:
            raise DeviceConfigError(f"{name}_secret is shorter than the 8 characters that SNMP v3 demands")
    options: dict[str, Any] = {"authKey": secrets["auth_password"].reveal(), "authProtocol": _AUTH[auth]}
    if "privacy_password" in secrets:
        options |= {"privKey": secrets["privacy_password"].reveal(), "privProtocol": _PRIVACY[privacy]}
    return hlapi.UsmUserData(plain["user"], **options)  # noqa: S509 (privacy is the operator's choice; check warns)


class SnmpPduDevice:
    """One outlet of one power strip, armed. Raises DeviceConfigError or SecretError."""

    def __init__(self, settings: FenceDevice) -> None:
        self.settings = settings
        self._agent = Agent(settings)
        plain = self._agent.plain
        if plain.get("make", "") not in OUTLETS:
            raise DeviceConfigError(f"make {plain.get('make', '')!r} is unknown; known are {', '.join(OUTLETS)}")
        if not (plain.get("outlet", "").isascii() and plain.get("outlet", "").isdigit()):
            raise DeviceConfigError("outlet is missing or no number; write the outlet's number")
        self._make, self._outlet = plain["make"], int(plain["outlet"])

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """See Device.perform."""
        return run_snmp(self._agent, action, deadline_ns, valid_until_ns, self._status, self._switch)

    async def _status(self, deadline_ns: int) -> DeviceResult:
        table = OUTLETS[self._make]
        (value,) = await self._agent.get(deadline_ns, f"{table.status}.{self._outlet}")
        serial = await self._agent.get_or_none(deadline_ns, table.serial) if table.serial else None
        power = {table.reads_off: PowerState.OFF, table.reads_on: PowerState.ON}.get(int(value), PowerState.UNKNOWN)
        text = str(serial or "").strip()
        detail = "" if text else "the strip tells no serial number: its readings prove nothing"
        return DeviceResult(DeviceOutcome.SUCCESS, power, f"serial {text} outlet {self._outlet}" if text else "", detail)

    async def _switch(self, action: str, deadline_ns: int) -> DeviceResult:
        table = OUTLETS[self._make]
        oid = _EATON_ON if self._make == "eaton" and action == "on" else table.control
        # An outlet that does not exist must be refused before: some agents make a new row of whatever is written.
        await self._agent.get(deadline_ns, f"{table.status}.{self._outlet}")
        await self._agent.set(deadline_ns, f"{oid}.{self._outlet}", table.off_value if action == "off" else table.on_value)
        return DeviceResult(DeviceOutcome.SUCCESS, detail="the strip took the command")


class SnmpPortDevice:
    """One port of one switch, armed: ``off`` takes it down. Raises DeviceConfigError or SecretError."""

    def __init__(self, settings: FenceDevice) -> None:
        self.settings = settings
        self._agent = Agent(settings)
        self._port = self._agent.plain.get("switch_port", "")
        self._mac = self._agent.plain.get("mac", "").lower()
        if not self._port:
            raise DeviceConfigError("switch_port is missing; write the port's name (ifName or ifDescr)")

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """See Device.perform."""
        return run_snmp(self._agent, action, deadline_ns, valid_until_ns, self._status, self._switch)

    async def _index(self, deadline_ns: int) -> int:
        names = await self._agent.walk(deadline_ns, _IF_NAME) or await self._agent.walk(deadline_ns, _IF_DESCR)
        fitting = [index[0] for index, name in names.items() if str(name) == self._port]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise SnmpRefused(DeviceOutcome.AMBIGUOUS, f"{len(fitting)} ports are named {self._port}")
        raise SnmpRefused(DeviceOutcome.UNKNOWN_TARGET, f"no port is named {self._port}; known are {', '.join(map(str, names.values()))}")

    async def _status(self, deadline_ns: int) -> DeviceResult:
        index = await self._index(deadline_ns)
        admin, _oper = await self._agent.get(deadline_ns, f"{_IF_ADMIN}.{index}", f"{_IF_OPER}.{index}")
        power = {_UP: PowerState.ON, _DOWN: PowerState.OFF}.get(int(admin), PowerState.UNKNOWN)
        identity = f"port {self._port}"
        if self._mac:
            # A port that is down has forgotten its neighbours: then only the name can be compared, and silence must prove.
            if power is PowerState.ON and not await self._leads_to_mac(deadline_ns, index):
                return DeviceResult(
                    DeviceOutcome.SUCCESS, power, "", f"{self._mac} is not behind port {self._port} in the switch's forwarding table"
                )
            identity += f" to {self._mac}"
        return DeviceResult(DeviceOutcome.SUCCESS, power, identity)

    async def _leads_to_mac(self, deadline_ns: int, index: int) -> bool:
        octets = tuple(int(part, 16) for part in self._mac.split(":"))
        bridge_port = await self._agent.get_or_none(deadline_ns, f"{_FDB_PORT}.{'.'.join(map(str, octets))}")
        if bridge_port is None:
            return False
        found = await self._agent.get_or_none(deadline_ns, f"{_BRIDGE_PORT_IF}.{int(bridge_port)}")
        return found is not None and int(found) == index

    async def _switch(self, action: str, deadline_ns: int) -> DeviceResult:
        index = await self._index(deadline_ns)
        await self._agent.set(deadline_ns, f"{_IF_ADMIN}.{index}", _DOWN if action == "off" else _UP)
        return DeviceResult(DeviceOutcome.SUCCESS, detail="the switch took the command")


def run_snmp(
    agent: Agent,
    action: str,
    deadline_ns: int,
    valid_until_ns: int,
    status: Callable[[int], Any],
    switch: Callable[[str, int], Any],
) -> DeviceResult:
    """One reading or act in an event loop of its own, and its end as a result."""
    started_ns = now_ns()
    if is_stale(action, valid_until_ns):
        return stale_result(started_ns)
    try:
        result: DeviceResult = asyncio.run(status(deadline_ns) if action == "status" else switch(action, deadline_ns))
    except SnmpRefused as refused:
        result = DeviceResult(refused.outcome, detail=refused.detail)
    return DeviceResult(result.outcome, result.power, result.identity, clean_detail(result.detail, agent.secrets), elapsed_ms(started_ns))
