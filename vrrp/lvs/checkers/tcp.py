"""TCP_CHECK: up if a connection is made in time."""

from __future__ import annotations

import socket

from vrrp.lvs.checkers.connect import connect
from vrrp.lvs.model.checker import ProbePassed
from vrrp.lvs.model.settings import TcpProbe


async def probe(settings: TcpProbe) -> ProbePassed:
    """Connect and close in good order (a reset would fill the server's log). Raises OSError, TimeoutError."""
    opened = await connect(settings.connection, socket.SOCK_STREAM)
    opened.close()
    return ProbePassed(detail="connected")
