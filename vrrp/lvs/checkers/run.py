"""Runs one probe of any kind and turns whatever happens into passed or failed."""

from __future__ import annotations

import asyncio
import ssl

from vrrp.lvs.checkers import dns, http, misc, ping, smtp, tcp, udp
from vrrp.lvs.checkers.connect import CheckFailed, describe
from vrrp.lvs.model.checker import ProbeFailed, ProbePassed
from vrrp.lvs.model.settings import (
    ActiveProbe,
    DnsProbe,
    HttpProbe,
    MiscProbe,
    PingProbe,
    SmtpProbe,
    TcpProbe,
    UdpProbe,
)


async def run_probe(settings: ActiveProbe, step: int = 0) -> ProbePassed | ProbeFailed:
    """Never raises but for cancellation: an error that we did not foresee is a failed probe that says so."""
    try:
        return await _dispatch(settings, step)
    except CheckFailed as error:
        return ProbeFailed(str(error))
    except (OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
        return ProbeFailed(describe(error))
    except Exception as error:  # noqa: BLE001 - one server's odd answer must not end the checks of all others
        return ProbeFailed(f"internal error: {type(error).__name__}: {error}")


async def _dispatch(settings: ActiveProbe, step: int) -> ProbePassed:
    match settings:
        case TcpProbe():
            return await tcp.probe(settings)
        case HttpProbe():
            return await http.probe(settings, step)
        case SmtpProbe():
            return await smtp.probe(settings)
        case DnsProbe():
            return await dns.probe(settings)
        case UdpProbe():
            return await udp.probe(settings)
        case PingProbe():
            return await ping.probe(settings)
        case MiscProbe():
            return await misc.probe(settings)
