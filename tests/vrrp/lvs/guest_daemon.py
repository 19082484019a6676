"""vrrpd as a director: the whole daemon in dir1's namespace, with its checker process, control socket and the kernel's IPVS.

Runs in the lab's guest: see tests/guest.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from base.control import ControlClient, RequestError
from tests.lab import ROOT, Daemon
from tests.vrrp.interop.test_links_and_buffers import buffers
from tests.vrrp.lvs.director_lab import VIP, DirectorLab, director_lab, eventually


@pytest.fixture(scope="module")
def lab() -> Iterator[DirectorLab]:
    with director_lab() as made:
        yield made


class Vrrpd:
    """vrrpd in dir1; ``rewrite`` reloads it."""

    def __init__(self, lab: DirectorLab, directory: Path, text: str, *options: str) -> None:
        self.node = lab.nodes["dir1"]
        self.directory = directory
        self.run_dir = directory / "run"
        (directory / "conf").write_text(text)
        self.log = directory / "log"
        argv = ["ip", "netns", "exec", self.node.namespace, sys.executable, "-m", "vrrp.daemon", "-n", "-l", "-f", str(directory / "conf")]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*argv, "--run-dir", str(self.run_dir), "-c", str(directory / "checkers.pid"), *options],
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def rewrite(self, text: str) -> None:
        (self.directory / "conf").write_text(text)
        self.process.send_signal(signal.SIGHUP)

    def ask(self, op: str, **fields: Any) -> Any:
        """One operation of the checker process; None while it does not listen."""
        try:
            with ControlClient(str(self.run_dir / "vrrpd-lvs.sock")) as client:
                return client.call(op, **fields)
        except OSError:
            return None

    def checker_pid(self) -> int:
        return int((self.directory / "checkers.pid").read_text())

    def table(self) -> list[str]:
        return sorted(line.strip() for line in self.node.run("ipvsadm", "-Sn").splitlines())

    def weights(self) -> dict[str, int]:
        lines = [line.split() for line in self.table() if line.startswith("-a")]
        return {words[words.index("-r") + 1].split(":")[0]: int(words[words.index("-w") + 1]) for words in lines}

    def pids(self) -> list[int]:
        return Daemon(self.process, self.directory, self.log).pids()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)


def brainctl(daemon: Vrrpd) -> dict[str, Any]:
    """``brainctl lvs --json``."""
    argv = [sys.executable, "-m", "brainctl.command", "lvs", "--run-dir", str(daemon.run_dir)]
    done = subprocess.run([*argv, "--json"], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["exit"] == done.returncode
    return found


def service(lab: DirectorLab, *lines: str, head: str = "", web1: str = "", weight2: int = 1) -> str:
    check = "TCP_CHECK {\n connect_timeout 3\n retry 0\n }\n"
    address = {name: lab.nodes[name].address for name in ("web1", "web2")}
    return (
        f"{head}\nvirtual_server {VIP} 80 {{\n delay_loop 1\n warmup 0\n lb_algo rr\n lb_kind NAT\n protocol TCP\n"
        + "".join(f" {line}\n" for line in lines)
        + f" real_server {address['web1']} 80 {{\n {check} {web1} }}\n"
        + f" real_server {address['web2']} 80 {{\n weight {weight2}\n {check} }}\n}}\n"
    )


@pytest.fixture
def started(lab: DirectorLab, tmp_path: Path) -> Iterator[list[Vrrpd]]:
    """Daemons that a test started; ended after it."""
    daemons: list[Vrrpd] = []
    yield daemons
    for daemon in daemons:
        daemon.stop()
        if os.environ.get("SHOW_LOG"):
            print(daemon.log.read_text())
    for server in lab.servers.values():
        server.stop()
        server.start()


def names(lab: DirectorLab) -> tuple[str, str]:
    return lab.nodes["web1"].address, lab.nodes["web2"].address


@pytest.mark.shows(
    "virtual_server",
    "global_defs/lvs_timeouts",
    "global_defs/lvs_notify_fifo",
    "virtual_server/real_server/notify_up",
    "virtual_server/real_server/notify_down",
)
def test_from_start_to_stop(lab: DirectorLab, started: list[Vrrpd], tmp_path: Path) -> None:
    web1, web2 = names(lab)
    up, down, fifo = tmp_path / "up", tmp_path / "down", tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    for path in (up, down):
        path.with_suffix(".sh").write_text(f"#!/bin/sh\necho x >> {path}\n")
        path.with_suffix(".sh").chmod(0o755)
    head = f"global_defs {{\n script_user root\n lvs_notify_fifo {fifo}\n lvs_timeouts tcp 555\n}}"
    scripts = f"notify_up {up}.sh\n notify_down {down}.sh\n"
    text = service(lab, head=head, web1=scripts)
    daemon = Vrrpd(lab, tmp_path, text)
    started.append(daemon)
    eventually(lambda: daemon.weights() == {web1: 1, web2: 1}, 40)
    assert "555" in daemon.node.run("ipvsadm", "-L", "--timeout")

    lab.servers["web1"].stop()
    eventually(lambda: daemon.weights() == {web2: 1})
    eventually(down.exists)
    assert os.read(reader, 4096) == f"VS [{VIP}]:tcp:80 UP\nRS [{web1}]:tcp:80 [{VIP}]:tcp:80 DOWN\n".encode()

    # A reload that changes a weight keeps what the checkers know.
    daemon.rewrite(service(lab, head=head, web1=scripts, weight2=5))
    eventually(lambda: daemon.weights() == {web2: 5})
    lab.servers["web1"].start()
    eventually(lambda: daemon.weights() == {web1: 1, web2: 5})
    eventually(up.exists)
    os.close(reader)

    # Somebody else's doing is put right and kept in mind.
    daemon.node.run("ipvsadm", "-C")
    eventually(lambda: daemon.weights() == {web1: 1, web2: 5}, 25)
    status = eventually(lambda: daemon.ask("status"))
    assert (status["repairs"], status["services"], status["real_servers"]) == (1, 1, 2)
    assert any("IPVS" in problem for problem in brainctl(daemon)["problems"])
    assert any(event["event"] == "repaired" and event["count"] == 3 for event in status["events"])

    # A dead checker process comes back and leaves the table alone meanwhile.
    old = daemon.checker_pid()
    os.kill(status["pid"], signal.SIGKILL)
    eventually(lambda: (daemon.ask("status") or {"pid": status["pid"]})["pid"] != status["pid"], 40)
    assert daemon.weights() == {web1: 1, web2: 5}
    assert old == status["pid"]

    assert daemon.stop() == 0
    assert daemon.table() == []


def test_an_operator_drains(lab: DirectorLab, started: list[Vrrpd], tmp_path: Path) -> None:
    web1, web2 = names(lab)
    daemon = Vrrpd(lab, tmp_path, service(lab))
    started.append(daemon)
    eventually(lambda: daemon.weights() == {web1: 1, web2: 1}, 40)
    which = {"service": f"[{VIP}]:tcp:80", "server": f"[{web1}]:tcp:80"}
    daemon.ask("drain", **which, note="new disk")
    assert daemon.weights() == {web1: 0, web2: 1}
    with pytest.raises(RequestError):
        daemon.ask("drain", service="nothing", server="x")
    daemon.rewrite(service(lab, weight2=3))
    eventually(lambda: daemon.weights() == {web1: 0, web2: 3})
    assert daemon.stop() == 0
    again = Vrrpd(lab, tmp_path, service(lab))
    started.append(again)
    eventually(lambda: again.weights() == {web1: 0, web2: 1}, 40)
    (shown,) = again.ask("services")["services"]
    first = shown["real_servers"][0]
    assert brainctl(again)["exit"] == 1
    assert (first["drained"], first["note"], first["weight"]) == (True, "new disk", 0)
    again.ask("undrain", **which)
    assert again.weights() == {web1: 1, web2: 1}
    lab.answer("dir1")
    assert lab.ask_often(4) == {"web1": 2, "web2": 2}
    eventually(lambda: brainctl(again)["services"][0]["counters"]["connections"] == 4)
    (shown,) = brainctl(again)["services"]
    assert brainctl(again)["exit"] == 0
    assert [server["counters"]["connections"] for server in shown["real_servers"]] == [2, 2]
    assert [checker["up"] for server in shown["real_servers"] for checker in server["checkers"]] == [True, True]
    for server in lab.servers.values():
        server.stop()
    eventually(lambda: brainctl(again)["exit"] == 2)


@pytest.mark.shows("global_defs/lvs_flush", "global_defs/lvs_flush_on_stop")
def test_what_stays_in_the_kernel(lab: DirectorLab, started: list[Vrrpd], tmp_path: Path) -> None:
    web1, web2 = names(lab)
    keeping = Vrrpd(lab, tmp_path, service(lab), "-I", "-C")
    started.append(keeping)
    eventually(lambda: keeping.weights() == {web1: 1, web2: 1}, 40)
    keeping.stop()
    assert keeping.weights() == {web1: 1, web2: 1}
    keeping.node.run("ipvsadm", "-A", "-t", "10.99.0.77:99")
    taking = Vrrpd(lab, tmp_path, service(lab))
    started.append(taking)
    eventually(lambda: taking.ask("status"), 40)
    taking.stop()
    assert taking.table() == ["-A -t 10.99.0.77:99 -s wlc"]
    flushing = Vrrpd(lab, tmp_path, service(lab, head="global_defs {\n lvs_flush\n}"))
    started.append(flushing)
    eventually(lambda: flushing.weights() == {web1: 1, web2: 1}, 40)
    assert "10.99.0.77" not in "".join(flushing.table())
    flushing.node.run("ipvsadm", "-A", "-t", "10.99.0.77:99")
    flushing.rewrite(service(lab, head="global_defs {\n lvs_flush_on_stop\n}"))
    time.sleep(1)
    flushing.stop()
    assert flushing.table() == []


@pytest.mark.shows("global_defs/lvs_sync_daemon", "virtual_server/only_while_master")
def test_services_and_sync_daemon_follow_the_vrrp_instance(lab: DirectorLab, started: list[Vrrpd], tmp_path: Path) -> None:
    web1, web2 = names(lab)
    instance = (
        "vrrp_instance V1 {{\n interface eth0\n virtual_router_id 61\n advert_int 0.3\n priority 100\n version 3\n {}\n"
        " virtual_ipaddress {{\n 10.77.0.99/24\n }}\n}}\n"
    )
    head = "global_defs {\n lvs_sync_daemon eth0 V1\n}\n"
    gate = tmp_path / "gate"
    gate.write_text("0\n")
    track = f"track_file shut {{\n file {gate}\n weight 0\n}}\n" + instance.format("track_file {\n shut\n}")
    daemon = Vrrpd(lab, tmp_path, service(lab, "@vrrpd only_while_master V1", head=head + track))
    started.append(daemon)
    both = {web1: 1, web2: 1}
    eventually(lambda: daemon.weights() == both, 40)
    eventually(lambda: "master sync daemon" in daemon.node.run("ipvsadm", "-L", "--daemon"))
    assert "syncid=61" in daemon.node.run("ipvsadm", "-L", "--daemon")
    daemon.node.run("ipvsadm", "--stop-daemon", "master")
    eventually(lambda: "master sync daemon" in daemon.node.run("ipvsadm", "-L", "--daemon"))
    gate.write_text("1\n")
    eventually(lambda: daemon.table() == [])
    eventually(lambda: "backup sync daemon" in daemon.node.run("ipvsadm", "-L", "--daemon"))
    gate.write_text("0\n")
    eventually(lambda: daemon.weights() == both)
    assert daemon.stop() == 0
    assert daemon.node.run("ipvsadm", "-L", "--daemon").strip() == "" and daemon.table() == []


@pytest.mark.shows("net_namespace_ipvs", "global_defs/lvs_netlink_cmd_rcv_bufs", "global_defs/lvs_netlink_cmd_rcv_bufs_force")
@pytest.mark.shows("global_defs/lvs_netlink_monitor_rcv_bufs", "global_defs/lvs_netlink_monitor_rcv_bufs_force")
@pytest.mark.parametrize("named", [True, False], ids=["by its name", "the first one"])
def test_the_table_of_another_namespace(lab: DirectorLab, started: list[Vrrpd], tmp_path: Path, named: bool) -> None:
    """The servers are probed from our own namespace, which alone reaches them. keepalived does the same (tried, both forms)."""
    most = int(Path("/proc/sys/net/core/rmem_max").read_text())
    small, large = 50_000, 3 * most
    bold, modest = ("cmd", "monitor") if named else ("monitor", "cmd")
    lines = f" lvs_netlink_{bold}_rcv_bufs {large}\n lvs_netlink_{bold}_rcv_bufs_force\n lvs_netlink_{modest}_rcv_bufs {small}\n"
    head = f"net_namespace_ipvs {lab.nodes['dir2'].namespace if named else ''}\nglobal_defs {{\n{lines}}}"
    daemon = Vrrpd(lab, tmp_path, service(lab, "ha_suspend", head=head))
    started.append(daemon)

    def table() -> str:
        argv = ["ip", "netns", "exec", lab.nodes["dir2"].namespace, "ipvsadm", "-Sn"] if named else ["ipvsadm", "-Sn"]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout

    web1, web2 = names(lab)
    eventually(lambda: web1 in table() and web2 in table(), 40)
    assert daemon.table() == []
    sizes = {kind: buffers(daemon.pids(), socket.AF_NETLINK, number) for kind, number in (("monitor", 0), ("cmd", 16))}
    assert 2 * large in sizes[bold] and 2 * small in sizes[modest]
    lab.servers["web1"].stop()
    eventually(lambda: web1 not in table())
    assert daemon.stop() == 0
    assert table() == ""


def test_groups_are_one_service_by_mark(lab: DirectorLab, started: list[Vrrpd], tmp_path: Path) -> None:
    """Debian's kernel has no nftables here but for bridges: then the operator is told. With our own the clients are served."""
    web1, web2 = names(lab)
    head = (
        f"global_defs {{\n nftables_ipvs\n nftables_ipvs_start_fwmark 500\n}}\nvirtual_server_group g {{\n {VIP} 80\n 10.98.0.0/16 80\n}}"
    )
    daemon = Vrrpd(lab, tmp_path, service(lab, head=head).replace(f"virtual_server {VIP} 80", "virtual_server group g"))
    started.append(daemon)
    eventually(lambda: daemon.weights() == {web1: 1, web2: 1}, 40)
    assert daemon.table()[0] == "-A -f 500 -s rr" and len(daemon.table()) == 3
    problem = eventually(lambda: daemon.ask("status"))["kernel_problem"]
    probe = ["ip", "netns", "exec", lab.nodes["dir2"].namespace, "nft", "add table ip probe"]
    if subprocess.run(probe, check=False, capture_output=True, timeout=20).returncode:
        assert "nft" in problem and brainctl(daemon)["exit"] == 2
        return
    assert problem == ""
    lab.answer("dir1")
    assert lab.ask_often(4) == {"web1": 2, "web2": 2}
    daemon.node.run("nft", "flush", "ruleset")
    assert lab.ask(timeout_s=1) == ""
    eventually(lambda: lab.ask(timeout_s=2))
    assert daemon.stop() == 0
    assert daemon.node.run("nft", "list", "ruleset") == "" and daemon.table() == []


def test_only_vrrp_touches_no_ipvs(lab: DirectorLab, started: list[Vrrpd], tmp_path: Path) -> None:
    daemon = Vrrpd(lab, tmp_path, service(lab), "-P")
    started.append(daemon)
    eventually((daemon.run_dir / "vrrpd.sock").exists, 40)
    time.sleep(1)
    assert daemon.table() == [] and not (daemon.run_dir / "vrrpd-lvs.sock").exists()
    assert daemon.stop() == 0
