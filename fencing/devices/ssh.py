"""A command over SSH: on the target itself (power it off), or on a host that controls it (a hypervisor).

paramiko blocks, and its timeouts count per read, so every ``perform`` has one timer that closes the connection hard at
the deadline. The host key is enrolled and anything else is refused; no agent, no key files of the user, no prompt.

``off`` on the target itself kills the very session it came through: a connection that dies after the command was
accepted, or a silent session whose port no longer answers, is a *claim*. A target that cannot be reached is never
reported as off: only a ``status_command`` on a host that controls the target can read its power (exit code 0 = on,
2 = off). Without one, an authenticated session means ON.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from base.clock import now_ns
from base.core import NS_PER_S
from fencing.devices.deadline import hard_stop, resolve
from fencing.devices.device import (
    NEVER_NS,
    DeviceConfigError,
    DeviceResult,
    clean_detail,
    elapsed_ms,
    is_stale,
    last_line,
    resolve_parameters,
    stale_result,
)
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import paramiko
    from paramiko.pkey import UnknownKeyType

OWN_PARAMETERS = frozenset(
    {
        "host", "port", "user", "host_key", "key_secret", "key_passphrase_secret", "password_secret",
        "off_command", "on_command", "status_command", "identity_command", "settle_ms",
    }
)  # fmt: skip
DEFAULT_OFF_COMMAND = "systemctl poweroff --force --force"
DEFAULT_IDENTITY_COMMAND = "cat /etc/machine-id"
MAX_OUTPUT_BYTES = 64 * 1024
_CONNECT_S = 4.0
_PROBE_EVERY_S = 1.0
_PROBE_TIMEOUT_S = 0.7
_WEAK_CIPHERS = ["3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"]

_logger = logging.getLogger("paramiko")
_logger.addHandler(logging.NullHandler())
_logger.propagate = False


class _Refused(Exception):
    """A definite end before the command was sent."""

    def __init__(self, outcome: DeviceOutcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class SshDevice:
    """One SSH login with its commands, armed: keys parsed, secrets read. Raises DeviceConfigError or SecretError."""

    def __init__(self, settings: FenceDevice) -> None:
        self.settings = settings
        self._plain, self._secrets = resolve_parameters(settings)
        address = resolve(self._plain.get("host", ""), self._plain.get("port", "22"), socket.SOCK_STREAM)
        self._host, self._port = address.host, int(self._plain.get("port", "22"))
        self._address = (address.family, address.sockaddr)
        self._host_key = parse_host_key(self._plain.get("host_key", ""))
        self._key = self._load_key()
        if self._key is None and "password" not in self._secrets:
            raise DeviceConfigError("neither key_secret nor password_secret is given; brainctl must be able to log in without a person")
        self._identity_command = self._plain.get("identity_command", DEFAULT_IDENTITY_COMMAND)

    def _load_key(self) -> paramiko.PKey | None:
        if "key" not in self._secrets:
            return None
        text = self._secrets["key"].reveal()
        passphrase = self._secrets["key_passphrase"].reveal() if "key_passphrase" in self._secrets else None
        kinds: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)
        for kind in kinds:
            try:
                return kind.from_private_key(io.StringIO(text + "\n"), passphrase)
            except paramiko.PasswordRequiredException:
                raise DeviceConfigError("the key behind key_secret is encrypted; give key_passphrase_secret") from None
            except (paramiko.SSHException, ValueError, IndexError):
                continue
        raise DeviceConfigError(
            "the key behind key_secret is no Ed25519, ECDSA or RSA private key that can be read (or its passphrase is wrong)"
        )

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """See Device.perform."""
        started_ns = now_ns()
        if is_stale(action, valid_until_ns):
            return stale_result(started_ns)
        try:
            with self._session(deadline_ns) as client:
                if action == "status":
                    result = self._status(client, deadline_ns)
                else:
                    result = self._switch(client, action, deadline_ns, valid_until_ns)
        except _Refused as refused:
            result = DeviceResult(refused.outcome, detail=clean_detail(refused.detail, self._secrets))
        return DeviceResult(result.outcome, result.power, result.identity, result.detail, elapsed_ms(started_ns))

    # --- session ---

    @contextmanager
    def _session(self, deadline_ns: int) -> Iterator[paramiko.SSHClient]:
        """A fresh authenticated session, closed hard at the deadline. Raises _Refused if it does not come about."""
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        name = self._host if self._port == 22 else f"[{self._host}]:{self._port}"
        client.get_host_keys().add(name, self._host_key.get_name(), self._host_key)
        sock = self._connect(deadline_ns)
        with hard_stop(deadline_ns, lambda: _abort(sock, client)):
            try:
                self._log_in(client, sock, deadline_ns)
                yield client
            finally:
                client.close()
                sock.close()

    def _connect(self, deadline_ns: int) -> socket.socket:
        family, address = self._address
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(min(_CONNECT_S, max(0.01, (deadline_ns - now_ns()) / NS_PER_S)))
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            raise _Refused(DeviceOutcome.UNREACHABLE, f"cannot connect to {self._host} port {self._port}: {error}") from None
        return sock

    def _log_in(self, client: paramiko.SSHClient, sock: socket.socket, deadline_ns: int) -> None:
        left_s = max(0.01, (deadline_ns - now_ns()) / NS_PER_S)
        password = self._secrets.get("password")
        try:
            client.connect(
                self._host,
                self._port,
                username=self._plain.get("user", "root"),
                password=password.reveal() if password else None,
                pkey=self._key,
                sock=sock,
                timeout=left_s,
                banner_timeout=left_s,
                auth_timeout=left_s,
                channel_timeout=left_s,
                allow_agent=False,
                look_for_keys=False,
                disabled_algorithms={"ciphers": _WEAK_CIPHERS},
                transport_factory=_transport_factory(left_s),
            )
        except paramiko.BadHostKeyException:
            raise _Refused(DeviceOutcome.UNKNOWN_TARGET, "the host key is not the enrolled one: this is another machine") from None
        except paramiko.AuthenticationException as error:
            if now_ns() >= deadline_ns:
                raise _Refused(DeviceOutcome.UNREACHABLE, "the SSH server stopped answering during login") from None
            raise _Refused(DeviceOutcome.DENIED, f"login refused: {error}") from None
        except (paramiko.SSHException, OSError, EOFError, AttributeError) as error:
            text = str(error)
            if "not found in known_hosts" in text:
                raise _Refused(DeviceOutcome.UNKNOWN_TARGET, "the host key is not the enrolled one: this is another machine") from None
            raise _Refused(DeviceOutcome.UNREACHABLE, f"no SSH session with {self._host}: {text or type(error).__name__}") from None

    # --- actions ---

    def _status(self, client: paramiko.SSHClient, deadline_ns: int) -> DeviceResult:
        identity = self._read_identity(client, deadline_ns)
        command = self._plain.get("status_command", "")
        if not command:
            return DeviceResult(DeviceOutcome.SUCCESS, PowerState.ON, identity, "the target itself answers over SSH")
        code, text = self._execute(client, command, deadline_ns)
        power = {0: PowerState.ON, 2: PowerState.OFF}.get(code, PowerState.UNKNOWN)
        outcome = DeviceOutcome.FAILURE if power is PowerState.UNKNOWN else DeviceOutcome.SUCCESS
        return DeviceResult(outcome, power, identity, clean_detail(text, self._secrets))

    def _switch(self, client: paramiko.SSHClient, action: str, deadline_ns: int, valid_until_ns: int) -> DeviceResult:
        command = self._plain.get(f"{action}_command", DEFAULT_OFF_COMMAND if action == "off" else "")
        if not command:
            return DeviceResult(DeviceOutcome.UNKNOWN_TARGET, detail=f"no {action}_command is configured")
        if self.settings.identity:
            found = self._read_identity_before_act(client, deadline_ns)
            if found != self.settings.identity:
                return DeviceResult(
                    DeviceOutcome.UNKNOWN_TARGET, detail=f"enrolled as {self.settings.identity}, but this is {found or 'unknown'}"
                )
        if is_stale(action, valid_until_ns):
            return stale_result(now_ns())
        channel = self._start(client, command, deadline_ns)
        if self._wait_for_end(channel, deadline_ns):
            return DeviceResult(DeviceOutcome.SUCCESS, detail="the command was accepted, then the host stopped answering")
        if not channel.exit_status_ready() and now_ns() >= deadline_ns:
            return DeviceResult(DeviceOutcome.TIMEOUT, detail="the command did not end within the deadline")
        code = channel.exit_status
        if code in (0, -1):
            return DeviceResult(DeviceOutcome.SUCCESS, detail="done" if code == 0 else "the command was accepted, then the session died")
        return DeviceResult(DeviceOutcome.FAILURE, detail=f"exit code {code}: {clean_detail(_read(channel), self._secrets)}")

    def _read_identity(self, client: paramiko.SSHClient, deadline_ns: int) -> str:
        code, text = self._execute(client, self._identity_command, deadline_ns)
        return last_line(text, self._secrets) if code == 0 else ""

    def _read_identity_before_act(self, client: paramiko.SSHClient, deadline_ns: int) -> str:
        try:
            return self._read_identity(client, deadline_ns)
        except _Refused as refused:
            raise _Refused(DeviceOutcome.UNREACHABLE, refused.detail) from None

    def _start(self, client: paramiko.SSHClient, command: str, deadline_ns: int) -> paramiko.Channel:
        """Send a command; when this returns the server has accepted it. Raises _Refused if it certainly was not sent."""
        transport = client.get_transport()
        left_s = max(0.01, (deadline_ns - now_ns()) / NS_PER_S)
        try:
            if transport is None:
                raise EOFError("the session is gone")
            channel = transport.open_session(timeout=left_s)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise _Refused(DeviceOutcome.UNREACHABLE, f"the session died before the command: {error}") from None
        try:
            channel.settimeout(left_s)
            channel.exec_command(command)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise _Refused(DeviceOutcome.FAILURE, f"the session died at the command: {error or type(error).__name__}") from None
        return channel

    def _execute(self, client: paramiko.SSHClient, command: str, deadline_ns: int) -> tuple[int, str]:
        """Run a reading command to its end: exit code (-1 = none) and output."""
        channel = self._start(client, command, deadline_ns)
        channel.status_event.wait(max(0.0, (deadline_ns - now_ns()) / NS_PER_S))
        code = channel.exit_status if channel.exit_status_ready() else -1
        text = _read(channel)
        channel.close()
        return code, text

    def _wait_for_end(self, channel: paramiko.Channel, deadline_ns: int) -> bool:
        """Wait for the command to end. True if instead the session is silent and a fresh connection gets no answer."""
        while not channel.status_event.wait(min(_PROBE_EVERY_S, max(0.0, (deadline_ns - now_ns()) / NS_PER_S))):
            if now_ns() >= deadline_ns:
                return False
            if not channel.status_event.is_set() and not self._port_answers(deadline_ns):
                return True
        return False

    def _port_answers(self, deadline_ns: int) -> bool:
        """Whether an SSH server still greets on the port, tried over a fresh connection."""
        family, address = self._address
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(max(0.01, min(_PROBE_TIMEOUT_S, (deadline_ns - now_ns()) / NS_PER_S)))
            try:
                sock.connect(address)
                return bool(sock.recv(1))
            except OSError:
                return False


def parse_host_key(text: str) -> paramiko.PKey:
    """The host key as in known_hosts or a .pub file ("ssh-ed25519 AAAA… [comment]"). Raises DeviceConfigError."""
    words = text.split()
    if len(words) < 2:
        raise DeviceConfigError(
            'host_key is missing; write the line that `ssh-keyscan -t ed25519 HOST` prints, without the host: "ssh-ed25519 AAAA…"'
        )
    try:
        return paramiko.PKey.from_type_string(words[0], base64.b64decode(words[1], validate=True))
    except (paramiko.SSHException, UnknownKeyType, binascii.Error, ValueError, IndexError):
        raise DeviceConfigError(f"host_key: {words[0]} with this value is no public key") from None


def _transport_factory(handshake_s: float) -> Callable[..., paramiko.Transport]:
    """paramiko keeps a timer thread of 15 s for every handshake that does not finish; let it end with our deadline."""

    def make(sock: socket.socket, **options: Any) -> paramiko.Transport:
        transport = paramiko.Transport(sock, **options)
        transport.handshake_timeout = handshake_s
        return transport

    return make


def _read(channel: paramiko.Channel) -> str:
    """What has arrived so far on stdout, or else on stderr."""
    out = channel.recv(MAX_OUTPUT_BYTES) if channel.recv_ready() else b""
    if not out.strip() and channel.recv_stderr_ready():
        out = channel.recv_stderr(MAX_OUTPUT_BYTES)
    return out.decode("utf-8", "replace")


def _abort(sock: socket.socket, client: paramiko.SSHClient) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    client.close()
