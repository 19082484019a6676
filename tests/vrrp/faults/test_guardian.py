"""kill -9 of every process of vrrpd: the guardian removes the addresses; after a clean end it does nothing and is gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.lab import Daemon, Lab, ip
from tests.vrrp.interop.vrrp_conf import VIP, conf

pytestmark = pytest.mark.system


def guardians(lab: Lab, node: str) -> list[int]:
    """Guardians in this node's namespace."""
    found = []
    for pid in map(int, ip("netns", "pids", lab.nodes[node].namespace).split()):
        try:
            if b"vrrp.guardian" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def owner(lab: Lab) -> Daemon:
    daemon = lab.vrrpd("a", conf(150))
    lab.until(lambda: lab.nodes["a"].holds(VIP))
    return daemon


def test_nothing_stays_behind_when_everything_is_killed() -> None:
    with Lab("a") as lab:
        daemon = owner(lab)
        (guardian,) = guardians(lab, "a")
        assert guardian not in daemon.pids(), "it is nobody's child"
        daemon.kill()
        assert lab.until(lambda: not lab.nodes["a"].holds(VIP)) < 3
        lab.until(lambda: not guardians(lab, "a"), what="the guardian ends when its work is done")


def test_a_vrrp_process_that_hangs_when_its_parent_dies_is_ended() -> None:
    with Lab("a") as lab:
        daemon = owner(lab)
        parent, *others = daemon.pids()
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        os.kill(parent, signal.SIGKILL)
        assert lab.until(lambda: not lab.nodes["a"].holds(VIP)) < 3.5


def test_a_clean_end_leaves_no_guardian_and_a_foreign_address_alone() -> None:
    with Lab("a") as lab:
        daemon = owner(lab)
        assert daemon.stop() == 0
        lab.until(lambda: not guardians(lab, "a"))
        ip("-n", lab.nodes["a"].namespace, "addr", "add", f"{VIP}/24", "dev", "eth0")
        lab.always(lambda: lab.nodes["a"].holds(VIP), 0.5)


def test_a_killed_child_does_not_wake_the_guardian() -> None:
    with Lab("a") as lab:
        daemon = owner(lab)
        before = guardians(lab, "a")
        os.kill(daemon.pids()[1], signal.SIGKILL)
        lab.until(lambda: not lab.nodes["a"].holds(VIP))
        lab.until(lambda: lab.nodes["a"].holds(VIP), what="the new process is MASTER again")
        assert guardians(lab, "a") == before
        daemon.kill()
        assert lab.until(lambda: not lab.nodes["a"].holds(VIP)) < 3, "it knows the new process"
