"""The checker process with real checks on loopback and a table in memory in place of the kernel's."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import resource
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from base.core import NS_PER_MS, NS_PER_S
from base.diagnostics import Diagnostics
from base.log import Log
from tests.vrrp.config.reading import read
from tests.vrrp.lvs.servers import answering, get, saying, serving, to
from vrrp.config.model.common import Family, ScriptCommand
from vrrp.lvs.from_config import virtual_servers
from vrrp.lvs.model.desired import Change, Entry, ServiceKey, apply
from vrrp.lvs.model.settings import (
    BfdProbe,
    CheckerSettings,
    FileProbe,
    Listen,
    MarkedRange,
    Method,
    MiscProbe,
    Probe,
    RealServerSettings,
    SorryServer,
    TcpProbe,
    Timing,
    Transport,
    UdpProbe,
    Url,
    VirtualServerSettings,
)
from vrrp.lvs.model.virtual_server import MailAlert, QuorumChanged, RunNotify
from vrrp.lvs.process import CheckerProcess

PATIENCE_S = 15.0
FAST = Timing(retry=0, delay_before_retry_ns=50 * NS_PER_MS, delay_loop_ns=150 * NS_PER_MS, warmup_ns=0)
WEB = ServiceKey(4, 0, 6, "192.0.2.9", 80)


class Memory:
    """An IPVS table in memory; ``refuse``: how many of the next calls fail."""

    def __init__(self) -> None:
        self.table: dict[ServiceKey, Entry] = {}
        self.refuse = 0
        self.calls = 0

    def services(self) -> dict[ServiceKey, Entry]:
        return dict(self.table)

    def apply(self, changes: Iterable[Change]) -> Sequence[object]:
        self.calls += 1
        if self.refuse:
            self.refuse -= 1
            return ["no memory"]
        changes = list(changes)
        touched = {change.key for change in changes}
        try:
            after = apply({key: self.table[key] for key in touched if key in self.table}, changes)
        except (KeyError, ValueError) as error:
            return [error]
        for key in touched:
            self.table.pop(key, None)
        self.table.update(after)
        return []

    def weights(self, key: ServiceKey = WEB) -> dict[str, int]:
        if key not in self.table:
            return {}
        return {target.address: value.weight for target, value in self.table[key].destinations.items()}


class Told:
    """Everything that was told."""

    def __init__(self) -> None:
        self.notices: list[tuple[str, str, bool]] = []
        self.mails: list[str] = []
        self.quorums: list[bool] = []
        self.repairs: list[Sequence[Change]] = []

    def notify(self, service: str, notice: RunNotify) -> None:
        self.notices.append((notice.subject.value, notice.server, notice.up))

    def mail(self, service: str, alert: MailAlert) -> None:
        self.mails.append(alert.subject)

    def quorum(self, service: str, change: QuorumChanged) -> None:
        self.quorums.append(change.up)

    def repaired(self, changes: Sequence[Change]) -> None:
        self.repairs.append(changes)


@contextlib.asynccontextmanager
async def running(*services: VirtualServerSettings, reconcile_s: float = 0.2) -> AsyncIterator[tuple[CheckerProcess, Memory, Told]]:
    memory, told = Memory(), Told()
    sink = os.open(os.devnull, os.O_WRONLY)
    process = CheckerProcess(memory, told, Log("lvs", fd=sink), draw=lambda: 0.0, reconcile_s=reconcile_s)
    process.configure(services)
    task = asyncio.create_task(process.run())
    try:
        yield process, memory, told
    finally:
        process.stop()
        await asyncio.wait_for(task, PATIENCE_S)
        os.close(sink)


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        await asyncio.sleep(0.01)


def real(number: int, *probes: Probe, timing: Timing = FAST, **more: object) -> RealServerSettings:
    checkers = tuple(CheckerSettings(f"C{index}", probe, timing) for index, probe in enumerate(probes))
    settings = RealServerSettings(f"rs{number}", ip_address(f"192.0.2.{number}"), 0, checkers=checkers)
    return dataclasses.replace(settings, **more)  # type: ignore[arg-type]


def service(*reals: RealServerSettings, sorry: bool = False, identity: str = "vs", port: int = 80, **more: object) -> VirtualServerSettings:
    listen = Listen(Family.IPV4, ip_address("192.0.2.9"), port)
    stand_in = SorryServer(ip_address("192.0.2.200"), 0) if sorry else None
    settings = VirtualServerSettings(identity, (listen,), Transport.TCP, real_servers=reals, sorry_server=stand_in)
    return dataclasses.replace(settings, **more)  # type: ignore[arg-type]


class Site:
    """A web server that can be stopped and started on its port."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        self.server = await asyncio.start_server(saying(b"HTTP/1.0 200 OK\r\n\r\n", b"hello"), "127.0.0.1", self.port)

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None


