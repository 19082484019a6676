"""The same file, our director and Debian's keepalived, one after the other: the kernel's table must be the same.

Runs in the lab's guest: see tests/guest.py. Servers without checkers are in the pool from the start, so the table is what the file says.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from base.diagnostics import Diagnostics
from base.log import Log
from vrrp.config.load import load_config
from vrrp.lvs.from_config import virtual_servers
from vrrp.lvs.ipvs.kernel import IpvsKernel
from vrrp.lvs.model.desired import Change
from vrrp.lvs.model.virtual_server import MailAlert, QuorumChanged, RunNotify
from vrrp.lvs.process import CheckerProcess

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq")
WEB, WEB6 = "virtual_server 10.9.0.1 80", "virtual_server fd09::1 80"
ONE, TWO = "real_server 10.9.1.1 80", "real_server 10.9.1.2 8080"
ONE6 = "real_server fd09::11 80"
PATIENCE_S = 10


def block(head: str, *lines: str) -> str:
    """A configuration block."""
    return head + " {\n  " + "\n  ".join(lines).replace("\n", "\n  ") + "\n}"


def service(
    *lines: str, head: str = WEB, protocol: str = "TCP", servers: Sequence[str] = (block(ONE, "weight 3"), block(TWO, "weight 1"))
) -> str:
    """A virtual server that says its protocol."""
    return block(head, f"protocol {protocol}", *lines, *servers)


def group(*members: str) -> str:
    """A group of addresses or marks, and a service on it."""
    return block("virtual_server_group g", *members) + "\n"


SAME = {
    "defaults": service(),
    **{f"lb_algo {name}": service(f"lb_algo {name}") for name in SCHEDULERS},
    "lvs_sched": service("lvs_sched rr"),
    **{f"lb_kind {kind}": service(f"lb_kind {kind}") for kind in ("NAT", "DR", "TUN")},
    "tun gue": service("lvs_method TUN type gue port 6080 csum"),
    "tun gue remcsum": service("lvs_method TUN type gue port 6080 remcsum"),
    "tun gre": service("lvs_method TUN type gre nocsum"),
    "tun ipip": service("lvs_method TUN type ipip"),
    "method of one server": service("lb_kind DR", servers=(block(ONE, "lvs_method NAT"), block(TWO, "lvs_method TUN"))),
    "udp": service(protocol="UDP"),
    "sctp": service(protocol="SCTP"),
    "protocol not said": block(WEB, "lb_algo rr", block(ONE, "weight 1")),
    "one packet": service("ops", protocol="UDP"),
    "persistent": service("persistence_timeout 50"),
    "persistent by default time": service("persistence_timeout"),
    "persistent by net": service("persistence_timeout 50", "persistence_granularity 255.255.255.0"),
    "persistent by engine": service("persistence_timeout 50", "persistence_engine sip", protocol="UDP"),
    "sh flags": service("lb_algo sh", "sh-port", "sh-fallback"),
    "mh flags": service("lb_algo mh", "mh-port", "mh-fallback"),
    "all flags": service("lb_algo rr", "flag-1", "flag-2", "flag-3"),
    "thresholds": service(servers=(block(ONE, "weight 1", "uthreshold 20", "lthreshold 10"),)),
    "weight 0": service(servers=(block(ONE, "weight 0"), block(TWO, "weight 1"))),
    "weight of the service": service("weight 7", servers=(block(ONE, "inhibit_on_failure"),)),
    "big weight": service(servers=(block(ONE, "weight 65535"),)),
    "sorry server not needed": service("sorry_server 10.9.1.9 80"),
    "sorry server by its own method": service("quorum 10", "sorry_server 10.9.1.9 80", "sorry_server_lvs_method DR"),
    "quorum not reached": service("quorum 10", "sorry_server 10.9.1.9 80"),
    "alpha without checkers": service("alpha"),
    "ipv6": service(head=WEB6, servers=(block(ONE6, "weight 2"),)),
    "ipv6 persistent": service("persistence_timeout 50", "persistence_granularity 64", head=WEB6, servers=(block(ONE6, "weight 2"),)),
    "ipv6 with an ipv4 tunnel": service("lb_kind TUN", head=WEB6, servers=(block(ONE6, "weight 2"), block(ONE, "weight 1"))),
    "ipv4 with an ipv6 tunnel": service("lb_kind TUN", servers=(block(ONE6, "weight 2"), block(ONE, "weight 1"))),
    "firewall mark": service(head="virtual_server fwmark 7"),
    "firewall mark ipv6": service(head="virtual_server fwmark 7", servers=(block(ONE6, "weight 2"),)),
    "firewall mark with a family": service("ip_family inet6", "lb_kind TUN", head="virtual_server fwmark 7"),
    "every port, persistent": service("persistence_timeout 50", head="virtual_server 10.9.0.1", servers=(block("real_server 10.9.1.1"),)),
    "server without a port": service(servers=(block("real_server 10.9.1.1", "weight 1"),)),
    "group": group("10.9.0.1 80", "10.9.0.2 8080") + service(head="virtual_server group g"),
    "group with a range": group("10.9.0.1-4 80") + service(head="virtual_server group g"),
    "group with a mark": group("fwmark 7", "10.9.0.2 8080") + service(head="virtual_server group g"),
    "group of ipv6": group("fd09::1 80", "fd09::5-7 443") + service(head="virtual_server group g", servers=(block(ONE6, "weight 1"),)),
    "group of marks": group("fwmark 7", "fwmark 8") + service(head="virtual_server group g"),
    "group and dr": group("10.9.0.1 80", "10.9.0.2 8080") + service("lb_kind DR", head="virtual_server group g"),
    "two services": service() + "\n" + service("lb_kind DR", head=WEB6, servers=(block(ONE6, "weight 2"),)),
}


GOOD, BAD, BAD_TOO = (f"real_server 127.0.0.{number} 9001" for number in (2, 3, 4))
CHECK = "TCP_CHECK {\n connect_timeout 2\n retry 0\n}"
QUICK = ("delay_loop 0.3", "warmup 0", "lb_algo rr")


def checked(*lines: str, heads: Sequence[str] = (GOOD, BAD), options: Sequence[str] = ()) -> str:
    """A service whose servers are probed: only 127.0.0.2 answers."""
    return service(*QUICK, *lines, servers=tuple(block(head, *options, CHECK) for head in heads))


AFTER_FAILURE = {
    "one of two fails": checked(),
    "one of two fails and is inhibited": checked(options=("weight 3", "inhibit_on_failure")),
    "all inhibited by the service": checked("inhibit_on_failure"),
    "all fail": checked(heads=(BAD, BAD_TOO)),
    "all fail, alpha": checked("alpha", heads=(BAD, BAD_TOO)),
    "all fail, sorry server": checked("sorry_server 127.0.0.9 80", heads=(BAD, BAD_TOO)),
    "all fail and are inhibited, sorry server": checked("sorry_server 127.0.0.9 80", "inhibit_on_failure", heads=(BAD, BAD_TOO)),
    "all fail, sorry server inhibits": checked("sorry_server 127.0.0.9 80", "sorry_server_inhibit", heads=(BAD, BAD_TOO)),
    "quorum lost, one lives": checked("sorry_server 127.0.0.9 80", "quorum 2"),
    "quorum lost, no sorry server": checked("quorum 2"),
    "quorum kept by weight": checked("sorry_server 127.0.0.9 80", "quorum 2", options=("weight 2",)),
    "alpha": checked("alpha"),
    "group": group("10.9.0.1 80", "10.9.0.2 81", "fwmark 7") + checked().replace(WEB, "virtual_server group g"),
}
STEADY_S = 2.5


class Silent:
    """Tells nobody."""

    def notify(self, service: str, notice: RunNotify) -> None:
        pass

    def mail(self, service: str, alert: MailAlert) -> None:
        pass

    def quorum(self, service: str, change: QuorumChanged) -> None:
        pass

    def repaired(self, changes: Sequence[Change]) -> None:
        pass


@pytest.fixture(scope="module")
def kernel() -> Iterator[IpvsKernel]:
    with IpvsKernel() as made:
        yield made


def table() -> list[str]:
    """All that ipvsadm can say, in an order of our own."""
    saved = subprocess.run(["ipvsadm", "-Sn"], capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    limits = subprocess.run(["ipvsadm", "-Ln", "--thresholds"], capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    return sorted(line.strip() for line in saved) + sorted(line.strip() for line in limits[3:])


def director(path: Path, kernel: IpvsKernel) -> CheckerProcess:
    process = CheckerProcess(kernel, Silent(), Log("lvs", fd=os.open(os.devnull, os.O_WRONLY)), draw=lambda: 0.0)
    process.configure(virtual_servers(load_config(str(path)).config, Diagnostics()))
    return process


async def steady_by_ours(path: Path, kernel: IpvsKernel) -> list[str]:
    process = director(path, kernel)
    running = asyncio.create_task(process.run())
    found, since = table(), time.monotonic()
    while time.monotonic() - since < STEADY_S:
        await asyncio.sleep(0.2)
        if (now := table()) != found:
            found, since = now, time.monotonic()
    process.stop()
    await running
    assert kernel.services() == {}
    return found


def by_ours(path: Path, kernel: IpvsKernel) -> list[str]:
    process = director(path, kernel)
    found = table()
    process.stop()
    assert kernel.services() == {}
    return found


def by_keepalived(path: Path, expected: list[str]) -> list[str]:
    """Its table; waits for ``expected``, and longer if it is not that."""
    home = path.parent
    argv = ["keepalived", "-C", "-n", "-l", "-f", path, "-p", home / "pid", "-c", home / "checkers.pid"]
    with (home / "log").open("wb") as log:
        keepalived = subprocess.Popen([str(word) for word in argv], stdout=log, stderr=log)
    try:
        end = time.monotonic() + PATIENCE_S
        while (found := table()) != expected and time.monotonic() < end:
            time.sleep(0.1)
        return found
    finally:
        keepalived.send_signal(signal.SIGTERM)
        keepalived.wait(20)


@pytest.mark.shows(
    "virtual_server_group",
    "virtual_server/lb_algo",
    "virtual_server/lvs_sched",
    "virtual_server/lb_kind",
    "virtual_server/lvs_method",
    "virtual_server/protocol",
    "virtual_server/ops",
    "virtual_server/persistence_timeout",
    "virtual_server/persistence_granularity",
    "virtual_server/persistence_engine",
    "virtual_server/sh-port",
    "virtual_server/sh-fallback",
    "virtual_server/mh-port",
    "virtual_server/mh-fallback",
    "virtual_server/flag-1",
    "virtual_server/flag-2",
    "virtual_server/flag-3",
    "virtual_server/weight",
    "virtual_server/sorry_server",
    "virtual_server/sorry_server_lvs_method",
    "virtual_server/quorum",
    "virtual_server/ip_family",
    "virtual_server/real_server",
    "virtual_server/real_server/weight",
    "virtual_server/real_server/lvs_method",
    "virtual_server/real_server/uthreshold",
    "virtual_server/real_server/lthreshold",
)
@pytest.mark.parametrize("name", SAME)
def test_the_same_table(kernel: IpvsKernel, name: str, tmp_path: Path) -> None:
    kernel.flush()
    path = tmp_path / "conf"
    path.write_text(SAME[name] + "\n")
    ours = by_ours(path, kernel)
    assert ours
    theirs = by_keepalived(path, ours)
    assert ours == theirs, f"{SAME[name]}\n{(tmp_path / 'log').read_text()}"


@pytest.fixture(scope="module")
def good_server() -> Iterator[None]:
    """127.0.0.2 port 9001 accepts connections."""
    with socket.create_server(("127.0.0.2", 9001), backlog=100):
        yield


@pytest.mark.usefixtures("good_server")
@pytest.mark.parametrize("name", AFTER_FAILURE)
@pytest.mark.shows(
    "virtual_server/sorry_server",
    "virtual_server/sorry_server_inhibit",
    "virtual_server/inhibit_on_failure",
    "virtual_server/alpha",
    "virtual_server/quorum",
    "virtual_server/real_server/TCP_CHECK",
    "virtual_server/real_server/inhibit_on_failure",
)
def test_the_same_table_after_failures(kernel: IpvsKernel, name: str, tmp_path: Path) -> None:
    kernel.flush()
    path = tmp_path / "conf"
    path.write_text(AFTER_FAILURE[name] + "\n")
    ours = asyncio.run(steady_by_ours(path, kernel))
    theirs = by_keepalived(path, ours)
    assert ours == theirs, f"{AFTER_FAILURE[name]}\n{(tmp_path / 'log').read_text()}"
