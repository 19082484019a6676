"""Real servers on loopback for the checkers, good and bad."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from base.core import NS_PER_MS
from vrrp.lvs.model.settings import Connection, HttpProbe, TlsSettings, Url

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE_MS = 3000


def to(port: int, address: str = "127.0.0.1", *, timeout_ms: int = PATIENCE_MS, **more: Any) -> Connection:
    return Connection(ip_address(address), port, timeout_ns=timeout_ms * NS_PER_MS, **more)


def get(port: int, *urls: Url, tls: TlsSettings | None = None, timeout_ms: int = PATIENCE_MS, protocol: str = "1.0") -> HttpProbe:
    return HttpProbe(to(port, timeout_ms=timeout_ms), urls or (Url("/"),), tls, protocol)


@contextlib.asynccontextmanager
async def serving(handler: Handler, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A TCP server; answers its port. Whatever its handler still does at the end is cancelled."""
    running: set[asyncio.Task[Any]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            running.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(guarded, host, 0, ssl=context, backlog=4096)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def saying(*parts: bytes, pause_s: float = 0.0, heard: list[bytes] | None = None) -> Handler:
    """Reads one request, says ``parts``, closes in good order."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(request)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        writer.close()
        await writer.wait_closed()

    return handler


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with what ``answer`` makes of it (None: nothing)."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        self.heard: list[tuple[bytes, tuple[str, int]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.append((data, addr[:2]))
        reply = self.answer(data)
        if reply is not None:
            self.transport.sendto(reply, addr)


@contextlib.asynccontextmanager
async def answering(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[tuple[int, Datagrams]]:
    """A UDP server; answers its port and what it heard."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Datagrams(answer), local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1], protocol
    finally:
        transport.close()


def unused_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def self_signed(directory: Path, name: str = "www.example.test") -> tuple[ssl.SSLContext, str]:
    """A server context with a fresh certificate for ``name``, and the path of the certificate."""
    key, certificate = directory / "key.pem", directory / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, str(certificate)
