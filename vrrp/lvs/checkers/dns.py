"""DNS_CHECK: a query over UDP; up if an answer to it comes with rcode NOERROR."""

from __future__ import annotations

import asyncio
import socket

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from vrrp.lvs.checkers.connect import CheckFailed, connect
from vrrp.lvs.model.checker import ProbePassed
from vrrp.lvs.model.settings import DnsProbe

MAX_REPLY = 4096
MAX_STRAY_REPLIES = 64


async def probe(settings: DnsProbe) -> ProbePassed:
    """Ask. Raises CheckFailed, OSError, TimeoutError."""
    query = dns.message.make_query(settings.name, settings.record_type)
    loop = asyncio.get_running_loop()
    opened = await connect(settings.connection, socket.SOCK_DGRAM)
    try:
        async with asyncio.timeout(settings.connection.timeout_ns / 1e9):
            await loop.sock_sendall(opened, query.to_wire())
            for _ in range(MAX_STRAY_REPLIES):
                rcode = _rcode(query, await loop.sock_recv(opened, MAX_REPLY))
                if rcode is not None:
                    break
            else:
                raise CheckFailed("only answers to other questions")
    finally:
        opened.close()
    if rcode != dns.rcode.NOERROR:
        raise CheckFailed(f"rcode {dns.rcode.to_text(rcode)}")
    return ProbePassed(detail="answered")


def _rcode(query: dns.message.Message, wire: bytes) -> dns.rcode.Rcode | None:
    """The result code, or None if ``wire`` is no answer to ``query``. Raises CheckFailed for what is not DNS."""
    try:
        reply = dns.message.from_wire(wire, question_only=True)
    except dns.exception.DNSException:
        raise CheckFailed("the reply is not DNS") from None
    if reply.id != query.id or not reply.flags & dns.flags.QR:
        return None
    return reply.rcode()
