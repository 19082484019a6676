"""Servers that answer with garbage: every checker says failed or passed, in time, and never meets a case it did not foresee."""

from __future__ import annotations

import asyncio
import random

import dns.message
import pytest

from tests.vrrp.lvs.servers import answering, get, serving, to
from vrrp.lvs.checkers.run import run_probe
from vrrp.lvs.model.checker import ProbeFailed, ProbePassed
from vrrp.lvs.model.settings import ActiveProbe, BodyPattern, DnsProbe, SmtpProbe, TlsSettings, UdpProbe, Url

PARTS = (
    *(b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 ", b"Content-Length: 18446744073709551616\r\n", b"Content-Length: -1\r\n", b"\r\n\r\n", b"\r\n"),
    *(
        b"Content-Length: 5\r\n",
        b"220 ",
        b"250-x\r\n",
        b"250 y\r\n",
        b"221 z\r\n",
        b"2\xb2\xb3 ",
        b"\0" * 9,
        b"\xff\xfe",
        b"200",
        b" ",
        b":",
    ),
    b"\x16\x03\x03\x00\x02\x02\x28",
)
SEEDS = range(150)


def garbage(seed: int) -> bytes:
    rng = random.Random(seed)
    return b"".join(rng.choice(PARTS) if rng.random() < 0.8 else rng.randbytes(rng.randrange(60)) for _ in range(rng.randrange(12)))


def foreseen(result: ProbePassed | ProbeFailed) -> bool:
    return isinstance(result, ProbePassed) or not result.reason.startswith("internal error")


def stream_probe(kind: str, port: int) -> ActiveProbe:
    if kind == "smtp":
        return SmtpProbe(to(port, timeout_ms=1500))
    url = Url("/", digest=bytes(16)) if kind == "digest" else Url("/", pattern=BodyPattern("x+y"))
    return get(port, url, tls=TlsSettings() if kind == "tls" else None, timeout_ms=1500)


@pytest.mark.parametrize("kind", ["digest", "regex", "tls", "smtp"])
def test_streams(kind: str) -> None:
    async def main() -> list[ProbePassed | ProbeFailed]:
        said = iter([garbage(seed) for seed in SEEDS])

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(next(said))
            await writer.drain()
            await asyncio.wait_for(reader.read(10), 0.5)
            writer.close()

        async with serving(handler) as port:
            return await asyncio.gather(*(run_probe(stream_probe(kind, port)) for _ in SEEDS))

    results = asyncio.run(main())
    assert [result for result in results if not foreseen(result)] == []


@pytest.mark.parametrize("kind", ["dns", "udp"])
def test_datagrams(kind: str) -> None:
    rng = random.Random(7)

    def answer(data: bytes) -> bytes:
        if kind == "udp":
            return garbage(rng.randrange(10_000))
        wire = bytearray(dns.message.make_response(dns.message.from_wire(data)).to_wire())
        for _ in range(rng.randrange(1, 4)):
            wire[rng.randrange(len(wire))] = rng.randrange(256)
        return bytes(wire[: rng.randrange(1, len(wire) + 1)])

    async def main() -> list[ProbePassed | ProbeFailed]:
        async with answering(answer) as (port, _server):
            there = to(port, timeout_ms=800)
            probe: ActiveProbe = DnsProbe(there, "A", "a.test") if kind == "dns" else UdpProbe(there, b"?", (b"\x00", b"\xff"))
            return await asyncio.gather(*(run_probe(probe) for _ in range(300)))

    results = asyncio.run(main())
    assert [result for result in results if not foreseen(result)] == []
    assert {type(result) for result in results} == {ProbePassed, ProbeFailed}
