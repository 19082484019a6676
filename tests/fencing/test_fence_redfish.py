"""The native Redfish device: sushy-tools' emulator (slow transitions, several systems), and a service of ours that lies in every way."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.devices.build import build_device
from fencing.devices.device import DeviceConfigError, DeviceResult
from fencing.devices.parameters import validate_device
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice
from tests.fencing.conftest import PASSWORD, free_port, stop, wait_for

Secret = Callable[[str, str], str]
UUIDS = {"a": "11111111-1111-4111-8111-111111111111", "b": "22222222-2222-4222-8222-222222222222"}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Certificate, key and SHA-256 fingerprint of a self-signed service on 127.0.0.1."""
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=bmc",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    der = ssl.PEM_cert_to_DER_cert(cert.read_text())
    return cert, key, hashlib.sha256(der).hexdigest()


def settings(port: int, secret_file: Secret, *, password: str = PASSWORD, system: str = UUIDS["b"], **changes: str) -> FenceDevice:
    parameters = {
        "host": "127.0.0.1",
        "port": str(port),
        "user": "fence",
        "password_secret": secret_file(password, "redfish-password"),
        "system": system,
        **changes,
    }
    return FenceDevice("bmc-b", "redfish", "b", tuple((k, v) for k, v in parameters.items() if v))


def perform(device: FenceDevice, action: str, ms: int = 15_000) -> DeviceResult:
    assert validate_device(device) == []
    return build_device(device).perform(action, now_ns() + ms * NS_PER_MS)


# --- the emulator of OpenStack's Redfish library ---


@pytest.fixture
def sushy(tmp_path: Path, certificate: tuple[Path, Path, str]) -> Iterator[int]:
    cert, key, _ = certificate
    port = free_port(socket.SOCK_STREAM)
    passwords = tmp_path / "htpasswd"
    passwords.write_text(f"fence:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    systems = [{"uuid": uuid, "name": f"node-{node}", "power_state": "On", "nics": []} for node, uuid in UUIDS.items()]
    config = tmp_path / "emulator.conf"
    config.write_text(
        f"SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_FAKE_SYSTEMS = {systems!r}\nSUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\n"
        f"SUSHY_EMULATOR_LISTEN_PORT = {port}\nSUSHY_EMULATOR_SSL_CERT = {str(cert)!r}\nSUSHY_EMULATOR_SSL_KEY = {str(key)!r}\n"
        f"SUSHY_EMULATOR_AUTH_FILE = {str(passwords)!r}\nSUSHY_EMULATOR_STATE_DIR = {str(tmp_path)!r}\n"
    )
    argv = [str(Path(sys.executable).with_name("sushy-emulator")), "--config", str(config)]
    with open(tmp_path / "log", "wb") as log:
        env = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def listening() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    try:
        assert wait_for(listening, 30), (tmp_path / "log").read_text()
        yield port
    finally:
        stop(process)


def test_the_emulator_switches_the_named_system_and_no_other(sushy: int, secret_file: Secret, certificate: tuple[Path, Path, str]):
    device = settings(sushy, secret_file, ca_file=str(certificate[0]))
    before = perform(device, "status")
    assert (before.outcome, before.power) == (DeviceOutcome.SUCCESS, PowerState.ON), before.detail
    assert UUIDS["b"] in before.identity
    assert perform(device, "off").outcome is DeviceOutcome.SUCCESS
    assert wait_for(lambda: perform(device, "status").power is PowerState.OFF, 30), "the transition takes 1 to 11 seconds"
    assert perform(settings(sushy, secret_file, system=UUIDS["a"], ca_file=str(certificate[0])), "status").power is PowerState.ON
    assert (
        perform(settings(sushy, secret_file, system="no-such", ca_file=str(certificate[0])), "off").outcome is DeviceOutcome.UNKNOWN_TARGET
    )
    assert perform(settings(sushy, secret_file, password="wrong", ca_file=str(certificate[0])), "off").outcome is DeviceOutcome.DENIED


# --- a service of ours ---


@dataclass
class Liar:
    """What the service does wrong. ``power`` is the truth about system b."""

    power: str = "On"
    obeys: bool = True
    login_status: int = 201
    reset_status: int = 204
    busy_times: int = 0
    uuid: str = UUIDS["b"]
    serials: tuple[str, ...] = ("SN-A", "SN-B")
    body: bytes | None = None
    hangs: bool = False
    cuts_reset: bool = False
    sessions: set[str] = field(default_factory=set)
    port: int = 0


@pytest.fixture
def liar(certificate: tuple[Path, Path, str]) -> Iterator[Liar]:
    state = Liar()
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, document: Any = None, **headers: str) -> None:
            data = b"" if document is None else json.dumps(document).encode()
            if state.body is not None and self.command == "GET":
                data = state.body
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if state.hangs:
                over.wait(20)
            if self.headers.get("X-Auth-Token") not in state.sessions:
                self.answer(401)
            elif state.busy_times > 0:
                state.busy_times -= 1
                self.answer(503, Retry_After="1")
            elif self.path == "/redfish/v1/Systems":
                self.answer(200, {"Members": [{"@odata.id": f"/redfish/v1/Systems/{n}"} for n in range(2)]})
            else:
                number = int(self.path[-1])
                self.answer(
                    200,
                    {
                        "UUID": state.uuid if number else UUIDS["a"],
                        "SerialNumber": state.serials[number],
                        "PowerState": state.power if number else "On",
                    },
                )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("Sessions"):
                if state.login_status == 201 and body["Password"] == PASSWORD:
                    token = f"token{len(state.sessions)}{time.monotonic_ns()}"
                    state.sessions.add(token)
                    self.answer(201, {}, X_Auth_Token=token, Location=f"https://127.0.0.1/redfish/v1/SessionService/Sessions/{token}")
                else:
                    self.answer(state.login_status if state.login_status != 201 else 401)
                return
            if state.obeys and self.path.startswith("/redfish/v1/Systems/1/"):
                state.power = "Off" if body["ResetType"] == "ForceOff" else "On"
            if state.cuts_reset:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.answer(state.reset_status, {"error": {"message": "as it is"}} if state.reset_status >= 400 else None)

        def do_DELETE(self) -> None:
            state.sessions.discard(self.path.rsplit("/", 1)[-1])
            self.answer(204)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate[:2])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def device(liar: Liar, secret_file: Secret, certificate: tuple[Path, Path, str]) -> FenceDevice:
    return settings(liar.port, secret_file, fingerprint=certificate[2])


