"""track_bfd and track_process of vrrpd, with keepalived at the other end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from base.control import ControlClient
from tests.lab import Daemon, Lab
from tests.vrrp.interop.vrrp_conf import VIP, conf

pytestmark = pytest.mark.system
NAME = f"tp{os.getpid() % 1_000_000}"


def instance(daemon: Daemon) -> dict[str, Any]:
    try:
        with ControlClient(str(daemon.directory / "run" / "vrrpd.sock")) as client:
            return dict(client.call("status")["instances"][0])
    except (OSError, IndexError):
        return {"state": "not running", "faults": [], "priority": 0}


def bfd_block(neighbor: str, source: str, *, ms: int = 50, extra: str = "") -> str:
    return f"bfd_instance path {{\n neighbor_ip {neighbor}\n source_ip {source}\n min_rx {ms}\n min_tx {ms}\n multiplier 4\n {extra}\n}}"


class TestBfd:
    @pytest.mark.shows(
        "bfd_instance",
        "bfd_instance/neighbor_ip",
        "bfd_instance/source_ip",
        "bfd_instance/min_rx",
        "bfd_instance/min_tx",
        "bfd_instance/multiplier",
        "vrrp_instance/track_bfd",
    )
    def test_a_session_that_goes_down_is_a_fault_and_one_that_comes_back_ends_it(self) -> None:
        with Lab("a", "b") as lab:
            a, b = (lab.nodes[name].address for name in "ab")
            ours = lab.vrrpd("a", conf(150, blocks=bfd_block(b, a), instance="track_bfd {\n path\n}"))
            lab.until(lambda: instance(ours)["state"] == "FAULT", what="no neighbor yet: fails closed")
            assert "bfd path" in instance(ours)["faults"]
            other = lab.vrrpd("b", conf(100, blocks=bfd_block(a, b)))
            lab.until(lambda: lab.nodes["a"].holds(VIP) and not lab.nodes["b"].holds(VIP), what="the session is up")
            other.signal_all(signal.SIGSTOP)
            lab.until(lambda: instance(ours)["state"] == "FAULT" and not lab.nodes["a"].holds(VIP), what="the neighbor hangs")
            other.signal_all(signal.SIGCONT)
            lab.until(lambda: lab.nodes["a"].holds(VIP) and not lab.nodes["b"].holds(VIP))

    def test_weight_moves_the_address_between_ours_and_keepalived(self) -> None:
        """Ours tracks keepalived's BFD: keepalived's side is cut off for BFD alone, and the address moves."""
        with Lab("a", "b") as lab:
            a, b = (lab.nodes[name].address for name in "ab")
            ours = lab.vrrpd("a", conf(150, blocks=bfd_block(b, a), instance="track_bfd {\n path weight -60\n}"))
            argv = conf(100, blocks=bfd_block(a, b, extra="weight -1"), instance="track_bfd {\n path weight 5\n}")
            home = lab.home("b")
            (home / "conf").write_text(argv)
            pids = [f"--{kind}pid={home}/{kind}pid" for kind in ("", "vrrp_", "bfd_")]
            lab.start("b", ["keepalived", "-n", "-l", "-D", "-G", "-f", f"{home}/conf", *pids], home)
            lab.until(lambda: instance(ours)["priority"] == 150 and lab.nodes["a"].holds(VIP))
            lab.nodes["a"].nft("table inet t {\n chain i {\n type filter hook input priority 0;\n udp dport 3784 drop\n }\n}\n")
            lab.until(lambda: lab.nodes["b"].holds(VIP) and not lab.nodes["a"].holds(VIP), what="90 against 100")
            assert instance(ours)["priority"] == 90
            lab.nodes["a"].nft("delete table inet t\n")
            lab.until(lambda: lab.nodes["a"].holds(VIP) and not lab.nodes["b"].holds(VIP), what="150 again")

    def test_the_bfd_process_comes_back_and_a_reload_ends_and_starts_it(self) -> None:
        with Lab("a", "b") as lab:
            a, b = (lab.nodes[name].address for name in "ab")
            lab.vrrpd("b", conf(100, blocks=bfd_block(a, b)))
            home = lab.home("a")
            text = conf(150, blocks=bfd_block(b, a), instance="track_bfd {\n path\n}")
            ours = lab.vrrpd("a", text, "-b", f"{home}/bfd.pid", home=home)
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            pid = int((home / "bfd.pid").read_text())
            os.kill(pid, signal.SIGKILL)
            lab.until(lambda: instance(ours)["state"] == "FAULT" or not lab.nodes["a"].holds(VIP), what="nobody knows: down")
            lab.until(lambda: lab.nodes["a"].holds(VIP) and instance(ours)["state"] == "MASTER", what="it came back")
            (home / "conf").write_text(conf(150))
            ours.signal(signal.SIGHUP)
            lab.until(lambda: children_named(ours, b"vrrp.bfd.process") == 0, what="no bfd_instance, no process")
            lab.always(lambda: lab.nodes["a"].holds(VIP), 0.5)
            (home / "conf").write_text(text)
            ours.signal(signal.SIGHUP)
            lab.until(lambda: children_named(ours, b"vrrp.bfd.process") == 1)
            lab.until(lambda: lab.nodes["a"].holds(VIP) and instance(ours)["state"] == "MASTER")
            ours.stop()
            assert not lab.nodes["a"].holds(VIP)

    def test_without_bfd_process_every_session_is_down(self) -> None:
        with Lab("a") as lab:
            ours = lab.vrrpd("a", conf(150, blocks=bfd_block("10.77.0.9", "10.77.0.1"), instance="track_bfd {\n path\n}"), "-B")
            lab.until(lambda: instance(ours)["state"] == "FAULT")
            assert children_named(ours, b"vrrp.bfd.process") == 0


def children_named(daemon: Daemon, word: bytes) -> int:
    found = 0
    for pid in daemon.pids():
        try:
            found += word in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
    return found


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A copy of sleep under a name that nobody else uses."""
    path = tmp_path / NAME
    path.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    path.chmod(0o755)
    return str(path)


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def process_block(extra: str = "") -> str:
    return f"vrrp_track_process web {{\n process {NAME}\n {extra}\n}}"