def test_servers_go_and_come_back_and_the_sorry_server_stands_in() -> None:
    async def main() -> None:
        one, two = Site(), Site()
        await one.start()
        await two.start()
        wanted = service(real(1, get(one.port, Url("/"))), real(2, get(two.port, Url("/")), TcpProbe(to(two.port))), sorry=True)
        async with running(wanted) as (process, memory, told):
            assert memory.weights() == {"192.0.2.1": 1, "192.0.2.2": 1}
            await until(lambda: process.probes_started > 6, "probes")
            assert memory.weights() == {"192.0.2.1": 1, "192.0.2.2": 1}
            two.stop()
            await until(lambda: memory.weights() == {"192.0.2.1": 1}, "server two is out")
            one.stop()
            await until(lambda: memory.weights() == {"192.0.2.200": 1}, "the sorry server is in")
            await two.start()
            await until(lambda: memory.weights() == {"192.0.2.2": 1}, "server two is back")
            await one.start()
            await until(lambda: memory.weights() == {"192.0.2.1": 1, "192.0.2.2": 1}, "both are back")
            assert told.quorums == [True, False, True]
            servers = [(name, up) for kind, name, up in told.notices if kind == "RS"]
            assert servers == [("rs2", False), ("rs1", False), ("rs2", True), ("rs1", True)]
            assert len(told.mails) == 4
            assert told.repairs == []
        one.stop()
        two.stop()
        assert memory.table == {}, "our services are removed at the end"

    asyncio.run(main())


def test_what_somebody_else_changes_is_put_right_and_told() -> None:
    async def main() -> None:
        stranger = ServiceKey(4, 0, 6, "192.0.2.77", 80)
        async with running(service(real(1), real(2))) as (_process, memory, told):
            memory.table = {stranger: memory.table[WEB]}
            await until(lambda: memory.weights() == {"192.0.2.1": 1, "192.0.2.2": 1}, "the table is put right")
            assert len(told.repairs) == 1
            assert stranger in memory.table, "services of others are left alone"
        assert stranger in memory.table and WEB not in memory.table

    asyncio.run(main())


def test_a_change_on_a_table_that_was_cleared_is_not_lost() -> None:
    async def main() -> None:
        async with running(service(real(1), real(2)), reconcile_s=60) as (process, memory, told):
            memory.table = {}
            assert process.drain("vs", "rs1", True)
            assert memory.weights() == {"192.0.2.1": 0, "192.0.2.2": 1}
            assert len(told.repairs) == 1
            assert not process.drain("vs", "rs9", True) and not process.drain("none", "rs1", True)

    asyncio.run(main())


def test_a_kernel_that_refuses_is_asked_again() -> None:
    async def main() -> None:
        async with running(service(real(1), real(2))) as (process, memory, _told):
            memory.refuse = 3
            process.drain("vs", "rs1", True)
            assert process.backend_errors >= 2
            await until(lambda: memory.weights() == {"192.0.2.1": 0, "192.0.2.2": 1}, "the change is made in the end")

    asyncio.run(main())


def test_a_gated_service_follows_its_instance() -> None:
    async def main() -> None:
        gated = service(real(1), only_while_master="VI_1")
        async with running(gated, service(real(1), identity="always", port=81)) as (process, memory, _told):
            assert list(memory.table) == [dataclasses.replace(WEB, port=81)]
            process.master_changed("VI_1", True)
            assert memory.weights() == {"192.0.2.1": 1}
            process.configure([gated])
            assert list(memory.table) == [WEB], "a reload keeps the role and removes what is no longer configured"
            process.master_changed("VI_1", False)
            assert memory.table == {}

    asyncio.run(main())


def test_weights_by_misc_and_file(tmp_path: Path) -> None:
    async def main() -> None:
        weight = tmp_path / "weight"
        exit_status = tmp_path / "status"
        exit_status.write_text("12")
        script = ScriptCommand(("/bin/sh", "-c", f"exit $(cat {exit_status})"), "root")
        misc = MiscProbe(script, 5 * NS_PER_S, dynamic=True)
        wanted = service(
            real(1, misc, weight=3), real(2, FileProbe("f", str(weight), 2), weight=5), real(3, FileProbe("g", str(weight), 0))
        )
        async with running(wanted) as (process, memory, _told):
            await until(lambda: memory.weights() == {"192.0.2.1": 10, "192.0.2.2": 5, "192.0.2.3": 1}, "weight by exit status")
            weight.write_text("-1\n")
            await until(lambda: memory.weights() == {"192.0.2.1": 10, "192.0.2.2": 3}, "weight by file")
            exit_status.write_text("1")
            await until(lambda: memory.weights() == {"192.0.2.2": 3}, "exit status 1 is down")
            process.configure([wanted])
            assert memory.weights() == {"192.0.2.2": 3}, "a reload forgets nothing"
            exit_status.write_text("0")
            weight.unlink()
            await until(lambda: memory.weights() == {"192.0.2.1": 3, "192.0.2.2": 5, "192.0.2.3": 1}, "back to the configured weights")

    asyncio.run(main())