def test_a_session_is_opened_and_closed_for_each_call(liar: Liar, device: FenceDevice):
    reading = perform(device, "status")
    assert (reading.power, reading.identity) == (PowerState.ON, f"uuid {UUIDS['b']} serial SN-B")
    assert perform(device, "off").outcome is DeviceOutcome.SUCCESS
    assert perform(device, "status").power is PowerState.OFF
    assert liar.sessions == set()


def test_tls_is_verified_or_pinned(liar: Liar, secret_file: Secret, certificate: tuple[Path, Path, str]):
    assert perform(settings(liar.port, secret_file), "off").outcome is DeviceOutcome.UNTRUSTED
    assert perform(settings(liar.port, secret_file, fingerprint="ab" * 32), "off").outcome is DeviceOutcome.UNTRUSTED
    assert perform(settings(liar.port, secret_file, ca_file=str(certificate[0])), "status").outcome is DeviceOutcome.SUCCESS
    assert liar.power == "On"


def test_login_way_and_system_are_told_apart(liar: Liar, device: FenceDevice, secret_file: Secret, certificate: tuple[Path, Path, str]):
    pinned = certificate[2]
    assert perform(settings(liar.port, secret_file, password="wrong", fingerprint=pinned), "off").outcome is DeviceOutcome.DENIED
    assert perform(settings(free_port(socket.SOCK_STREAM), secret_file), "off").outcome is DeviceOutcome.UNREACHABLE
    assert perform(settings(liar.port, secret_file, system="SN-C", fingerprint=pinned), "off").outcome is DeviceOutcome.UNKNOWN_TARGET
    liar.serials = ("SN-B", "SN-B")
    assert perform(settings(liar.port, secret_file, system="SN-B", fingerprint=pinned), "off").outcome is DeviceOutcome.AMBIGUOUS
    assert liar.power == "On"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, DeviceOutcome.REFUSED), (403, DeviceOutcome.DENIED), (409, DeviceOutcome.REFUSED), (500, DeviceOutcome.FAILURE)],
)
def test_what_the_service_says_to_the_act(liar: Liar, device: FenceDevice, status: int, outcome: DeviceOutcome):
    liar.reset_status, liar.obeys = status, False
    assert perform(device, "off").outcome is outcome


def test_a_connection_that_breaks_at_the_act_leaves_it_open(liar: Liar, device: FenceDevice):
    liar.cuts_reset = True
    assert perform(device, "off").outcome is DeviceOutcome.FAILURE
    assert liar.power == "Off"


def test_busy_is_waited_for(liar: Liar, device: FenceDevice):
    liar.busy_times = 2
    assert perform(device, "off").outcome is DeviceOutcome.SUCCESS
    liar.busy_times = 1_000
    assert perform(device, "status", 1_000).outcome is DeviceOutcome.BUSY


@pytest.mark.parametrize(
    "body", [b"x" * 10_000_000, b"\xff\xfe", b"[1]", b'{"a":' * 5_000, b'{"Members": 7}', b'{"Members": [{"@odata.id": 3}]}']
)
def test_garbage_is_a_type_and_not_believed(liar: Liar, device: FenceDevice, body: bytes):
    liar.body = body
    result = perform(device, "status")
    assert result.outcome in (DeviceOutcome.UNREACHABLE, DeviceOutcome.UNKNOWN_TARGET)
    assert perform(device, "off").outcome is not DeviceOutcome.SUCCESS
    assert liar.power == "On"


def test_a_service_that_hangs_ends_at_the_deadline(liar: Liar, device: FenceDevice):
    liar.hangs = True
    started = time.monotonic()
    assert perform(device, "off", 1_000).outcome is DeviceOutcome.UNREACHABLE
    assert time.monotonic() - started < 3


def test_a_serial_number_that_changed_is_another_machine(liar: Liar, device: FenceDevice):
    import dataclasses

    enrolled = dataclasses.replace(device, identity=perform(device, "status").identity)
    liar.serials = ("SN-A", "SN-X")
    assert perform(enrolled, "off").outcome is DeviceOutcome.UNKNOWN_TARGET
    assert liar.power == "On"


def test_half_a_handshake_ends_at_the_deadline(secret_file: Secret):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        started = time.monotonic()
        assert perform(settings(mute.getsockname()[1], secret_file), "off", 1_000).outcome is DeviceOutcome.UNREACHABLE
        assert time.monotonic() - started < 3


def test_a_fingerprint_that_is_none_is_refused(secret_file: Secret):
    with pytest.raises(DeviceConfigError):
        build_device(settings(443, secret_file, fingerprint="abc"))
