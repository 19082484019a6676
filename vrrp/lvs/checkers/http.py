"""HTTP_GET and SSL_GET: one url of one server, with keepalived's request to the byte.

Limits of one probe: ``connect_timeout`` for connection and TLS, once more for the whole answer (keepalived starts its timer
again with every packet, so a dripping server would never fail); HEADER_LIMIT bytes of header; a body is hashed as it
comes and never kept, except PATTERN_LIMIT bytes of it for a regex. Where only the status counts, reading stops after
ENOUGH bytes of a body whose length is known; a body without a length that goes on beyond ENDLESS is a failure.

A body that is shorter than its Content-Length passes, as in keepalived, if status and digest are right; the detail says so.
Redirects are not followed: 302 is a status like any other. Chunks are not decoded: a digest is of the bytes on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vrrp.lvs.checkers.connect import STREAM_LIMIT, CheckFailed, connect
from vrrp.lvs.checkers.pattern import compile_pattern
from vrrp.lvs.model.checker import ProbePassed
from vrrp.lvs.model.settings import Connection, HttpProbe, TlsSettings, Url

HEADER_LIMIT = 65_536
PATTERN_LIMIT = 1 << 20
ENOUGH = 1 << 20
ENDLESS = 256 << 20
CHUNK = 65_536
GOODBYE_S = 0.2
"""For our close_notify to leave; the server's is not waited for."""


@dataclass(slots=True)
class Answer:
    """What came back. ``body`` holds at most PATTERN_LIMIT bytes and only if they were asked for."""

    header: bytes
    status: int
    content_length: int | None
    digest: bytes = b""
    length: int = 0
    body: bytes = b""
    complete: bool = True


def request(url: Url, connection: Connection, protocol: str) -> bytes:
    """The request as keepalived writes it; the Host header is the virtual host, else the address with its port."""
    version = "1.1" if protocol == "1.1" else "1.0"
    close = "" if protocol == "1.0" else "Connection: close\r\n"
    host = url.host
    if not host:
        address = ipaddress.ip_address(str(connection.address))
        host = f"[{address}]:{connection.port}" if address.version == 6 else f"{address}:{connection.port}"
    return f"GET {url.path} HTTP/{version}\r\nUser-Agent: KeepAliveClient\r\n{close}Host: {host}\r\n\r\n".encode()


@lru_cache(maxsize=64)
def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """One context per kind of settings. Raises CheckFailed if a file of ``SSL { }`` cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = settings.verify and bool(settings.server_name)
    context.verify_mode = ssl.CERT_REQUIRED if settings.verify else ssl.CERT_NONE
    try:
        if settings.verify and not settings.ca:
            context.load_default_certs()
        if settings.ca:
            context.load_verify_locations(settings.ca)
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key or None, settings.password or None)
    except (OSError, ssl.SSLError) as error:
        raise CheckFailed(f"SSL {{ }}: cannot use ca, certificate or key: {error.strerror or error}") from None
    return context


async def open_stream(connection: Connection, tls: TlsSettings | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connected stream, with TLS if asked for, within ``timeout_ns``. Raises OSError, TimeoutError, CheckFailed."""
    context = None if tls is None else tls_context(tls)
    timeout_s = connection.timeout_ns / 1e9
    async with asyncio.timeout(timeout_s):
        opened = await connect(connection, socket.SOCK_STREAM)
        more: dict[str, Any] = {}
        if tls is not None:
            more = {"ssl": context, "server_hostname": tls.server_name, "ssl_handshake_timeout": timeout_s, "ssl_shutdown_timeout": 0.1}
        try:
            return await asyncio.open_connection(sock=opened, limit=STREAM_LIMIT, **more)
        except BaseException:
            opened.close()
            raise


async def fetch(
    connection: Connection, tls: TlsSettings | None, message: bytes, *, keep: int, enough: int | None, close_notify: bool = False
) -> Answer:
    """Send ``message`` and read the answer. ``keep``: bytes of body to keep; ``enough``: see the module's docstring."""
    reader, writer = await open_stream(connection, tls)
    try:
        async with asyncio.timeout(connection.timeout_ns / 1e9):
            writer.write(message)
            await writer.drain()
            header = await _read_header(reader)
            answer = _parse(header)
            await _read_body(reader, answer, keep, enough)
        if close_notify:
            await _say_goodbye(writer)
        return answer
    finally:
        writer.transport.abort()


async def _say_goodbye(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        async with asyncio.timeout(GOODBYE_S):
            await writer.wait_closed()


async def _read_header(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise CheckFailed("no answer" if not error.partial else "the answer ends within its header") from None
    except asyncio.LimitOverrunError:
        raise CheckFailed(f"the header is longer than {HEADER_LIMIT} bytes") from None


def _parse(header: bytes) -> Answer:
    first, *lines = header.split(b"\r\n")
    words = first.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or len(words[1]) != 3 or not words[1].isdigit():
        raise CheckFailed("the answer is not HTTP")
    length = None
    for line in lines:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit() and len(value.strip()) < 19:
            length = int(value)
    return Answer(header, int(words[1]), length)


async def _read_body(reader: asyncio.StreamReader, answer: Answer, keep: int, enough: int | None) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    kept = bytearray()
    known = answer.content_length
    while known is None or answer.length < known:
        chunk = await reader.read(CHUNK if known is None else min(CHUNK, known - answer.length))
        if not chunk:
            break
        answer.length += len(chunk)
        digest.update(chunk)
        if len(kept) < keep:
            kept += chunk[: keep - len(kept)]
        if enough is not None and known is not None and answer.length >= enough:
            answer.complete = False
            break
        if answer.length >= ENDLESS:
            raise CheckFailed(f"the body goes on beyond {ENDLESS >> 20} MiB")
        await asyncio.sleep(0)  # a fast server must not keep the others from being heard
    answer.digest, answer.body = digest.digest(), bytes(kept)


async def probe(settings: HttpProbe, step: int) -> ProbePassed:
    """Ask for url number ``step``. Raises CheckFailed, OSError, TimeoutError."""
    url = settings.urls[step]
    message = request(url, settings.connection, settings.protocol)
    keep = PATTERN_LIMIT if url.pattern is not None else 0
    enough = None if url.digest else ENOUGH
    answer = await fetch(settings.connection, settings.tls, message, keep=keep, enough=enough, close_notify=url.close_notify)
    return ProbePassed(detail=await judge(url, answer))


async def judge(url: Url, answer: Answer) -> str:
    """What is good about the answer. Raises CheckFailed if it is not what ``url`` wants."""
    if not url.accepts(answer.status):
        raise CheckFailed(f"{url.path}: status {answer.status}")
    if url.digest and answer.digest != url.digest:
        raise CheckFailed(f"{url.path}: digest {answer.digest.hex()} instead of {url.digest.hex()}")
    if url.pattern is not None:
        compiled = compile_pattern(url.pattern)
        try:
            accepted = await asyncio.to_thread(compiled.accepts, answer.body)
        except TimeoutError:
            raise CheckFailed(f"{url.path}: the regex takes too long on this body") from None
        if not accepted:
            raise CheckFailed(f"{url.path}: the body {'matches' if url.pattern.inverted else 'does not match'} the regex")
    detail = f"{url.path}: status {answer.status}"
    if answer.complete and answer.content_length is not None and answer.length < answer.content_length:
        detail += f", but only {answer.length} of the {answer.content_length} bytes that Content-Length promised"
    return detail