class TestProcess:
    @pytest.mark.shows("vrrp_track_process", "vrrp_track_process/process", "vrrp_track_process/weight", "vrrp_instance/track_process")
    def test_weight_moves_the_address_to_keepalived_and_back(self, program: str) -> None:
        with Lab("a", "b") as lab:
            ours = lab.vrrpd("a", conf(90, blocks=process_block("weight 60"), instance="track_process {\n web\n}"))
            lab.keepalived("b", conf(100))
            lab.until(lambda: lab.nodes["b"].holds(VIP) and instance(ours)["state"] == "BACKUP")
            with started(program, "600"):
                lab.until(lambda: lab.nodes["a"].holds(VIP) and not lab.nodes["b"].holds(VIP), what="150 against 100")
                assert instance(ours)["priority"] == 150
            lab.until(lambda: lab.nodes["b"].holds(VIP) and not lab.nodes["a"].holds(VIP), what="90 against 100")

    @pytest.mark.shows("vrrp_track_process/terminate_delay")
    def test_without_weight_it_is_a_fault_and_a_short_restart_is_not(self, program: str) -> None:
        with Lab("a") as lab:
            block = process_block("weight 0\n terminate_delay 3")
            ours = lab.vrrpd("a", conf(150, blocks=block, instance="track_process {\n web\n}"))
            lab.until(lambda: instance(ours)["state"] == "FAULT")
            assert "process web" in instance(ours)["faults"]
            with started(program, "600"):
                lab.until(lambda: lab.nodes["a"].holds(VIP))
            time.sleep(0.7)
            with started(program, "600"):
                lab.always(lambda: lab.nodes["a"].holds(VIP), 4.0, "back within terminate_delay")
            lab.until(lambda: instance(ours)["state"] == "FAULT" and not lab.nodes["a"].holds(VIP))

    def test_a_reload_tracks_another_process(self, program: str) -> None:
        with Lab("a") as lab, started(program, "600"):
            text = conf(150, blocks=process_block("weight 0"), instance="track_process {\n web\n}")
            ours = lab.vrrpd("a", text)
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            (ours.directory / "conf").write_text(text.replace(f"process {NAME}", "process nobody-has-this"))
            ours.signal(signal.SIGHUP)
            lab.until(lambda: instance(ours)["state"] == "FAULT")
            (ours.directory / "conf").write_text(text)
            ours.signal(signal.SIGHUP)
            lab.until(lambda: lab.nodes["a"].holds(VIP))

    def test_in_a_network_namespace_it_sees_what_keepalived_cannot(self, program: str) -> None:
        """The kernel's process events are refused there; keepalived then counts nothing at all."""
        with Lab("a", "b") as lab, started(program, "600"):
            text = conf(100, blocks=process_block("weight 50"), instance="track_process {\n web\n}", vip="10.77.0.100/24")
            other = text.replace("virtual_router_id 51", "virtual_router_id 52").replace("10.77.0.100", "10.77.0.101")
            ours = lab.vrrpd("a", text)
            lab.keepalived("b", other)
            lab.until(lambda: lab.nodes["a"].holds(VIP) and lab.nodes["b"].holds("10.77.0.101"))
            assert instance(ours)["priority"] == 150
            capture = lab.capture()
            lab.until(lambda: capture.read() is not None and {adverts(f) for _port, f in capture.frames} >= {(51, 150), (52, 100)})


def adverts(frame: bytes) -> tuple[int, int]:
    """VRID and priority of an advert over IPv4, else (0, 0)."""
    return (frame[35], frame[36]) if frame[12:14] == b"\x08\x00" and frame[23] == 112 else (0, 0)
