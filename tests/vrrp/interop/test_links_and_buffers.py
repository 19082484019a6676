"""Links that flap, appear late, or share a budget of announcements; buffers, unknown VRIDs, priority; keepalived in the same place."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import time
from collections.abc import Sequence

import pytest

from tests.lab import Daemon, Lab, ip
from tests.vrrp.interop.vrrp_conf import VIP, conf
from tests.vrrp.interop.vrrpd_status import instance, is_in, reload, status

pytestmark = pytest.mark.system

_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_GETFD = 438

EVERY_WAY = pytest.mark.parametrize("ours", [True, False], ids=["vrrpd", "keepalived"])


def start(lab: Lab, node: str, text: str, *, ours: bool) -> Daemon:
    return (lab.vrrpd if ours else lab.keepalived)(node, text)


@pytest.mark.shows("interface_up_down_delays")
@EVERY_WAY
def test_a_link_that_flaps(ours: bool) -> None:
    """A short loss of the carrier moves nothing; a long one does, after the delay; and back after the other delay."""
    with Lab("a") as lab:
        node = lab.nodes["a"]
        start(lab, "a", conf(150, interval="1", blocks="interface_up_down_delays {\neth0 1.5 1\n}"), ours=ours)
        lab.until(lambda: node.holds(VIP))
        lab.cut("a")
        lab.always(lambda: node.holds(VIP), 0.7, "held during a short loss")
        lab.heal("a")
        lab.always(lambda: node.holds(VIP), 1.5, "and after it")
        lab.cut("a")
        lost = lab.until(lambda: not node.holds(VIP))
        assert 1.2 < lost < 5
        lab.heal("a")
        lab.always(lambda: not node.holds(VIP), 0.7)
        lab.until(lambda: node.holds(VIP))


@pytest.mark.shows("linkbeat_interfaces", "linkbeat_use_polling", "vrrp_instance/linkbeat_use_polling")
@pytest.mark.parametrize(
    ("blocks", "line"),
    [
        ("linkbeat_interfaces {\neth0\n}", ""),
        ("linkbeat_interfaces {\neth0 ETHTOOL\n}", ""),
        ("linkbeat_interfaces {\neth0 IOCTL\n}", ""),
        ("linkbeat_use_polling", ""),
        ("", "linkbeat_use_polling"),
    ],
)
def test_a_polled_link(blocks: str, line: str) -> None:
    """The driver is asked: in the status each polled link has its answer, and a lost carrier is a FAULT as without polling."""
    with Lab("a") as lab:
        ours = lab.vrrpd("a", conf(150, blocks=blocks, instance_extra=line))
        lab.until(lambda: is_in(ours, "MASTER") and status(ours)["polled_links"] == {"eth0": True})
        lab.cut("a")
        lab.until(lambda: is_in(ours, "FAULT") and status(ours)["polled_links"] == {"eth0": False})
        lab.heal("a")
        lab.until(lambda: is_in(ours, "MASTER") and status(ours)["polled_links"] == {"eth0": True})


@pytest.mark.shows("global_defs/dynamic_interfaces")
@EVERY_WAY
def test_an_interface_that_comes_later_goes_and_is_renamed(ours: bool) -> None:
    with Lab("a") as lab:
        node = lab.nodes["a"]
        text = conf(150, global_extra="dynamic_interfaces").replace("interface eth0", "interface late0")
        start(lab, "a", text, ours=ours)
        time.sleep(1)

        def plug(name: str) -> None:
            ip("-n", node.namespace, "link", "add", name, "type", "veth", "peer", "name", f"x{name}")
            ip("-n", node.namespace, "link", "set", f"x{name}", "up")
            ip("-n", node.namespace, "link", "set", name, "up")
            ip("-n", node.namespace, "addr", "add", "10.78.0.1/24", "dev", name)

        plug("late0")
        lab.until(lambda: node.holds(VIP, "late0"), what="the interface came")
        ip("-n", node.namespace, "link", "del", "late0")
        time.sleep(0.5)
        plug("late0")
        lab.until(lambda: node.holds(VIP, "late0"), what="it came again")
        if ours:  # keepalived 2.2.7 does not follow names
            ip("-n", node.namespace, "link", "set", "late0", "down")
            ip("-n", node.namespace, "link", "set", "late0", "name", "other0")
            ip("-n", node.namespace, "link", "set", "xlate0", "name", "xother0")
            plug("late0")
            lab.until(lambda: node.holds(VIP, "late0"), what="another one has the name now")


def announced(frames: list[tuple[str, bytes]]) -> int:
    return sum(1 for _, f in frames if f[12:14] == b"\x08\x06" and f[28:32] == f[38:42])


@pytest.mark.shows("garp_group", "garp_group/garp_interval", "garp_group/interface", "garp_group/interfaces")
@pytest.mark.parametrize("line", ["interface eth0", "interfaces {\neth0\nlo\n}"])
@EVERY_WAY
def test_a_budget_of_announcements(ours: bool, line: str) -> None:
    vips = "\n".join(f"10.77.0.{n}/24" for n in range(100, 110))
    with Lab("a") as lab:
        capture = lab.capture()
        start(lab, "a", conf(150, vip=vips, blocks=f"garp_group {{\ngarp_interval 0.1\n{line}\n}}"), ours=ours)
        lab.until(lambda: lab.nodes["a"].holds("10.77.0.109"))
        capture.read()
        del capture.frames[:]
        time.sleep(2)
        capture.read()
        assert 10 <= announced(capture.frames) <= 22, "10 a second instead of 50 at once"


@pytest.mark.shows("garp_group/gna_interval")
@EVERY_WAY
def test_a_budget_of_neighbour_advertisements(ours: bool) -> None:
    with Lab("a") as lab:
        capture = lab.capture()
        start(lab, "a", conf(150, ipv6=True, blocks="garp_group {\ngna_interval 0.2\ninterface eth0\n}"), ours=ours)
        lab.until(lambda: lab.nodes["a"].holds("fd77::100"))
        time.sleep(1)
        capture.read()
        sent = sum(
            1
            for _, f in capture.frames
            if f[12:14] == b"\x86\xdd" and f[20] == 58 and f[54] == 136 and f[62:78].hex().startswith(("fd77", "fe80"))
        )
        lab.until(lambda: capture.read() is not None, 1)
        assert 1 <= sent <= 9, "5 a second instead of 10 at once"


def test_a_garp_group_shares_its_pause_between_interfaces() -> None:
    with Lab("a") as lab:
        node = lab.nodes["a"]
        ip("-n", node.namespace, "link", "add", "eth1", "type", "veth", "peer", "name", "xeth1")
        ip("-n", node.namespace, "link", "set", "xeth1", "up")
        ip("-n", node.namespace, "link", "set", "eth1", "up")
        vips = "\n".join([*(f"10.77.0.{n}/24" for n in range(100, 105)), *(f"10.79.0.{n}/24 dev eth1" for n in range(100, 105))])
        capture = lab.capture()
        text = conf(150, vip=vips, blocks="garp_group {\ngarp_interval 0.1\ninterfaces {\neth0\neth1\n}\n}")
        lab.vrrpd("a", text)
        lab.until(lambda: node.holds("10.79.0.104", "eth1"))
        capture.read()
        del capture.frames[:]
        time.sleep(2)
        capture.read()
        assert 5 <= announced(capture.frames) <= 14, "eth0 gets half of ten a second"


def buffers(pids: Sequence[int], family: int, protocol: int) -> set[int]:
    """The receive buffers of these processes' sockets of a kind, as the kernel counts them: asked on copies of its descriptors."""
    found: set[int] = set()
    for pid in pids:
        pidfd = os.pidfd_open(pid)
        for name in os.listdir(f"/proc/{pid}/fd"):
            copy = _libc.syscall(_PIDFD_GETFD, pidfd, int(name), 0)
            if copy < 0:
                continue
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                os.close(copy)
                continue
            with socket.socket(fileno=copy) as sock:
                if (sock.family, sock.proto) == (family, protocol):
                    found.add(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
        os.close(pidfd)
    return found


@pytest.mark.shows("global_defs/vrrp_rx_bufs_policy", "global_defs/vrrp_rx_bufs_multiplier", "vrrp_instance/kernel_rx_buf_size")
@pytest.mark.parametrize(
    ("global_line", "line", "expected"),
    [
        ("vrrp_rx_bufs_policy MTU", "", 2 * 3 * 1500),
        ("vrrp_rx_bufs_policy MTU\nvrrp_rx_bufs_multiplier 5", "", 2 * 5 * 1500),
        ("vrrp_rx_bufs_policy 9000", "", None),
        ("", "kernel_rx_buf_size 7000", 2 * 7000),
    ],
)
def test_receive_buffers_are_those_of_keepalived(global_line: str, line: str, expected: int | None) -> None:
    found: list[set[int]] = []
    with Lab("a", "b") as lab:
        for node, ours in (("a", True), ("b", False)):
            daemon = start(lab, node, conf(150, global_extra=global_line, instance_extra=line), ours=ours)
            lab.until(lambda: lab.nodes[node].holds(VIP))  # noqa: B023
            found.append(buffers(daemon.pids(), socket.AF_INET, 112))
            daemon.stop()
    assert expected is None or expected in found[0]
    assert found[0] & found[1], f"vrrpd {found[0]}, keepalived {found[1]}"


@pytest.mark.shows("global_defs/vrrp_netlink_monitor_rcv_bufs", "global_defs/vrrp_netlink_monitor_rcv_bufs_force")
@pytest.mark.shows("global_defs/vrrp_netlink_cmd_rcv_bufs", "global_defs/vrrp_netlink_cmd_rcv_bufs_force")
@EVERY_WAY
def test_netlink_buffers(ours: bool) -> None:
    most = int(open("/proc/sys/net/core/rmem_max").read())  # noqa: SIM115
    small, large = 50_000, 3 * most
    lines = [f"vrrp_netlink_cmd_rcv_bufs {small}\nvrrp_netlink_monitor_rcv_bufs {large}\nvrrp_netlink_monitor_rcv_bufs_force"]
    lines.append(f"vrrp_netlink_monitor_rcv_bufs {small}\nvrrp_netlink_cmd_rcv_bufs {large}\nvrrp_netlink_cmd_rcv_bufs_force on")
    with Lab("a") as lab:
        for line in lines:
            daemon = start(lab, "a", conf(150, global_extra=line), ours=ours)
            lab.until(lambda: lab.nodes["a"].holds(VIP))
            assert {2 * small, 2 * large} <= buffers(daemon.pids(), socket.AF_NETLINK, 0)
            daemon.stop()


@pytest.mark.shows("global_defs/log_unknown_vrids")
def test_unknown_vrids_are_counted_where_that_is_asked_for() -> None:
    with Lab("a", "b") as lab:
        ours = lab.vrrpd("a", conf(150, global_extra="log_unknown_vrids"))
        lab.keepalived("b", conf(100).replace("virtual_router_id 51", "virtual_router_id 77"))
        lab.until(lambda: is_in(ours, "MASTER") and status(ours)["packets"]["unknown_vrid"] > 5)
        assert is_in(ours, "MASTER") and instance(ours)["rejected"] == {}
        reload(ours, conf(150))
        lab.until(lambda: "Reload complete" in ours.text())
        before = status(ours)["packets"]["unknown_vrid"]
        lab.always(lambda: status(ours)["packets"]["unknown_vrid"] == before, 0.5, "the kernel drops them unseen otherwise")


@pytest.mark.shows("global_defs/max_auto_priority", "global_defs/min_auto_priority_delay")
@pytest.mark.parametrize(("line", "raised"), [("max_auto_priority 7\nmin_auto_priority_delay 500000", True),
                                              ("max_auto_priority 7\nmin_auto_priority_delay 10000000", False), ("", False)])  # fmt: skip
def test_a_process_that_was_late_gets_real_time(line: str, raised: bool) -> None:
    with Lab("a") as lab:
        ours = lab.vrrpd("a", conf(150, global_extra=line))
        lab.until(lambda: is_in(ours, "MASTER"))
        pid = int((ours.directory / "vrrp.pid").read_text())
        assert os.sched_getscheduler(pid) == os.SCHED_OTHER
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(pid, signal.SIGCONT)
        lab.until(lambda: status(ours)["stalls"]["count"] > 0)
        if raised:
            lab.until(lambda: os.sched_getscheduler(pid) == os.SCHED_RR)
            assert 1 <= os.sched_getparam(pid).sched_priority <= 7
        else:
            lab.always(lambda: os.sched_getscheduler(pid) == os.SCHED_OTHER, 0.5)
