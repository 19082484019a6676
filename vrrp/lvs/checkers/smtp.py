"""SMTP_CHECK: greeting 220, HELO 250, QUIT 221, each within ``connect_timeout``."""

from __future__ import annotations

import asyncio

from vrrp.lvs.checkers.connect import CheckFailed
from vrrp.lvs.checkers.http import open_stream
from vrrp.lvs.model.checker import ProbePassed
from vrrp.lvs.model.settings import SmtpProbe

MAX_LINES = 64


async def probe(settings: SmtpProbe) -> ProbePassed:
    """Say hello and good bye. Raises CheckFailed, OSError, TimeoutError."""
    reader, writer = await open_stream(settings.connection, None)
    timeout_s = settings.connection.timeout_ns / 1e9
    try:
        for command, wanted in (("", 220), (f"HELO {settings.helo_name}", 250), ("QUIT", 221)):
            async with asyncio.timeout(timeout_s):
                if command:
                    writer.write(command.encode() + b"\r\n")
                await _expect(reader, wanted, command or "greeting")
    finally:
        writer.transport.abort()
    return ProbePassed(detail="said hello")


async def _expect(reader: asyncio.StreamReader, wanted: int, what: str) -> None:
    """Read one reply, perhaps of many lines (``250-...``)."""
    for _ in range(MAX_LINES):
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            raise CheckFailed(f"{what}: the server hung up") from None
        except asyncio.LimitOverrunError:
            raise CheckFailed(f"{what}: the reply is too long") from None
        code = line[:3]
        if not code.isdigit():
            raise CheckFailed(f"{what}: the reply is not SMTP")
        if int(code) != wanted:
            raise CheckFailed(f"{what}: {int(code)} instead of {wanted}")
        if line[3:4] != b"-":
            return
    raise CheckFailed(f"{what}: a reply of more than {MAX_LINES} lines")
