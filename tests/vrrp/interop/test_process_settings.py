"""Scheduling of the child processes as the file wants it, read off the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab import Daemon, Lab
from tests.vrrp.interop.test_vrrpd_features import is_in
from tests.vrrp.interop.vrrp_conf import conf

pytestmark = pytest.mark.system


def child(daemon: Daemon, module: str) -> int:
    for pid in daemon.pids():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if module.encode() in words:
            return pid
    raise AssertionError(f"no {module}")


def locked_kb(pid: int) -> int:
    return next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmLck"))


@pytest.mark.shows("global_defs/vrrp_priority", "global_defs/vrrp_no_swap", "global_defs/vrrp_cpu_affinity", "global_defs/bfd_rt_priority")
@pytest.mark.shows("global_defs/bfd_priority", "global_defs/bfd_no_swap", "global_defs/bfd_cpu_affinity", "global_defs/vrrp_rt_priority")
def test_children_are_scheduled_as_the_file_says() -> None:
    bfd = "bfd_instance peer {\n neighbor_ip 10.77.0.2\n source_ip 10.77.0.1\n}"
    modules = {"vrrp": "vrrp.process", "bfd": "vrrp.bfd.process"}
    with Lab("a", "b") as lab:
        nice = "vrrp_priority -7\nvrrp_no_swap\nvrrp_cpu_affinity 0\nbfd_priority -9\nbfd_no_swap\nbfd_cpu_affinity 0"
        real_time = "vrrp_rt_priority 11\nbfd_rt_priority 12"
        first = lab.vrrpd("a", conf(150, global_extra=nice, blocks=bfd))
        second = lab.vrrpd("b", conf(100, global_extra=real_time, blocks=bfd.replace("0.2", "0.9").replace("0.1\n", "0.2\n")))
        lab.until(lambda: is_in(first, "MASTER") and is_in(second, "BACKUP"))
        for word, value in (("vrrp", -7), ("bfd", -9)):
            pid = child(first, modules[word])
            lab.until(lambda pid=pid, value=value: os.getpriority(os.PRIO_PROCESS, pid) == value, what=f"nice of {word}")  # type: ignore[misc]
            assert locked_kb(pid) > 0
            assert os.sched_getaffinity(pid) == {0}
        for word, value in (("vrrp", 11), ("bfd", 12)):
            pid = child(second, modules[word])
            lab.until(lambda pid=pid: os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR, what=f"policy of {word}")  # type: ignore[misc]
            assert os.sched_getparam(pid).sched_priority == value
            assert locked_kb(pid) == 0
