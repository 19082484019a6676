"""UDP_CHECK: send ``payload``. Without ``require_reply`` silence is good and an ICMP error bad; with it a reply must fit."""

from __future__ import annotations

import asyncio
import socket

from vrrp.lvs.checkers.connect import CheckFailed, connect
from vrrp.lvs.model.checker import ProbePassed
from vrrp.lvs.model.settings import UdpProbe

MAX_REPLY = 65_536


async def probe(settings: UdpProbe) -> ProbePassed:
    """Send and listen. Raises CheckFailed, OSError (an ICMP error), TimeoutError."""
    loop = asyncio.get_running_loop()
    opened = await connect(settings.connection, socket.SOCK_DGRAM)
    try:
        opened.send(settings.payload)
        async with asyncio.timeout(settings.connection.timeout_ns / 1e9):
            reply = await loop.sock_recv(opened, MAX_REPLY)
    except TimeoutError:
        if settings.require_reply is None:
            return ProbePassed(detail="no error came back")
        raise CheckFailed("no reply") from None
    finally:
        opened.close()
    if settings.require_reply is not None:
        check_reply(settings, reply)
    return ProbePassed(detail=f"replied with {len(reply)} bytes")


def check_reply(settings: UdpProbe, reply: bytes) -> None:
    """Raise CheckFailed unless length and first bytes are as wanted."""
    if not settings.min_reply_length <= len(reply) <= settings.max_reply_length:
        raise CheckFailed(f"a reply of {len(reply)} bytes")
    assert settings.require_reply is not None
    value, mask = settings.require_reply
    if len(reply) < len(value) or any((got ^ want) & bits for got, want, bits in zip(reply, value, mask)):
        raise CheckFailed("the reply is not the wanted one")
