"""The AgentX session with snmpd: registers our subtrees, answers, sends notifications, comes back when snmpd does."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from base.clock import now_ns
from base.log import Log
from vrrp.outside import agentx
from vrrp.outside.agentx import DecodeError, ErrorCode, Notify, Oid, Pdu, Response
from vrrp.outside.mib_tree import MibTree

DEFAULT_SOCKET = "/var/agentx/master"
RECONNECT_S = (0.5, 1, 2, 5, 10, 15)
PING_S = 15.0
ANSWER_S = 10.0
MAX_WAITING_NOTIFICATIONS = 1000
_NS_PER_CS = 10_000_000


@dataclass(frozen=True, slots=True)
class MasterAddress:
    """Where the AgentX master listens: a path, or host and port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def parse_socket(text: str) -> MasterAddress:
    """``snmp_socket``: [unix:]PATH, [tcp:|tcp6:]HOST:PORT, [tcp:]PORT; "" = the default. Raises ValueError."""
    text = text.strip()
    if not text:
        return MasterAddress(DEFAULT_SOCKET)
    kind, colon, rest = text.partition(":")
    kind = kind.lower()
    if text.startswith("/"):
        return MasterAddress(text)
    if colon and kind in ("unix", "local"):
        return MasterAddress(rest)
    if colon and kind in ("udp", "udp6", "ssh", "dtlsudp", "tlstcp"):
        raise ValueError(f"AgentX needs a stream socket: write unix:PATH or tcp:HOST:PORT instead of {text}")
    if not colon or kind not in ("tcp", "tcp6", "tcpipv6"):
        rest = text
    host, _, port = rest.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text} names no port: write unix:PATH or tcp:HOST:PORT")
    return MasterAddress("", host.strip("[]") or "127.0.0.1", int(port))


class _RefusedError(Exception):
    """The master said no."""


