"""One IPMI 2.0 session over RMCP+ (IPMI specification 2.0, sections 13.14 to 13.33), made for one reading or one act and then closed.

Cipher suites 17 (HMAC-SHA256, AES-CBC-128) and 3 (HMAC-SHA1, AES-CBC-128) only: suite 0 authenticates nobody and is never offered. The
BMC proves that it knows the password (RAKP 2 and 4) before anything is sent to it that acts. Why not a library: docs/adr/0901.
"""

from __future__ import annotations

import hmac
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from base.clock import now_ns
from base.core import NS_PER_MS, NS_PER_S
from fencing.devices.deadline import Address
from fencing.plan.events import DeviceOutcome

RESEND_NS = 400 * NS_PER_MS
UNREACHABLE_AFTER_NS = 3 * NS_PER_S
"""A BMC that has not said a word for so long is not there; one that has answered before gets until the deadline."""
_MAX_DATAGRAM = 1024
_RMCP = b"\x06\x00\xff\x07"
_AUTH_RMCPP = 6
_OPEN, _OPENED, _RAKP1, _RAKP2, _RAKP3, _RAKP4 = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
_IPMI, _SECURED = 0x00, 0xC0
_ADMIN_BY_NAME = 0x14
"""Privilege level administrator, user looked up by name alone."""
_CONST = 20
"""K1 and K2 are made of constants of 20 bytes, whatever the hash (section 13.32)."""
_MESSAGE = struct.Struct("<BBBBBB")
APP, CHASSIS = 0x06, 0x00
BMC_ADDRESS, CONSOLE_ADDRESS = 0x20, 0x81
COMPLETION_OK, COMPLETION_BUSY = 0x00, 0xC0
_NO_PRIVILEGE = 0xD4

_STATUS = {
    0x01: (DeviceOutcome.BUSY, "it has no session free"),
    0x09: (DeviceOutcome.DENIED, "this user may not act (administrator needed)"),
    0x0A: (DeviceOutcome.BUSY, "it has no session free for this privilege"),
    0x0D: (DeviceOutcome.DENIED, "it does not know this user"),
    0x0F: (DeviceOutcome.DENIED, "it refuses this password"),
    0x11: (DeviceOutcome.REFUSED, "it does not offer this cipher suite"),
}
"""RMCP+ status codes (table 13-15) that mean something to an operator."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite: its algorithm numbers, the hash of both, and how much of a tag is sent."""

    number: int
    authentication: int
    integrity: int
    hash: str
    tag_bytes: int


SUITES = {17: Suite(17, 3, 4, "sha256", 16), 3: Suite(3, 1, 1, "sha1", 12)}


