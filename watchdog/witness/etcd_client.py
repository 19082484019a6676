"""etcd v3 by its JSON gateway: one call over several members, the first answer counts.

A member may be dead, cut off or slow. A call begins at the member that answered last and is sent to the next one after ``HEDGE_MS`` or an
error, without waiting for the first. So every call must bear being carried out twice, and late: leases carry numbers that we choose, and
what is written is written under a lease (etcd.py).
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from base.secrets import Secret
from watchdog.witness.engine import WitnessSilentError

HEDGE_MS = 100
WAVE_MS = 700
WAVES = 4
CALL_MS = 2_700
MAX_ANSWER_BYTES = 1 << 16
_UNAUTHENTICATED = 16
_FINAL = frozenset({3, 5, 6, 7, 9, 11, 16})
"""gRPC codes that every member would answer: invalid argument, not found, already exists, denied, precondition, range, unauthenticated."""


@dataclass(frozen=True, slots=True)
class EtcdLogin:
    """User and password of etcd's own authentication."""

    user: str
    password: Secret


class EtcdRefusedError(Exception):
    """etcd carried nothing out; ``code`` is gRPC's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class EtcdClient:
    """``endpoints`` are URLs. Made inside the running loop."""

    def __init__(self, endpoints: Sequence[str], tls: ssl.SSLContext | None = None, login: EtcdLogin | None = None) -> None:
        self._endpoints = list(endpoints)
        self._login = login
        self._token = ""
        connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True, limit_per_host=WAVES * 2, force_close=False)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=CALL_MS / 1000), trust_env=False)
        self.answered_by = ""

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST to ``/v3/<path>``. Raises EtcdRefusedError (final) or WitnessSilentError (nobody answered in time)."""
        if self._login is not None and not self._token:
            await self._authenticate(self._login)
        try:
            return await self._first(path, body)
        except EtcdRefusedError as error:
            expired = error.code == _UNAUTHENTICATED or "invalid auth token" in str(error)
            if self._login is None or not expired:
                raise
        await self._authenticate(self._login)  # tokens run out, and a restarted member has forgotten them
        return await self._first(path, body)

    async def _authenticate(self, login: EtcdLogin) -> None:
        self._token = ""
        answer = await self._first("auth/authenticate", {"name": login.user, "password": login.password.reveal()})
        self._token = str(answer.get("token", ""))

    async def _first(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The first answer of any member. Those that do not answer are asked again: during an election etcd forgets what it was asked."""
        data = json.dumps(body).encode()
        loop = asyncio.get_running_loop()
        now = loop.time()
        end = now + CALL_MS / 1000
        due = [
            (now + (wave * WAVE_MS + number * HEDGE_MS) / 1000, endpoint)
            for wave in range(WAVES)
            for number, endpoint in enumerate(self._endpoints)
        ]
        due.sort(key=lambda entry: entry[0])
        running: dict[asyncio.Task[dict[str, Any]], str] = {}
        problems: dict[str, str] = {}
        try:
            while (due or running) and loop.time() < end:
                if due and (due[0][0] <= loop.time() or not running):
                    endpoint = due.pop(0)[1]
                    running[asyncio.create_task(self._post(endpoint, path, data))] = endpoint
                    continue
                until = min(end, due[0][0]) if due else end
                done, _ = await asyncio.wait(running, timeout=max(0.0, until - loop.time()), return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    endpoint = running.pop(task)
                    try:
                        answer = task.result()
                    except (aiohttp.ClientError, TimeoutError, OSError, WitnessSilentError) as error:
                        problems[endpoint] = _words(error)
                        continue
                    self._prefer(endpoint)
                    return answer
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        for endpoint in running.values():
            problems.setdefault(endpoint, f"no answer in {CALL_MS} ms")
        raise WitnessSilentError("; ".join(f"{endpoint}: {problem}" for endpoint, problem in problems.items()))

    def _prefer(self, endpoint: str) -> None:
        self.answered_by = endpoint
        if self._endpoints[0] != endpoint:
            self._endpoints.remove(endpoint)
            self._endpoints.insert(0, endpoint)

    async def _post(self, endpoint: str, path: str, data: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = self._token
        async with self._session.post(f"{endpoint}/v3/{path}", data=data, headers=headers, allow_redirects=False) as response:
            raw = await response.content.read(MAX_ANSWER_BYTES)
            answer = _parsed(raw)
            if response.status == 200 and answer is not None:
                return answer
            code, message = _error(answer)
            if code in _FINAL:
                raise EtcdRefusedError(code, message)
            raise WitnessSilentError(message or f"HTTP status {response.status}; is this an etcd member?")


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error(answer: dict[str, Any] | None) -> tuple[int, str]:
    if answer is None:
        return 0, ""
    code, message = answer.get("code"), answer.get("message") or answer.get("error")
    return code if isinstance(code, int) else 0, str(message or "")[:200]


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {CALL_MS} ms"
    return str(error)[:200] or type(error).__name__


def tls_context(ca_file: str, certificate_file: str, private_key_file: str) -> ssl.SSLContext:
    """Verifies the member's name and certificate; raises WitnessSilentError that names the file."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        if certificate_file:
            context.load_cert_chain(certificate_file, private_key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(f for f in (ca_file, certificate_file, private_key_file) if f)
        raise WitnessSilentError(f"the TLS files {files} cannot be used: {error}") from None
    return context


def b64(text: str) -> str:
    """As the gateway wants keys and values."""
    return base64.b64encode(text.encode()).decode()


def unb64(text: Any) -> str:
    """A value of the gateway; "" for what is none."""
    try:
        return base64.b64decode(str(text), validate=True).decode()
    except ValueError:
        return ""