class SnmpAgent:
    """``tree(uptime_cs)`` makes the values that requests are answered from; ``uptime_cs`` is the master's sysUpTime."""

    def __init__(
        self, address: MasterAddress, subtrees: Sequence[Oid], log: Log, *, identity: Oid, tree: Callable[[int], Awaitable[MibTree]]
    ) -> None:
        self._address = address
        self._subtrees = tuple(subtrees)
        self._log = log
        self._identity = identity
        self._tree = tree
        self._packets = itertools.count(1)
        self._session = 0
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[int, asyncio.Future[tuple[Response, int]]] = {}
        self._waiting: deque[Notify] = deque()
        self._master_started_ns = 0
        self.lost_notifications = 0

    @property
    def connected(self) -> bool:
        """Is the session open and everything registered?"""
        return self._writer is not None and self._session != 0

    @property
    def waiting_notifications(self) -> int:
        """Notifications that no master has taken yet."""
        return len(self._waiting)

    def notify(self, notification: Notify) -> None:
        """Send, or keep until snmpd is back; the oldest is given up beyond MAX_WAITING_NOTIFICATIONS and counted."""
        if len(self._waiting) >= MAX_WAITING_NOTIFICATIONS:
            self._waiting.popleft()
            self.lost_notifications += 1
            self._log.limited("notifications lost", f"snmpd at {self._address} takes no notifications; the oldest are given up")
        self._waiting.append(notification)
        self._flush()

    def _flush(self) -> None:
        while self.connected and self._waiting:
            self._send(Pdu(self._waiting.popleft(), self._session, 0, next(self._packets)))

    def uptime_cs(self) -> int:
        """The master's sysUpTime, as far as its answers told."""
        return (now_ns() - self._master_started_ns) // _NS_PER_CS if self._master_started_ns else 0

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                reader, writer = await self._connect()
            except (OSError, TimeoutError) as error:
                if failures == 0:
                    self._log.warning(f"no AgentX master at {self._address}: {error}; start snmpd with 'master agentx', we go on trying")
                await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
                failures += 1
                continue
            self._writer = writer
            receiver = asyncio.create_task(self._receive(reader))
            try:
                await self._open()
                failures = 0
                self._log.info(f"SNMP: registered with the AgentX master at {self._address}")
                self._flush()
                await self._keep_alive(receiver)
            except (OSError, TimeoutError, _RefusedError, DecodeError, asyncio.IncompleteReadError) as error:
                self._log.limited("agentx", f"AgentX session with {self._address} ended: {error or type(error).__name__}")
            finally:
                await self._abandon(receiver, writer)
            await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
            failures += 1

    async def _abandon(self, receiver: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        if self.connected and not receiver.done():
            self._send(Pdu(agentx.Close(5), self._session, 0, next(self._packets)))
        self._session = 0
        self._writer = None
        receiver.cancel()
        await asyncio.gather(receiver, return_exceptions=True)
        for answer in self._answers.values():
            answer.cancel()
        self._answers.clear()
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.path:
            return await asyncio.wait_for(asyncio.open_unix_connection(self._address.path), ANSWER_S)
        return await asyncio.wait_for(asyncio.open_connection(self._address.host, self._address.port), ANSWER_S)

    async def _open(self) -> None:
        answer, session = await self._ask(agentx.Open(self._identity, f"vrrpd {os.getpid()}".encode()), 0)
        if answer.error:
            raise _RefusedError(f"open refused, error {answer.error}")
        self._master_started_ns = now_ns() - answer.uptime_cs * _NS_PER_CS
        refused = []
        for subtree in self._subtrees:
            answer, _ = await self._ask(agentx.Register(subtree), session)
            if answer.error:
                refused.append(subtree)
                reason = "another agent has it" if answer.error == ErrorCode.DUPLICATE_REGISTRATION else f"error {answer.error}"
                self._log.error(f"SNMP: cannot register {'.'.join(map(str, subtree))}: {reason}")
        if len(refused) == len(self._subtrees):
            raise _RefusedError("no subtree could be registered; is another keepalived connected to this snmpd?")
        self._session = session

    async def _ask(self, body: agentx.Body, session: int) -> tuple[Response, int]:
        """Send and wait; returns the answer and the session number in its header."""
        number = next(self._packets)
        future: asyncio.Future[tuple[Response, int]] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        self._send(Pdu(body, session, 0, number))
        try:
            return await asyncio.wait_for(future, ANSWER_S)
        except asyncio.CancelledError:
            if future.cancelled():
                raise _RefusedError("the master closed the session") from None
            raise
        finally:
            self._answers.pop(number, None)

    def _send(self, pdu: Pdu) -> None:
        if self._writer is not None:
            self._writer.write(agentx.encode(pdu))

    async def _keep_alive(self, receiver: asyncio.Task[None]) -> None:
        """A master that is dead without a FIN is noticed by its missing answer."""
        while True:
            done, _ = await asyncio.wait({receiver}, timeout=PING_S)
            if done:
                receiver.result()
                return
            await self._ask(agentx.Ping(), self._session)

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                header = await reader.readexactly(agentx.HEADER_BYTES)
                payload = await reader.readexactly(agentx.payload_length(header))
                await self._received(agentx.decode(header + payload))
        finally:
            for answer in self._answers.values():
                answer.cancel()

    async def _received(self, pdu: Pdu) -> None:
        if isinstance(pdu.body, Response):
            future = self._answers.get(pdu.packet)
            if future is not None and not future.done():
                future.set_result((pdu.body, pdu.session))
            elif pdu.body.error:
                self._log.limited("notify", f"snmpd refused a notification, error {pdu.body.error}")
            return
        if isinstance(pdu.body, agentx.Close):
            raise _RefusedError(f"the master closed the session, reason {pdu.body.reason}")
        tree = await self._tree(self.uptime_cs())
        answer = tree.answer(pdu.body)
        if answer is not None:
            self._send(Pdu(answer, pdu.session, pdu.transaction, pdu.packet))
