"""A director from its configuration file to its clients: checks, pool, IPVS and traffic. Runs in the lab's guest: see tests/guest.py."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from base.diagnostics import Diagnostics
from base.log import Log
from tests.lab import inside
from tests.vrrp.lvs.director_lab import VIP, VIP6, DirectorLab, WebServer, director_lab, eventually
from vrrp.config.load import load_config
from vrrp.lvs.from_config import virtual_servers
from vrrp.lvs.ipvs.kernel import IpvsKernel
from vrrp.lvs.model.desired import Change
from vrrp.lvs.model.virtual_server import MailAlert, QuorumChanged, RunNotify
from vrrp.lvs.process import CheckerProcess

FLAGS = {"NAT": "-m", "DR": "-g", "TUN": "-i"}


@pytest.fixture(scope="module")
def lab() -> Iterator[DirectorLab]:
    with director_lab() as made:
        yield made


def configuration(lab: DirectorLab, method: str, family: int) -> str:
    """web1 and web2, and dir2 as sorry server."""
    address = {name: lab.nodes[name].address if family == 4 else lab.nodes[name].address6 for name in ("web1", "web2", "dir2")}
    check = "TCP_CHECK {\n connect_timeout 3\n retry 1\n delay_before_retry 0.1\n }\n"
    servers = "".join(f"real_server {address[name]} 80 {{\n {check} }}\n" for name in ("web1", "web2"))
    return (
        f"virtual_server {VIP if family == 4 else VIP6} 80 {{\n delay_loop 0.3\n warmup 0\n lb_algo rr\n lb_kind {method}\n protocol TCP\n"
        f" sorry_server {address['dir2']} 80\n {servers} }}\n"
    )


class Told:
    """What the director tells others."""

    def __init__(self) -> None:
        self.repairs: list[Sequence[Change]] = []

    def notify(self, service: str, notice: RunNotify) -> None:
        pass

    def mail(self, service: str, alert: MailAlert) -> None:
        pass

    def quorum(self, service: str, change: QuorumChanged) -> None:
        pass

    def repaired(self, changes: Sequence[Change]) -> None:
        self.repairs.append(changes)


class Director:
    """The checker process in a thread that lives in dir1's namespace."""

    def __init__(self, lab: DirectorLab, path: Path) -> None:
        findings = Diagnostics()
        self.settings = virtual_servers(load_config(str(path)).config, findings)
        assert list(findings) == []
        self.told = Told()
        self._namespace = lab.nodes["dir1"].namespace
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    def _run(self) -> None:
        with inside(self._namespace), IpvsKernel() as kernel:
            asyncio.run(self._serve(kernel))

    async def _serve(self, kernel: IpvsKernel) -> None:
        self._loop = asyncio.get_running_loop()
        log = Log("lvs", fd=os.open(os.devnull, os.O_WRONLY))
        self._process = CheckerProcess(kernel, self.told, log, draw=lambda: 0.0, reconcile_s=0.5)
        self._process.configure(self.settings)
        self._ready.set()
        await self._process.run()

    def stop(self) -> None:
        """Orderly."""
        self._loop.call_soon_threadsafe(self._process.stop)
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.mark.parametrize(("method", "family"), [("NAT", 4), ("DR", 4), ("TUN", 4), ("NAT", 6), ("DR", 6)])
def test_the_tutorials_cluster(lab: DirectorLab, method: str, family: int, tmp_path: Path) -> None:
    address = VIP if family == 4 else VIP6
    lab.answer("dir1" if method == "NAT" else "")
    sorry = WebServer(lab.nodes["dir2"])
    (tmp_path / "conf").write_text(configuration(lab, method, family))
    director = Director(lab, tmp_path / "conf")

    def table() -> list[str]:
        return sorted(line.strip() for line in lab.nodes["dir1"].run("ipvsadm", "-Sn").splitlines())

    def targets() -> list[str]:
        return [line.split(" -r ")[1].split()[0] for line in table() if line.startswith("-a")]

    def target(name: str) -> str:
        return f"{lab.nodes[name].address}:80" if family == 4 else f"[{lab.nodes[name].address6}]:80"

    both, rest, no_one = [target("web1"), target("web2")], [target("web2")], [target("dir2")]
    try:
        eventually(lambda: targets() == both)
        healthy = table()
        assert all(FLAGS[method] in line.split() for line in healthy if line.startswith("-a"))
        assert set(lab.ask_often(8, address)) == {"web1", "web2"}

        lab.servers["web1"].stop()
        eventually(lambda: targets() == rest)
        assert lab.ask_often(10, address) == {"web2": 10}

        lab.servers["web2"].stop()
        eventually(lambda: targets() == no_one)
        assert lab.ask_often(4, address) == {"dir2": 4}

        lab.servers["web1"].start()
        lab.servers["web2"].start()
        eventually(lambda: table() == healthy)
        assert set(lab.ask_often(8, address)) == {"web1", "web2"}
        assert director.told.repairs == []

        lab.nodes["dir1"].run("ipvsadm", "-C")
        eventually(lambda: table() == healthy)
        assert len(eventually(lambda: director.told.repairs)) == 1
    finally:
        for server in lab.servers.values():
            server.stop()
            server.start()
        sorry.stop()
        director.stop()
    assert table() == []