@pytest.mark.shows("virtual_server/real_server/BFD_CHECK")
def test_bfd_and_ha_suspend() -> None:
    async def main() -> None:
        site = Site()
        wanted = service(real(1, BfdProbe("peer")), real(2, TcpProbe(to(site.port))), ha_suspend=True)
        async with running(wanted) as (process, memory, _told):
            process.addresses_changed(frozenset())
            await asyncio.sleep(1.5)
            assert process.probes_started == 0 and memory.weights() == {"192.0.2.1": 1, "192.0.2.2": 1}
            process.addresses_changed(frozenset({"192.0.2.9"}))
            await until(lambda: memory.weights() == {"192.0.2.1": 1}, "the dead server is found after the address came")
            process.bfd_changed("peer", False)
            assert memory.weights() == {}
            process.configure([wanted])
            assert memory.weights() == {}
            process.bfd_changed("peer", True)
            assert memory.weights() == {"192.0.2.1": 1}

    asyncio.run(main())


def test_ha_suspend_knows_the_addresses_behind_marks() -> None:
    async def main() -> None:
        behind = MarkedRange(1000, ip_address("192.0.2.8"), ip_address("192.0.2.15"), 80)
        listen = (Listen(Family.IPV4, None, 0, 1000),)
        wanted = service(real(1), ha_suspend=True, listen=listen, marked=(behind,))
        async with running(wanted) as (process, _memory, _told):
            core = process.services["vs"]
            for present, suspended in (("192.0.2.16", True), ("192.0.2.15", False), ("2001:db8::9", True), ("192.0.2.8", False)):
                process.addresses_changed(frozenset({present}))
                assert core.suspended is suspended, present

    asyncio.run(main())


def test_a_removal_delay_ends_by_itself() -> None:
    async def main() -> None:
        site = Site()
        wanted = service(real(1, TcpProbe(to(site.port)), removal_delay_ns=NS_PER_S), real(2))
        async with running(wanted) as (_process, memory, _told):
            await until(lambda: memory.weights() == {"192.0.2.1": 0, "192.0.2.2": 1}, "drained first")
            await until(lambda: memory.weights() == {"192.0.2.2": 1}, "removed later")

    asyncio.run(main())


def test_at_the_end_the_table_stays_if_asked_to_and_omega_tells() -> None:
    async def main() -> None:
        async with running(service(real(1), omega=True)) as (process, memory, told):
            process.stop(keep_ipvs=True)
            await asyncio.sleep(0.5)
            assert memory.weights() == {"192.0.2.1": 1}
            assert told.notices[-2:] == [("RS", "rs1", False), ("VS", "", False)]
            memory.table = {}

    asyncio.run(main())


def test_keepalived_conf_to_table(tmp_path: Path) -> None:
    """The file of the classical tutorial, with the probes pointed to loopback."""

    async def main() -> None:
        site = Site()
        await site.start()
        servers = "".join(
            f"real_server 192.0.2.{n} 80 {{\nweight {n}\nHTTP_GET {{\nurl {{\npath /\nstatus_code 200\n}}\n"
            f"connect_ip 127.0.0.1\nconnect_port {site.port}\nconnect_timeout 3\n}}\n}}\n"
            for n in (1, 2)
        )
        head = "virtual_server 192.0.2.9 80 {\ndelay_loop 1\nwarmup 0\nalpha\nlb_algo rr\nlb_kind DR\nprotocol TCP\n"
        found = Diagnostics()
        wanted = virtual_servers(read(tmp_path, f"{head}sorry_server 127.0.0.1 80\n{servers}}}\n").config, found)
        assert found.errors == []
        async with running(*wanted) as (_process, memory, _told):
            assert memory.weights() == {"127.0.0.1": 1}
            await until(lambda: memory.weights() == {"192.0.2.1": 1, "192.0.2.2": 2}, "both pass their first check")
            assert memory.table[WEB].service.scheduler == "rr"
            assert {value.forwarding.method for value in memory.table[WEB].destinations.values()} == {Method.DIRECT}
            site.stop()
            await until(lambda: memory.weights() == {"127.0.0.1": 1}, "the sorry server stands in")

    asyncio.run(main())