class IpmiError(Exception):
    """The session did not come about, or broke. ``outcome`` says how far it got: see DeviceOutcome."""

    def __init__(self, outcome: DeviceOutcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class _Datagrams:
    """Requests and their answers over one connected UDP socket, until a deadline."""

    def __init__(self, address: Address, deadline_ns: int) -> None:
        self._deadline_ns = deadline_ns
        self._heard = False
        self._sock = socket.socket(address.family, socket.SOCK_DGRAM)
        try:
            self._sock.connect(address.sockaddr)
        except OSError as error:
            self._sock.close()
            raise IpmiError(DeviceOutcome.UNREACHABLE, f"cannot send to {address.host}: {error.strerror}") from None

    def close(self) -> None:
        self._sock.close()

    def exchange(self, make: Exchange) -> bytes:
        """Send, again every RESEND_NS, until ``make.accept`` takes an answer. Raises IpmiError(UNREACHABLE)."""
        started_ns = now_ns()
        while True:
            sent_ns = now_ns()
            try:
                self._sock.send(make.packet())
            except OSError:
                pass  # an ICMP error of an earlier datagram: the next one may get through
            while (left_ns := min(sent_ns + RESEND_NS, self._deadline_ns) - now_ns()) > 0:
                self._sock.settimeout(left_ns / NS_PER_S)
                try:
                    data = self._sock.recv(_MAX_DATAGRAM)
                except TimeoutError:
                    break
                except OSError:  # port unreachable
                    self._sock.settimeout(None)
                    time.sleep(max(0, min(sent_ns + RESEND_NS, self._deadline_ns) - now_ns()) / NS_PER_S)
                    break
                answer = make.accept(data)
                if answer is not None:
                    self._heard = True
                    return answer
            patience_ns = self._deadline_ns if self._heard else min(self._deadline_ns, started_ns + UNREACHABLE_AFTER_NS)
            if now_ns() >= patience_ns:
                raise IpmiError(DeviceOutcome.UNREACHABLE, "the BMC stopped answering" if self._heard else "the BMC does not answer")


class Exchange(Protocol):
    """One request. ``packet`` makes the datagram (anew for each sending); ``accept`` returns its answer's payload or None."""

    def packet(self) -> bytes:
        """The datagram to send now."""
        ...

    def accept(self, data: bytes) -> bytes | None:
        """The payload, if ``data`` answers this request."""
        ...


class _Open(Exchange):
    """An RMCP+ message outside a session: open, RAKP 1 and 3. The first byte of payload and answer is the tag."""

    def __init__(self, kind: int, answer_kind: int, payload: bytes) -> None:
        self._kind, self._answer_kind, self._payload = kind, answer_kind, payload

    def packet(self) -> bytes:
        header = struct.pack("<BBIIH", _AUTH_RMCPP, self._kind, 0, 0, len(self._payload))
        return _RMCP + header + self._payload

    def accept(self, data: bytes) -> bytes | None:
        if len(data) < 16 or data[:2] != _RMCP[:2] or data[3] != _RMCP[3] or data[4] != _AUTH_RMCPP or data[5] & 0x3F != self._answer_kind:
            return None
        (length,) = struct.unpack_from("<H", data, 14)
        payload = data[16 : 16 + length]
        return payload if len(payload) == length >= 2 and payload[0] == self._payload[0] else None


class IpmiSession:
    """A context manager: logs in, offers ``command``, closes. Raises IpmiError."""

    def __init__(self, address: Address, user: str, password: bytes, suite: Suite, deadline_ns: int, kg: bytes = b"") -> None:
        self._suite = suite
        self._user = user.encode()
        self._key = password[:20].ljust(20, b"\0")
        self._kg = kg[:20].ljust(20, b"\0") if kg else self._key
        self._wire = _Datagrams(address, deadline_ns)
        self._console_id = int.from_bytes(os.urandom(4), "little") or 1
        self._bmc_id = 0
        self._k1 = b""
        self._aes = b""
        self._sequence = 0
        self._request = 0
        self._tag = 0

    def __enter__(self) -> IpmiSession:
        try:
            self._log_in()
            # The session starts at user level; acting needs what the role allows.
            code, _ = self.command(APP, 0x3B, b"\x04")
            if code != COMPLETION_OK:
                raise IpmiError(DeviceOutcome.DENIED, f"this user may not act as administrator (completion code 0x{code:02x})")
        except BaseException:
            self._wire.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The answer to Close Session is not waited for: it may never come, and nothing depends on it.
        try:
            self._wire._sock.send(_Command(self, APP, 0x3C, struct.pack("<I", self._bmc_id)).packet())
        except OSError:
            pass
        self._wire.close()

    def command(self, netfn: int, number: int, data: bytes = b"") -> tuple[int, bytes]:
        """Send one command; completion code and data of its answer. Raises IpmiError(UNREACHABLE): it may have arrived."""
        answer = self._wire.exchange(_Command(self, netfn, number, data))
        return answer[0], answer[1:]

    # --- login ---

    def _log_in(self) -> None:
        suite, console, tag = self._suite, struct.pack("<I", self._console_id), self._next_tag()
        algorithms_ = b"".join(
            struct.pack("<BHBB3x", kind, 0, 8, number) for kind, number in enumerate((suite.authentication, suite.integrity, 1))
        )
        opened = self._ask(_Open(_OPEN, _OPENED, bytes([tag, 0, 0, 0]) + console + algorithms_), 12)
        bmc = opened[8:12]
        self._bmc_id = int.from_bytes(bmc, "little")
        random = os.urandom(16)
        who = bytes([_ADMIN_BY_NAME, len(self._user)]) + self._user
        name = bytes([_ADMIN_BY_NAME, 0, 0, len(self._user)]) + self._user
        second = self._ask(_Open(_RAKP1, _RAKP2, bytes([self._next_tag(), 0, 0, 0]) + bmc + random + name), 40)
        bmc_random, guid, code = second[8:24], second[24:40], second[40:]
        if not hmac.compare_digest(code, self._hmac(self._key, console + bmc + random + bmc_random + guid + who)):
            raise IpmiError(DeviceOutcome.DENIED, "the BMC and we do not know the same password")
        sik = self._hmac(self._kg, random + bmc_random + who)
        proof = self._hmac(self._key, bmc_random + console + who)
        fourth = self._ask(_Open(_RAKP3, _RAKP4, bytes([self._next_tag(), 0, 0, 0]) + bmc + proof), 8)
        if not hmac.compare_digest(fourth[8:], self._hmac(sik, random + bmc + guid)[: suite.tag_bytes]):
            raise IpmiError(DeviceOutcome.DENIED, "the BMC does not prove that it knows the password (or kg)")
        self._k1 = self._hmac(sik, b"\x01" * _CONST)
        self._aes = self._hmac(sik, b"\x02" * _CONST)[:16]

    def _ask(self, exchange: _Open, least: int) -> bytes:
        answer = self._wire.exchange(exchange)
        if answer[1]:
            outcome, why = _STATUS.get(answer[1], (DeviceOutcome.REFUSED, "it refuses the session"))
            raise IpmiError(outcome, f"{why} (RMCP+ status 0x{answer[1]:02x})")
        if len(answer) < least or answer[4:8] != struct.pack("<I", self._console_id):
            raise IpmiError(DeviceOutcome.UNREACHABLE, "the BMC answers with a message that is too short or another session's")
        return answer

    def _next_tag(self) -> int:
        self._tag = (self._tag + 1) & 0xFF
        return self._tag

    def _hmac(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, self._suite.hash)

    # --- inside the session ---

    def next_request(self) -> int:
        """A sequence number for a request (6 bits): answers carry it."""
        self._request = (self._request + 1) & 0x3F
        return self._request

    def seal(self, message: bytes) -> bytes:
        """An encrypted, authenticated datagram for the BMC (section 13.6)."""
        self._sequence += 1
        pad = -(len(message) + 1) % 16
        plain = message + bytes(range(1, pad + 1)) + bytes([pad])
        iv = os.urandom(16)
        encryptor = Cipher(algorithms.AES(self._aes), modes.CBC(iv)).encryptor()
        payload = iv + encryptor.update(plain) + encryptor.finalize()
        body = struct.pack("<BBIIH", _AUTH_RMCPP, _SECURED | _IPMI, self._bmc_id, self._sequence, len(payload)) + payload
        fill = -(len(body) + 2) % 4
        body += b"\xff" * fill + bytes([fill, 0x07])
        return _RMCP + body + self._hmac(self._k1, body)[: self._suite.tag_bytes]

    def unseal(self, data: bytes) -> bytes | None:
        """The message in a datagram of this session, None for anything else."""
        body, tag = data[4 : -self._suite.tag_bytes], data[-self._suite.tag_bytes :]
        if len(body) < 12 + 32 or data[:2] != _RMCP[:2] or body[:2] != bytes([_AUTH_RMCPP, _SECURED | _IPMI]):
            return None
        session_id, _sequence, length = struct.unpack_from("<IIH", body, 2)
        payload = body[12 : 12 + length]
        if session_id != self._console_id or len(payload) != length or length < 32 or length % 16:
            return None
        if not hmac.compare_digest(tag, self._hmac(self._k1, body)[: self._suite.tag_bytes]):
            return None
        decryptor = Cipher(algorithms.AES(self._aes), modes.CBC(payload[:16])).decryptor()
        plain = decryptor.update(payload[16:]) + decryptor.finalize()
        return plain[: len(plain) - 1 - plain[-1]] if plain[-1] < 16 else None


class _Command(Exchange):
    """An IPMI message inside a session. A resent one keeps its request number, so that a BMC may know it again."""

    def __init__(self, session: IpmiSession, netfn: int, number: int, data: bytes) -> None:
        self._session = session
        self._netfn, self._number, self._request = netfn, number, session.next_request()
        head = bytes([BMC_ADDRESS, netfn << 2])
        rest = bytes([CONSOLE_ADDRESS, self._request << 2, number]) + data
        self._message = head + _checksum(head) + rest + _checksum(rest)

    def packet(self) -> bytes:
        return self._session.seal(self._message)

    def accept(self, data: bytes) -> bytes | None:
        message = self._session.unseal(data)
        if message is None or len(message) < 8 or sum(message[:3]) & 0xFF or sum(message[3:]) & 0xFF:
            return None
        ours = message[1] >> 2 == self._netfn | 1 and message[4] >> 2 == self._request and message[5] == self._number
        return message[6:-1] if ours else None


def _checksum(data: bytes) -> bytes:
    return bytes([-sum(data) & 0xFF])
