"""vrrpd with virtual servers on this machine's kernel, which may have no IPVS: everything of the checker process but the table.

The table itself is tested in the lab's guest (guest_daemon.py).
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from base.control import ControlClient
from tests.lab import Daemon, Lab
from tests.vrrp.interop.test_process_settings import child, locked_kb
from tests.vrrp.interop.test_vrrpd_features import instance, is_in, rewrite, script
from tests.vrrp.interop.test_vrrpd_tracks import bfd_block
from tests.vrrp.interop.vrrp_conf import VIP, conf

pytestmark = pytest.mark.system

SERVER = "[10.77.0.1]:tcp:8080"
SERVICE = f"[{VIP}]:tcp:80"


def service(*lines: str, real: str = "") -> str:
    """One real server, on this node itself, that is looked at every second."""
    own = "".join(f" {line}\n" for line in lines)
    return (
        f"virtual_server {VIP} 80 {{\n delay_loop 1\n warmup 0\n lb_algo rr\n lb_kind NAT\n protocol TCP\n{own}"
        f" real_server 10.77.0.1 8080 {{\n {real}\n TCP_CHECK {{\n connect_timeout 1\n retry 0\n }}\n }}\n}}\n"
    )


def ask(daemon: Daemon, op: str, **fields: Any) -> Any:
    """One operation of the checker process; None while it does not listen."""
    try:
        with ControlClient(str(daemon.directory / "run" / "vrrpd-lvs.sock")) as client:
            return client.call(op, **fields)
    except OSError:
        return None


def shown(daemon: Daemon) -> dict[str, Any]:
    """The one virtual server."""
    answer = ask(daemon, "services")
    return dict(answer["services"][0]) if answer and answer["services"] else {"quorum": None, "in_kernel": None}


@contextmanager
def listening(lab: Lab, node: str) -> Iterator[None]:
    """The real server."""
    with lab.nodes[node].socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("10.77.0.1", 8080))
        listener.listen(50)
        yield


@pytest.mark.shows("global_defs/checker_priority", "global_defs/checker_no_swap", "global_defs/checker_cpu_affinity")
@pytest.mark.shows("global_defs/checker_rt_priority", "global_defs/checker_rlimit_rttime", "global_defs/checker_rlimit_rtime")
def test_the_checker_process_is_scheduled_as_the_file_says() -> None:
    with Lab("a", "b", "c") as lab:
        calm = lab.vrrpd("a", conf(150, global_extra="checker_priority -5\nchecker_no_swap\nchecker_cpu_affinity 0", blocks=service()))
        real_time = "checker_rt_priority 13\nchecker_rlimit_rttime 900000"
        hasty = lab.vrrpd("b", conf(100, global_extra=real_time, blocks=service()))
        old = lab.vrrpd("c", conf(90, global_extra=real_time.replace("rttime", "rtime"), blocks=service()))
        lab.until(lambda: ask(calm, "status") and ask(hasty, "status") and ask(old, "status"), 40)
        pid = child(calm, "vrrp.lvs.daemon")
        assert os.getpriority(os.PRIO_PROCESS, pid) == -5 and locked_kb(pid) > 0 and os.sched_getaffinity(pid) == {0}
        for daemon in (hasty, old):
            pid = child(daemon, "vrrp.lvs.daemon")
            assert os.sched_getparam(pid).sched_priority == 13 and locked_kb(pid) == 0
            assert resource.prlimit(pid, resource.RLIMIT_RTTIME)[0] == 900_000


@pytest.mark.shows("virtual_server/quorum_lowers_priority", "virtual_server/only_while_master", "global_defs/lvs_notify_fifo_script")
def test_tied_to_vrrp(tmp_path: Path) -> None:
    """A lost quorum hands the address over; the service is in IPVS only while MASTER; the FIFO's reader hears of both."""
    heard = tmp_path / "heard"
    reader = script(tmp_path / "reader", f'exec cat "$1" > {heard}')
    blocks = service("only_while_master V1", "quorum_lowers_priority V1 60")
    extra = f"script_user root\nlvs_notify_fifo {tmp_path}/fifo\nlvs_notify_fifo_script {reader}"
    with Lab("a", "b") as lab:
        with listening(lab, "a"):
            first = lab.vrrpd("a", conf(150, global_extra=extra, blocks=blocks))
            second = lab.vrrpd("b", conf(120, blocks=blocks))
            lab.until(lambda: is_in(first, "MASTER") and is_in(second, "BACKUP"), 40)
            lab.until(lambda: shown(first)["in_kernel"] and shown(first)["quorum"])
            lab.until(lambda: shown(second)["quorum"])
            assert shown(second)["in_kernel"] is False
        lab.until(lambda: shown(first)["quorum"] is False and instance(first)["priority"] == 90)
        rewrite(second, conf(120))  # without services b has no quorum to lose
        lab.until(lambda: is_in(second, "MASTER") and is_in(first, "BACKUP"), what="the lower priority")
        lab.until(lambda: shown(first)["in_kernel"] is False)
        down = f"RS {SERVER} {SERVICE} DOWN\nVS {SERVICE} DOWN\n"
        lab.until(lambda: heard.read_text().endswith(down), what="the FIFO")
        with listening(lab, "a"):
            lab.until(lambda: is_in(first, "MASTER"), what="the priority is back")
        assert ask(second, "status") is None, "without virtual servers there is no checker process"