# ---- many at once -----------------------------------------------------------------------------------------------------


def test_two_thousand_checks_keep_their_rhythm_beside_hundreds_that_hang() -> None:
    """1 700 good ones and 300 that time out only: every good one is probed again and again, none is called down."""

    async def main() -> tuple[int, float]:
        timing = Timing(retry=1, delay_before_retry_ns=NS_PER_S, delay_loop_ns=2 * NS_PER_S, warmup_ns=0)
        with socket.socket() as full, socket.socket() as one, socket.socket() as two:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for client in (one, two):
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            async with serving(hang_up) as port:
                good = [real(n % 250 + 1, TcpProbe(to(port, timeout_ms=8000)), timing=timing, id=f"good{n}") for n in range(1700)]
                bad = [
                    real(n % 250 + 1, TcpProbe(to(full.getsockname()[1], timeout_ms=3000)), timing=timing, id=f"bad{n}") for n in range(300)
                ]
                worst = 0.0
                async with running(*(service(server, identity=server.id, port=1000 + n) for n, server in enumerate(good + bad))) as (
                    process,
                    _m,
                    told,
                ):
                    started = time.monotonic()
                    while time.monotonic() - started < 9:
                        before = time.monotonic()
                        await asyncio.sleep(0.02)
                        worst = max(worst, time.monotonic() - before)
                    down = {name for kind, name, up in told.notices if kind == "RS" and not up}
                    assert down == {server.id for server in bad}
                    counts = process.probes_started
                    assert all(checker.core.has_run for checker in process.checkers.values())
                return counts, worst

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    counts, worst = asyncio.run(main())
    assert counts > 2 * 1700 + 300, f"only {counts} probes in 8 s"
    assert worst < 4, f"the loop stood still for {worst:.2f} s"


def test_ten_thousand_checks_in_flight_do_not_delay_the_others() -> None:
    """10 000 UDP checks wait for a reply that never comes; ten TCP checks go on in their rhythm, and memory stays bounded."""

    def resident_kib() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024

    async def main() -> tuple[int, int, int, int]:
        silent = Timing(retry=0, delay_loop_ns=60 * NS_PER_S, warmup_ns=0)
        async with answering(lambda data: None) as (udp_port, _server), serving(saying(b"")) as port:
            waiting = [
                real(n % 250 + 1, UdpProbe(to(udp_port, timeout_ms=60_000), b"x", (b"", b"")), timing=silent, id=f"silent{n}")
                for n in range(10_000)
            ]
            quick = [real(n + 1, TcpProbe(to(port)), id=f"quick{n}") for n in range(10)]
            wanted = [service(*waiting, identity="many"), service(*quick, identity="few", port=81)]
            before_kib = resident_kib()
            async with running(*wanted, reconcile_s=5) as (process, _memory, told):
                deadline = time.monotonic() + 60
                while process.probes_started < 10_010 and time.monotonic() < deadline:
                    await asyncio.sleep(0.05)
                in_flight = sum(checker.task is not None for checker in process.checkers.values())
                grown_kib = resident_kib() - before_kib
                before = process.probes_started
                await asyncio.sleep(3)
                lost = sum(1 for kind, name, up in told.notices if kind == "RS" and not up)
                return in_flight, process.probes_started - before, lost, grown_kib

    in_flight, quick_probes, lost, grown_kib = asyncio.run(main())
    print(f"{grown_kib / 10_000:.1f} KiB for a check in flight")
    assert in_flight >= 10_000
    assert quick_probes >= 50, "ten checks every 150 ms for 3 s are 200 probes on an idle machine"
    assert lost == 0
    assert grown_kib < 10_000 * 32, f"{grown_kib / 10_000:.1f} KiB for a check in flight, with the test's own server"


