"""TCP, SMTP, DNS, UDP, PING, MISC, FILE and BFD checks against real servers on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest
from aiosmtpd.controller import Controller
from hypothesis import given
from hypothesis import strategies as st

from base.core import NS_PER_MS
from tests.vrrp.lvs.servers import Handler, answering, serving, to, unused_port
from vrrp.config.model.common import ScriptCommand
from vrrp.lvs.checkers.bfd import BfdFollowers
from vrrp.lvs.checkers.file import judge, look
from vrrp.lvs.checkers.run import run_probe
from vrrp.lvs.from_config import reply_pattern
from vrrp.lvs.model.checker import ProbeFailed, ProbePassed
from vrrp.lvs.model.settings import BfdProbe, DnsProbe, FileProbe, MiscProbe, PingProbe, SmtpProbe, TcpProbe, UdpProbe

Result = ProbePassed | ProbeFailed


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


# ---- TCP --------------------------------------------------------------------------------------------------------------


def test_tcp_passes_where_somebody_listens_and_fails_where_nobody_does() -> None:
    async def main(host: str) -> Result:
        async with serving(silent, host=host) as port:
            return await run_probe(TcpProbe(to(port, host)))

    assert isinstance(asyncio.run(main("127.0.0.1")), ProbePassed)
    assert isinstance(asyncio.run(main("::1")), ProbePassed)
    assert asyncio.run(run_probe(TcpProbe(to(unused_port())))) == ProbeFailed("connection refused")


def test_tcp_to_a_full_backlog_times_out() -> None:
    """The kernel drops SYNs to a listener whose queue is full: as silent as a host that is gone."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (one, two):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        time.sleep(0.05)
        started = time.monotonic()
        result = asyncio.run(run_probe(TcpProbe(to(listener.getsockname()[1], timeout_ms=300))))
        assert result == ProbeFailed("timeout")
        assert time.monotonic() - started < 3


def test_tcp_from_an_address_that_is_not_ours_fails() -> None:
    async def main() -> Result:
        async with serving(silent) as port:
            return await run_probe(TcpProbe(to(port, bind_address=ip_address("192.0.2.55"))))

    assert asyncio.run(main()) == ProbeFailed("cannot assign requested address")


def test_a_probe_leaves_no_descriptor_behind() -> None:
    async def main() -> tuple[int, int]:
        async with serving(silent) as port:
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(20):
                await run_probe(TcpProbe(to(unused_port())))
                await run_probe(SmtpProbe(to(port, timeout_ms=10)))
                await run_probe(UdpProbe(to(unused_port(socket.SOCK_DGRAM), timeout_ms=10)))
            await asyncio.sleep(0.1)
            return before, len(os.listdir("/proc/self/fd"))

    before, after = asyncio.run(main())
    assert after <= before + 20, "only the server's own ends of the 20 connections may be left"


# ---- SMTP -------------------------------------------------------------------------------------------------------------


