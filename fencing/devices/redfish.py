"""A BMC or chassis over Redfish (DMTF DSP0266), by the standard library's HTTP: a fresh TLS connection for a
reading or an act, and one session in it.

The target is named by ``system``, the UUID or serial number of exactly one member of /redfish/v1/Systems: a service may hold several
systems, and their order means nothing. TLS is verified by ``ca_file`` (or the system's store), or the certificate is pinned by
``fingerprint``; there is no third way. After the reset was sent, only an HTTP status of the service can say that it was not carried out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from base.clock import now_ns
from fencing.devices.deadline import hard_stop, left_s, resolve
from fencing.devices.device import (
    NEVER_NS,
    DeviceConfigError,
    DeviceResult,
    clean_detail,
    elapsed_ms,
    is_stale,
    resolve_parameters,
    retry_while_busy,
    stale_result,
)
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice

MAX_BODY_BYTES = 1 << 20
MAX_SYSTEMS = 64
CONNECT_S = 4.0
_RESET = {"off": "ForceOff", "on": "On"}
_POWER = {"On": PowerState.ON, "Off": PowerState.OFF}
_SYSTEMS = "/redfish/v1/Systems"
_SESSIONS = "/redfish/v1/SessionService/Sessions"
_NO_SESSIONS = frozenset({404, 405, 501})


class _Refused(Exception):
    """A definite end; ``outcome`` says what may have happened."""

    def __init__(self, outcome: DeviceOutcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


@dataclass(frozen=True, slots=True)
class _System:
    uri: str
    uuid: str
    serial: str
    power: str
    reset_uri: str
    resets: tuple[str, ...]

    @property
    def identity(self) -> str:
        return " ".join(f"{word} {value}" for word, value in (("uuid", self.uuid.lower()), ("serial", self.serial)) if value)


class RedfishDevice:
    """One system of one Redfish service, armed. Raises DeviceConfigError or SecretError."""

    def __init__(self, settings: FenceDevice) -> None:
        self.settings = settings
        plain, self._secrets = resolve_parameters(settings)
        self._address = resolve(plain.get("host", ""), plain.get("port", "443"), socket.SOCK_STREAM)
        self._port = int(plain.get("port", "443"))
        self._user = plain.get("user", "")
        self._system = plain.get("system", "")
        self._fingerprint = plain.get("fingerprint", "").replace(":", "").lower()
        if self._fingerprint and (len(self._fingerprint) != 64 or set(self._fingerprint) - set("0123456789abcdef")):
            raise DeviceConfigError(
                "fingerprint is no SHA-256 of a certificate; write what `openssl x509 -noout -fingerprint -sha256` prints for it"
            )
        self._tls = ssl.create_default_context()
        if self._fingerprint:
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE  # the fingerprint is compared instead, before anything is sent
        elif plain.get("ca_file"):
            try:
                self._tls.load_verify_locations(plain["ca_file"])
            except (OSError, ssl.SSLError) as error:
                raise DeviceConfigError(f"ca_file {plain['ca_file']}: {error}") from None

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """See Device.perform."""
        started_ns = now_ns()
        result = retry_while_busy(lambda: self._once(action, started_ns, deadline_ns, valid_until_ns), deadline_ns, valid_until_ns)
        return DeviceResult(
            result.outcome, result.power, result.identity, clean_detail(result.detail, self._secrets), elapsed_ms(started_ns)
        )

    def _once(self, action: str, started_ns: int, deadline_ns: int, valid_until_ns: int) -> DeviceResult:
        if is_stale(action, valid_until_ns):
            return stale_result(started_ns)
        try:
            with self._session(deadline_ns) as service:
                system = service.find(self._system)
                if action == "status":
                    power = _POWER.get(system.power, PowerState.UNKNOWN)
                    return DeviceResult(DeviceOutcome.SUCCESS, power, system.identity, f"PowerState {system.power}")
                if self.settings.identity and system.identity != self.settings.identity:
                    return DeviceResult(
                        DeviceOutcome.UNKNOWN_TARGET, detail=f"enrolled as {self.settings.identity}, but this is {system.identity}"
                    )
                if is_stale(action, valid_until_ns):
                    return stale_result(started_ns)
                return service.reset(system, action)
        except _Refused as refused:
            return DeviceResult(refused.outcome, detail=refused.detail)

    @contextmanager
    def _session(self, deadline_ns: int) -> Iterator[_Service]:
        connection = http.client.HTTPSConnection(self._address.host, self._port)
        connection.auto_open = 0  # only our own ``_connect`` opens: it checks who answers
        service = _Service(connection, lambda: self._connect(deadline_ns), deadline_ns)
        with hard_stop(deadline_ns, service.abort):
            try:
                service.log_in(self._user, self._secrets["password"].reveal() if "password" in self._secrets else "")
                try:
                    yield service
                finally:
                    service.log_out()
            finally:
                connection.close()

    def _connect(self, deadline_ns: int) -> ssl.SSLSocket:
        sock = socket.socket(self._address.family, socket.SOCK_STREAM)
        sock.settimeout(min(CONNECT_S, left_s(deadline_ns)))
        try:
            sock.connect(self._address.sockaddr)
            with hard_stop(deadline_ns, lambda: _abort(sock)):
                tls = self._tls.wrap_socket(sock, server_hostname=self._address.host)
        except ssl.SSLCertVerificationError as error:
            sock.close()
            raise _Refused(DeviceOutcome.UNTRUSTED, f"the certificate is not trusted: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            sock.close()
            what = "TLS handshake failed" if isinstance(error, ssl.SSLError) else "cannot connect"
            raise _Refused(DeviceOutcome.UNREACHABLE, f"{what}: {error}") from None
        if self._fingerprint:
            found = hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
            if not hmac.compare_digest(found, self._fingerprint):
                tls.close()
                raise _Refused(DeviceOutcome.UNTRUSTED, f"the certificate is another one: SHA-256 {found}")
        return tls


class _Service:
    """Requests over one connection, opened again when the service closes it after an answer (HTTP/1.0 does). Raises
    _Refused(UNREACHABLE) for whatever goes wrong before an act was sent."""

    def __init__(self, connection: http.client.HTTPSConnection, connect: Callable[[], ssl.SSLSocket], deadline_ns: int) -> None:
        self._connection = connection
        self._connect = connect
        self._deadline_ns = deadline_ns
        self._headers: dict[str, str] = {"Accept": "application/json", "OData-Version": "4.0"}
        self._session_uri = ""

    def abort(self) -> None:
        """The deadline is reached: whatever waits on the connection ends. Called from another thread."""
        sock = self._connection.sock
        if sock is not None:
            _abort(sock)

    def log_in(self, user: str, password: str) -> None:
        """A session token, closed by ``log_out``; HTTP Basic where the service has no sessions."""
        status, headers, _ = self._request("POST", _SESSIONS, {"UserName": user, "Password": password})
        if status in _NO_SESSIONS:
            basic = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {basic}"
        elif status in (200, 201) and headers.get("x-auth-token"):
            self._headers["X-Auth-Token"] = headers["x-auth-token"]
            self._session_uri = urlsplit(headers.get("location", "")).path
        elif status in (400, 401, 403):
            # Some services want Basic on the session collection itself; a wrong password is refused there too.
            basic = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {basic}"
        else:
            raise self._unexpected(status, headers, "login")

    def log_out(self) -> None:
        """Give the session back: services have few. Failure is not told: it would hide what was done."""
        if not self._session_uri.startswith("/"):
            return
        try:
            self._request("DELETE", self._session_uri)
        except _Refused:
            pass

    def find(self, wanted: str) -> _System:
        """The one system with this UUID or serial number."""
        members = self._get(_SYSTEMS).get("Members")
        uris = [m.get("@odata.id") for m in members if isinstance(m, dict)] if isinstance(members, list) else []
        systems = [self._system(uri) for uri in uris[:MAX_SYSTEMS] if isinstance(uri, str) and uri.startswith("/")]
        fitting = [s for s in systems if wanted and wanted.lower() in (s.uuid.lower(), s.serial.lower())]
        known = ", ".join(s.identity or s.uri for s in systems) or "none"
        if not fitting:
            raise _Refused(DeviceOutcome.UNKNOWN_TARGET, f"no system has UUID or serial number {wanted!r}; known are {known}")
        if len(fitting) > 1:
            raise _Refused(DeviceOutcome.AMBIGUOUS, f"{len(fitting)} systems have UUID or serial number {wanted!r}: {known}")
        return fitting[0]

    def _system(self, uri: str) -> _System:
        document = self._get(uri)
        reset = document.get("Actions", {}).get("#ComputerSystem.Reset", {}) if isinstance(document.get("Actions"), dict) else {}
        reset = reset if isinstance(reset, dict) else {}
        resets = reset.get("ResetType@Redfish.AllowableValues")
        return _System(
            uri,
            _text(document.get("UUID")),
            _text(document.get("SerialNumber")),
            _text(document.get("PowerState")),
            _text(reset.get("target")) or f"{uri.rstrip('/')}/Actions/ComputerSystem.Reset",
            tuple(_text(value) for value in resets) if isinstance(resets, list) else (),
        )

    def reset(self, system: _System, action: str) -> DeviceResult:
        """The act. What an HTTP status says about it is in the result; a connection that breaks now leaves it open."""
        kind = _RESET[action]
        if system.resets and kind not in system.resets:
            return DeviceResult(DeviceOutcome.REFUSED, detail=f"the system does not offer {kind}, only {', '.join(system.resets)}")
        if not system.reset_uri.startswith("/"):
            return DeviceResult(DeviceOutcome.REFUSED, detail="the system names a reset action on another host")
        try:
            status, headers, document = self._request("POST", system.reset_uri, {"ResetType": kind}, acting=True)
        except _Refused as refused:
            return DeviceResult(refused.outcome, detail=refused.detail)
        if 200 <= status < 300:
            return DeviceResult(DeviceOutcome.SUCCESS, detail=f"{kind}: HTTP {status}")
        said = f"{kind}: HTTP {status} {_message(document)}".rstrip()
        if status in (401, 403):
            return DeviceResult(DeviceOutcome.DENIED, detail=said)
        if status == 404:
            return DeviceResult(DeviceOutcome.UNKNOWN_TARGET, detail=said)
        if status in (429, 503):
            return DeviceResult(DeviceOutcome.BUSY, detail=_busy(said, headers))
        return DeviceResult(DeviceOutcome.REFUSED if 400 <= status < 500 else DeviceOutcome.FAILURE, detail=said)

    # --- HTTP ---

    def _get(self, path: str) -> dict[str, Any]:
        status, headers, document = self._request("GET", path)
        if status != 200:
            raise self._unexpected(status, headers, f"GET {path}")
        return document

    def _unexpected(self, status: int, headers: dict[str, str], what: str) -> _Refused:
        if status in (401, 403):
            return _Refused(DeviceOutcome.DENIED, f"{what}: HTTP {status}: user or password is refused")
        if status in (429, 503):
            return _Refused(DeviceOutcome.BUSY, _busy(f"{what}: HTTP {status}", headers))
        if status == 404:
            return _Refused(DeviceOutcome.UNKNOWN_TARGET, f"{what}: HTTP 404")
        return _Refused(DeviceOutcome.UNREACHABLE, f"{what}: HTTP {status}: this is no answer of a Redfish service")

    def _request(
        self, method: str, path: str, body: dict[str, str] | None = None, *, acting: bool = False
    ) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers (lower case) and JSON of one request. Raises _Refused: UNREACHABLE, or FAILURE once an act may have arrived."""
        broken = DeviceOutcome.FAILURE if acting else DeviceOutcome.UNREACHABLE
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        try:
            sock = self._connection.sock
            if sock is None:
                sock = self._connection.sock = self._connect()
            sock.settimeout(left_s(self._deadline_ns))
            self._connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = self._connection.getresponse()
            data = response.read(MAX_BODY_BYTES + 1)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            late = now_ns() >= self._deadline_ns
            outcome = DeviceOutcome.TIMEOUT if acting and late else broken
            raise _Refused(outcome, "no answer within the deadline" if late else f"{type(error).__name__}: {error}") from None
        if len(data) > MAX_BODY_BYTES:
            raise _Refused(broken, f"{method} {path}: an answer of more than {MAX_BODY_BYTES} bytes")
        answer_headers = {name.lower(): value for name, value in response.getheaders()}
        if not data.strip():
            return response.status, answer_headers, {}
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            if response.status < 300 and not acting:
                raise _Refused(DeviceOutcome.UNREACHABLE, f"{method} {path}: the answer is no JSON object")
            document = {}
        return response.status, answer_headers, document


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _message(document: dict[str, Any]) -> str:
    error = document.get("error")
    return _text(error.get("message")) if isinstance(error, dict) else ""


def _busy(said: str, headers: dict[str, str]) -> str:
    after = headers.get("retry-after", "")
    return f"{said}: busy" + (f", asks to wait {after} s" if after.isdigit() else "")


def _abort(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