def test_a_hundred_servers_that_never_end_their_answers_starve_nobody() -> None:
    """Every kind of tarpit at once: each is called down in its time, the good ones are probed on, memory stays bounded."""

    async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(16 << 10))
            await writer.drain()
            await asyncio.sleep(0.05)

    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        timing = Timing(retry=0, delay_loop_ns=NS_PER_S, warmup_ns=0)
        heard: list[bytes] = []
        page = saying(b"HTTP/1.0 200 OK\r\n\r\nx", heard=heard)
        async with serving(never_ends) as one, serving(drips) as two, serving(silent) as three, serving(page) as good:
            bad = [real(n + 1, get((one, two, three)[n % 3], timeout_ms=2000), timing=timing, id=f"bad{n}") for n in range(99)]
            fine = [real(n + 101, get(good, timeout_ms=15_000), timing=timing, id=f"good{n}") for n in range(10)]
            tracemalloc.start()
            try:
                async with running(service(*bad, *fine)) as (_process, _memory, told):
                    await until(lambda: sum(kind == "RS" and not up for kind, _name, up in told.notices) >= len(bad), "the bad are out")
                    before = len(heard)
                    await until(lambda: len(heard) >= before + 3 * len(fine), "the good are probed on")
                    down = {name for kind, name, up in told.notices if kind == "RS" and not up}
                assert down == {server.id for server in bad}
                assert tracemalloc.get_traced_memory()[1] < 64 << 20
            finally:
                tracemalloc.stop()

    asyncio.run(main())


class Picky(Memory):
    """Refuses one service, as a kernel without its scheduler does, and takes everything else."""

    def apply(self, changes: Iterable[Change]) -> Sequence[object]:
        good = [change for change in changes if change.key.port != 81]
        refused: list[object] = [] if len(good) == len(list(changes)) else ["no such scheduler"]
        return [*super().apply(good), *refused]


def test_what_was_set_leaves_the_kernel_although_something_else_was_refused() -> None:
    """V2: after the stop the good services stayed."""

    async def main() -> None:
        memory, told = Picky(), Told()
        sink = os.open(os.devnull, os.O_WRONLY)
        process = CheckerProcess(memory, told, Log("lvs", fd=sink), draw=lambda: 0.0)
        process.configure([service(real(1)), service(real(1), identity="refused", port=81)])
        assert memory.weights() == {"192.0.2.1": 1}
        process.stop()
        assert memory.table == {}
        os.close(sink)

    asyncio.run(main())


def test_virtual_servers_on_one_kernel_service_have_the_servers_of_all() -> None:
    """V4: the last block served, and a death flipped the table back and forth."""

    async def main() -> None:
        site = Site()
        await site.start()
        both = Listen(Family.IPV4, ip_address("192.0.2.9"), 80), Listen(Family.IPV4, ip_address("192.0.2.9"), 81)
        first = service(real(1), real(2, get(site.port, Url("/"))), identity="one")
        group = dataclasses.replace(service(real(3), identity="group"), listen=both)
        async with running(first, group) as (_process, memory, told):
            assert memory.weights() == {"192.0.2.1": 1, "192.0.2.2": 1, "192.0.2.3": 1}
            assert memory.weights(ServiceKey(4, 0, 6, "192.0.2.9", 81)) == {"192.0.2.3": 1}
            site.stop()
            await until(lambda: memory.weights() == {"192.0.2.1": 1, "192.0.2.3": 1}, "the dead one is out")
            await asyncio.sleep(0.5)
            assert memory.weights() == {"192.0.2.1": 1, "192.0.2.3": 1}
            assert told.repairs == [], "nobody else is blamed"
        assert memory.table == {}

    asyncio.run(main())


def test_a_reload_that_removes_tells_whom_it_told_before() -> None:
    """V3: an address that quorum_up had added stayed."""

    async def main() -> None:
        async with running(service(real(1), real(2)), service(real(3), identity="other", port=81)) as (process, _memory, told):
            told.notices.clear()
            process.configure([service(real(1))])
            assert told.notices == [("RS", "rs3", False), ("VS", "", False), ("RS", "rs2", False)]
            told.notices.clear()
            process.configure([service(real(1))])
            assert told.notices == []

    asyncio.run(main())


def test_a_dead_server_with_alpha_says_why_and_stays_out_when_alpha_goes() -> None:
    """F6, V6: "not checked yet" for ever, nobody told; and a reload without alpha put the dead server in for a second."""

    async def main() -> None:
        site = Site()
        await site.start()
        site.stop()
        cautious = dataclasses.replace(FAST, alpha=True)
        dead, living = real(1, TcpProbe(to(site.port)), timing=cautious), real(2)
        async with running(service(dead, living)) as (process, memory, told):
            await until(lambda: ("RS", "rs1", False) in told.notices, "notify_down")
            assert "refused" in process.services["vs"].real_servers["rs1"].why
            assert told.notices.count(("RS", "rs1", False)) == 1
            seen: list[dict[str, int]] = []
            process.configure([service(real(1, TcpProbe(to(site.port))), living)])
            for _ in range(30):
                seen.append(memory.weights())
                await asyncio.sleep(0.01)
            assert all("192.0.2.1" not in weights for weights in seen)

    asyncio.run(main())