class Hello:
    """An aiosmtpd handler that remembers HELO names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def handle_HELO(self, server: object, session: object, envelope: object, hostname: str) -> str:
        self.names.append(hostname)
        return "250 mail.example.test"


@pytest.mark.shows("virtual_server/real_server/SMTP_CHECK")
def test_smtp_against_a_mail_server() -> None:
    handler = Hello()
    controller = Controller(handler, hostname="127.0.0.1", port=unused_port())
    controller.start()
    try:
        assert isinstance(asyncio.run(run_probe(SmtpProbe(to(controller.port), "probe.example.test"))), ProbePassed)
    finally:
        controller.stop()
    assert handler.names == ["probe.example.test"]


def scripted(*replies: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, reply in enumerate(replies):
            if number:
                await reader.readline()
            writer.write(reply)
            await writer.drain()
        await asyncio.sleep(0.2)

    return handler


@pytest.mark.parametrize(
    ("replies", "good"),
    [
        ((b"220 hi\r\n", b"250 hello\r\n", b"221 bye\r\n"), True),
        ((b"220-first\r\n220-second\r\n220 third\r\n", b"250-a\r\n250 b\r\n", b"221 bye\r\n"), True),
        ((b"554 go away\r\n",), False),
        ((b"220 hi\r\n", b"501 no\r\n"), False),
        ((b"220 hi\r\n", b"250 hello\r\n", b"451 no\r\n"), False),
        ((b"220 hi\r\n", b"250 hello\r\n"), False),
        ((b"HTTP/1.0 400 Bad\r\n",), False),
        ((b"220-" + b"x" * 200_000,), False),
        ((b"220-x\r\n" * 500,), False),
        ((b"\xff\xfe\x00\r\n",), False),
    ],
)
def test_smtp_dialogues(replies: tuple[bytes, ...], good: bool) -> None:
    async def main() -> Result:
        async with serving(scripted(*replies)) as port:
            return await run_probe(SmtpProbe(to(port)))

    assert isinstance(asyncio.run(main()), ProbePassed) is good


# ---- DNS --------------------------------------------------------------------------------------------------------------


def resolver(rcode: dns.rcode.Rcode, mangle: Callable[[bytes], bytes | None] = lambda wire: wire) -> Callable[[bytes], bytes | None]:
    def answer(wire: bytes) -> bytes | None:
        reply = dns.message.make_response(dns.message.from_wire(wire))
        reply.set_rcode(rcode)
        return mangle(reply.to_wire())

    return answer


def ask(answer: Callable[[bytes], bytes | None], kind: str = "SOA", name: str = ".") -> tuple[Result, list[bytes]]:
    async def main() -> tuple[Result, list[bytes]]:
        async with answering(answer) as (port, server):
            result = await run_probe(DnsProbe(to(port, timeout_ms=400), kind, name))
            return result, [data for data, _ in server.heard]

    return asyncio.run(main())


@pytest.mark.parametrize("kind", ["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "PTR", "SRV", "RRSIG", "DNSKEY"])
@pytest.mark.shows("virtual_server/real_server/DNS_CHECK")
def test_dns_asks_for_every_type(kind: str) -> None:
    result, heard = ask(resolver(dns.rcode.NOERROR), kind, "www.example.test")
    assert isinstance(result, ProbePassed)
    (question,) = dns.message.from_wire(heard[0]).question
    assert question.to_text() == f"www.example.test. IN {kind}"


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (resolver(dns.rcode.SERVFAIL), False),
        (resolver(dns.rcode.NXDOMAIN), False),
        (resolver(dns.rcode.REFUSED), False),
        (resolver(dns.rcode.NOERROR, lambda wire: bytes([wire[0] ^ 1]) + wire[1:]), False),
        (resolver(dns.rcode.NOERROR, lambda wire: None), False),
        (resolver(dns.rcode.NOERROR, lambda wire: b"\x00"), False),
        (resolver(dns.rcode.NOERROR, lambda wire: wire + b"tail"), True),
        (lambda wire: wire, False),
        (lambda wire: os.urandom(400), False),
    ],
)
def test_dns_answers(answer: Callable[[bytes], bytes | None], good: bool) -> None:
    assert isinstance(ask(answer)[0], ProbePassed) is good


# ---- UDP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "wanted", "lengths", "good"),
    [
        (None, None, (0, 255), True),
        (None, "", (0, 255), False),
        (b"pong", "", (0, 255), True),
        (b"pong", "70 6f", (0, 255), True),
        (b"pong", "7X 6f", (0, 255), True),
        (b"pong", "71 6f", (0, 255), False),
        (b"po", "70 6f 6e", (0, 255), False),
        (b"pong", "", (5, 255), False),
        (b"pong", "", (0, 3), False),
        (b"x" * 60_000, "", (0, 255), False),
    ],
)
@pytest.mark.shows("virtual_server/real_server/UDP_CHECK")
def test_udp_replies(reply: bytes | None, wanted: str | None, lengths: tuple[int, int], good: bool) -> None:
    async def main() -> tuple[Result, bytes]:
        async with answering(lambda data: reply) as (port, server):
            pattern = None if wanted is None else reply_pattern(wanted)
            result = await run_probe(UdpProbe(to(port, timeout_ms=300), b"ping", pattern, *lengths))
            return result, server.heard[0][0]

    result, heard = asyncio.run(main())
    assert isinstance(result, ProbePassed) is good
    assert heard == b"ping"


def test_udp_to_a_closed_port_fails_by_icmp() -> None:
    started = time.monotonic()
    assert asyncio.run(run_probe(UdpProbe(to(unused_port(socket.SOCK_DGRAM))))) == ProbeFailed("connection refused")
    assert time.monotonic() - started < 2


@given(st.binary(min_size=1, max_size=20), st.data())
def test_a_wildcard_nibble_matches_every_digit(value: bytes, data: st.DataObject) -> None:
    digits = list(value.hex())
    for index in data.draw(st.sets(st.integers(0, len(digits) - 1))):
        digits[index] = data.draw(st.sampled_from("xX"))
    want, mask = reply_pattern("".join(digits))
    assert len(want) == len(mask) == len(value)
    assert all(not (got ^ bits) & keep for got, bits, keep in zip(value, want, mask))
    for index, digit in enumerate(digits):
        nibble = mask[index // 2] >> (4 if index % 2 == 0 else 0) & 0xF
        assert nibble == (0 if digit in "xX" else 0xF)


# ---- PING -------------------------------------------------------------------------------------------------------------


@pytest.mark.system
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.shows("virtual_server/real_server/PING_CHECK")
def test_ping_of_ourselves(address: str) -> None:
    async def main() -> list[Result]:
        return await asyncio.gather(*(run_probe(PingProbe(to(0, address))) for _ in range(50)))

    results = asyncio.run(main())
    assert all(isinstance(result, ProbePassed) for result in results), results


@pytest.mark.system
def test_ping_of_an_unreachable_network_fails() -> None:
    result = asyncio.run(run_probe(PingProbe(to(0, "127.0.0.1", timeout_ms=300, bind_address=ip_address("192.0.2.55")))))
    assert isinstance(result, ProbeFailed)


# ---- MISC -------------------------------------------------------------------------------------------------------------


def misc(script: str, *, dynamic: bool = False, timeout_ms: int = 5000, user: str = "root", group: str = "") -> MiscProbe:
    return MiscProbe(ScriptCommand(("/bin/sh", "-c", script), user, group), timeout_ms * NS_PER_MS, dynamic)


@pytest.mark.parametrize(
    ("status", "dynamic", "result"),
    [
        (0, False, None),
        (0, True, None),
        (1, False, ProbeFailed),
        (1, True, ProbeFailed),
        (2, True, 0),
        (2, False, ProbeFailed),
        (12, True, 10),
        (255, True, 253),
        (255, False, ProbeFailed),
    ],
)
@pytest.mark.shows("virtual_server/real_server/MISC_CHECK")
def test_misc_exit_statuses(status: int, dynamic: bool, result: object) -> None:
    got = asyncio.run(run_probe(misc(f"exit {status}", dynamic=dynamic)))
    if result is ProbeFailed:
        assert isinstance(got, ProbeFailed)
    else:
        assert isinstance(got, ProbePassed) and got.weight == result


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_a_program_that_runs_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 300 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
    started = time.monotonic()
    got = asyncio.run(run_probe(misc(script, timeout_ms=400)))
    assert isinstance(got, ProbeFailed) and "longer than" in got.reason
    assert time.monotonic() - started < 5
    child = int(pid_file.read_text())
    until = time.monotonic() + 5
    while not gone(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert gone(child)


def test_a_program_that_ignores_term_is_killed() -> None:
    started = time.monotonic()
    assert isinstance(asyncio.run(run_probe(misc("trap '' TERM; while :; do sleep 0.1; done", timeout_ms=200))), ProbeFailed)
    assert time.monotonic() - started < 8


def test_a_cancelled_misc_check_leaves_no_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    async def main() -> None:
        task = asyncio.create_task(run_probe(misc(f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 300")))
        until = time.monotonic() + 10
        while not pid_file.exists() and time.monotonic() < until:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert gone(int(pid_file.read_text()))


def test_a_program_that_does_not_exist_or_is_killed_fails() -> None:
    missing = MiscProbe(ScriptCommand(("/nonexistent/check",), "root"), 1000 * NS_PER_MS)
    assert isinstance(asyncio.run(run_probe(missing)), ProbeFailed)
    assert isinstance(asyncio.run(run_probe(misc("kill -SEGV $$"))), ProbeFailed)
    assert isinstance(asyncio.run(run_probe(misc("exit 0", user="no-such-user"))), ProbeFailed)


@pytest.mark.system
def test_misc_runs_as_the_user() -> None:
    got = asyncio.run(run_probe(misc('test "$(id -un):$(id -gn)" = nobody:daemon', user="nobody", group="daemon")))
    assert isinstance(got, ProbePassed), got


# ---- FILE and BFD -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "reverse", "value", "up", "amount"),
    [
        (1, False, 5, True, 5),
        (-2, False, 5, True, -10),
        (1, True, 5, True, -5),
        (0, False, 0, True, 0),
        (0, False, 1, False, 0),
        (0, True, 0, False, 0),
        (0, True, 3, True, 0),
    ],
)
@pytest.mark.shows("virtual_server/real_server/FILE_CHECK")
def test_file_rules(weight: int, reverse: bool, value: int, up: bool, amount: int) -> None:
    verdict = judge(FileProbe("f", "/none", weight, reverse), value)
    assert (verdict.up, verdict.amount) == (up, amount)


def test_a_missing_file_counts_as_0(tmp_path: Path) -> None:
    probe = FileProbe("f", str(tmp_path / "weight"))
    assert look(probe).value == 0
    (tmp_path / "weight").write_text("-7\n")
    assert look(probe).amount == -7


def test_bfd_followers_hear_changes_only() -> None:
    heard: list[tuple[bool, str]] = []
    followers = BfdFollowers()
    followers.follow(BfdProbe("peer"), lambda up, reason: heard.append((up, reason)))
    for up in (True, True, False, False, True):
        followers.session_changed("peer", up, "x")
    followers.session_changed("other", False, "x")
    assert heard == [(True, "x"), (False, "x"), (True, "x")]
    late: list[bool] = []
    followers.follow(BfdProbe("peer"), lambda up, reason: late.append(up))
    assert late == [True]