@pytest.mark.shows(
    "virtual_server/ha_suspend",
    "virtual_server/omega",
    "virtual_server/quorum_down",
    "virtual_server/real_server/notify_down",
    "virtual_server/real_server/BFD_CHECK",
)
def test_bfd_ha_suspend_and_omega_in_the_whole_daemon(tmp_path: Path) -> None:
    """Real sessions of both BFD processes; the address of the service comes and goes by VRRP; the scripts run before the daemon is gone."""
    told = tmp_path / "told"

    def writes(word: str) -> str:
        return script(tmp_path / word, f"echo {word} >> {told}")

    with Lab("a", "b") as lab, listening(lab, "a"):
        a, b = (lab.nodes[name].address for name in "ab")
        scripts = f"notify_down {writes('server')}\n BFD_CHECK {{\n name path\n }}"
        blocks = bfd_block(b, a) + service("omega", "ha_suspend", f"quorum_down {writes('quorum')}", real=scripts)
        ours = lab.vrrpd("a", conf(150, global_extra="script_user root", blocks=blocks))
        lab.until(lambda: shown(ours)["quorum"] is False, 40, "the session is not up: fails closed")
        other = lab.vrrpd("b", conf(100, blocks=bfd_block(a, b)))
        lab.until(lambda: shown(ours)["quorum"], 40, "the session is up")
        other.signal_all(signal.SIGSTOP)
        lab.until(lambda: not shown(ours)["quorum"] and "BFD" in shown(ours)["real_servers"][0]["reason"])
        other.signal_all(signal.SIGCONT)
        lab.until(lambda: shown(ours)["quorum"] and not shown(ours)["suspended"])

        rewrite(other, conf(200, blocks=bfd_block(a, b)))
        lab.until(lambda: is_in(other, "MASTER") and shown(ours)["suspended"], what="the address has left")
        probes = ask(ours, "status")["probes"]
        time.sleep(1.5)
        assert ask(ours, "status")["probes"] == probes, "a probe a second, were it not suspended"
        other.stop()
        lab.until(lambda: not shown(ours)["suspended"] and ask(ours, "status")["probes"] > probes)

        assert shown(ours)["quorum"], "an orderly end of the neighbor is no failure of the path"
        before = told.read_text()
        assert ours.stop() == 0
        assert told.read_text().removeprefix(before).split() == ["server", "quorum"]


def test_a_dead_checker_process_comes_back_and_knows_the_role() -> None:
    with Lab("a") as lab, listening(lab, "a"):
        daemon = lab.vrrpd("a", conf(150, blocks=service("only_while_master V1")))
        lab.until(lambda: shown(daemon)["in_kernel"], 40)
        before = ask(daemon, "status")["pid"]
        os.kill(before, signal.SIGKILL)
        lab.until(lambda: (ask(daemon, "status") or {"pid": before})["pid"] != before, 40)
        lab.until(lambda: shown(daemon)["in_kernel"])
        assert is_in(daemon, "MASTER")


def test_a_reload_adds_and_removes_the_checker_process() -> None:
    with Lab("a") as lab:
        daemon = lab.vrrpd("a", conf(150))
        lab.until(lambda: is_in(daemon, "MASTER"), 40)
        assert ask(daemon, "status") is None
        rewrite(daemon, conf(150, blocks=service()))
        lab.until(lambda: ask(daemon, "status"), 40)
        rewrite(daemon, conf(150, blocks=service("quorum_lowers_priority NOBODY 3")))
        time.sleep(0.5)
        assert len(ask(daemon, "services")["services"]) == 1, "a file with an error changes nothing"
        rewrite(daemon, conf(150))
        lab.until(lambda: ask(daemon, "status") is None)
        assert is_in(daemon, "MASTER")


def test_the_checker_process_alone(tmp_path: Path) -> None:
    up = tmp_path / "up"
    blocks = service("quorum_up " + script(tmp_path / "quorum", f"echo up >> {up}"))
    with Lab("a") as lab, listening(lab, "a"):
        daemon = lab.vrrpd("a", conf(150, global_extra="script_user root", blocks=blocks), "-C")
        lab.until(lambda: shown(daemon)["quorum"], 40)
        lab.until(up.exists)
        assert not lab.nodes["a"].holds(VIP) and not (daemon.directory / "run" / "vrrpd.sock").exists()
        assert daemon.stop() == 0


def test_addresses_of_many_real_servers_come_in_pages() -> None:
    reals = "".join(f" real_server 10.88.{n // 250}.{n % 250 + 1} 80 {{\n weight 1\n }}\n" for n in range(450))
    blocks = "".join(
        f"virtual_server 10.77.0.{n} 80 {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n{part} }}\n"
        for n, part in ((201, reals), (202, reals.split(" }\n")[0] + " }\n"), (203, reals))
    )
    with Lab("a") as lab:
        daemon = lab.vrrpd("a", conf(150, blocks=blocks), "-C")
        lab.until(lambda: ask(daemon, "status"), 40)
        found: list[tuple[str, str]] = []
        skip: int | None = 0
        while skip is not None:
            page = ask(daemon, "services", skip=skip)
            found += [(each["id"], server["id"]) for each in page["services"] for server in each["real_servers"]]
            skip = page["next"]
        assert len(found) == len(set(found)) == 901
