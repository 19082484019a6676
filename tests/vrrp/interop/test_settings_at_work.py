"""Keywords that are easily read and then forgotten: what they do is looked at from outside (kernel, wire, scripts, FIFOs)."""

from __future__ import annotations

import grp
import pwd
import socket
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.vrrp.interop.test_vrrpd_features import instance, is_in, rewrite, script
from tests.vrrp.interop.vrrp_conf import SERVICE6, VIP, VRID, conf, priority_of
from vrrp.protocol.packet import DEFAULT_GROUP_IPV4, IPPROTO_VRRP, Advert, Family, encode_advert

pytestmark = pytest.mark.system


def words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.mark.shows("vrrp_instance/notify_backup", "vrrp_instance/notify_deleted", "vrrp_instance/notify_master_rx_lower_pri")
@pytest.mark.shows("vrrp_sync_group/notify_master", "vrrp_sync_group/notify_backup", "vrrp_sync_group/notify_fault")
@pytest.mark.shows("vrrp_sync_group/notify_stop")
def test_each_notify_script_runs_when_it_should() -> None:
    with Lab("a", "b") as lab:
        lab.directory.chmod(0o755)
        out = lab.directory / "out"
        say = script(lab.directory / "say", f"echo $1 >> {out}")

        def lines(prefix: str, *states: str) -> str:
            return "\n".join(f'notify_{state} "{say} {prefix}-{state}" root' for state in states)

        alone = conf(150, instance=lines("alone", "backup", "deleted", "master_rx_lower_pri"))
        second = conf(150, name="V2", vip="10.77.0.110/24").replace(f"virtual_router_id {VRID}", "virtual_router_id 52")
        second = second[second.index("vrrp_instance") :]
        group = "vrrp_sync_group G {\ngroup {\nV2\n}\n" + lines("group", "master", "backup", "fault", "stop") + "\n}\n"
        ours = lab.vrrpd("a", alone + group + second)
        lab.until(lambda: lab.nodes["a"].holds(VIP) and lab.nodes["a"].holds("10.77.0.110"))
        lower = Advert(3, Family.IPV4, VRID, 50, (IPv4Address(VIP),), 10)
        with lab.nodes["b"].socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_VRRP) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(lab.nodes["b"].address))
            payload = encode_advert(lower, IPv4Address(lab.nodes["b"].address), DEFAULT_GROUP_IPV4)
            sender.sendto(payload, (str(DEFAULT_GROUP_IPV4), 0))
        lab.until(lambda: "alone-master_rx_lower_pri" in words(out))
        rewrite(ours, group + conf(150, name="V2", vip="10.77.0.110/24").replace(f"virtual_router_id {VRID}", "virtual_router_id 52"))
        lab.until(lambda: "alone-deleted" in words(out) and not lab.nodes["a"].holds(VIP))
        lab.cut("a")
        lab.until(lambda: "group-fault" in words(out))
        lab.heal("a")
        lab.until(lambda: words(out).count("group-master") == 2)
        assert ours.stop() == 0
        assert [w for w in words(out) if w.startswith("alone")] == ["alone-backup", "alone-master_rx_lower_pri", "alone-deleted"]
        assert [w for w in words(out) if w.startswith("group")] == [
            f"group-{state}" for state in ("backup", "master", "fault", "backup", "master", "stop")
        ]


@pytest.mark.shows("global_defs/notify_fifo", "global_defs/notify_fifo_script", "global_defs/vrrp_notify_fifo_script")
def test_fifos_with_their_readers() -> None:
    with Lab("a") as lab:
        lab.directory.chmod(0o755)
        seen = {name: lab.directory / f"{name}.out" for name in ("all", "vrrp")}
        reader = {name: script(lab.directory / name, f'cat "$1" > {path}') for name, path in seen.items()}
        defs = "script_user root\n" + "".join(
            f"{prefix}notify_fifo {lab.directory}/{name}.fifo nobody daemon\n{prefix}notify_fifo_script {reader[name]}\n"
            for prefix, name in (("", "all"), ("vrrp_", "vrrp"))
        )
        ours = lab.vrrpd("a", conf(150, global_extra=defs))
        lab.until(lambda: is_in(ours, "MASTER"))
        wanted = 'INSTANCE "V1" BACKUP 150\nINSTANCE "V1" MASTER 150\n'
        lab.until(lambda: all(path.exists() and path.read_text() == wanted for path in seen.values()))
        owners = {((lab.directory / f"{name}.fifo").stat().st_uid, (lab.directory / f"{name}.fifo").stat().st_gid) for name in seen}
        assert owners == {(pwd.getpwnam("nobody").pw_uid, grp.getgrnam("daemon").gr_gid)}


@pytest.mark.shows("global_defs/default_interface", "vrrp_instance/mcast_src_ip", "global_defs/vrrp_startup_delay", "track_file/init_file")
@pytest.mark.shows("global_defs/vrrp_garp_interval")
def test_addresses_files_and_pace() -> None:
    with Lab("a") as lab:
        node = lab.nodes["a"]
        node.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
        node.run("ip", "link", "set", "up0", "up")
        node.run("ip", "addr", "add", "10.77.0.201/24", "dev", "eth0")
        number = lab.directory / "number"
        defs = "default_interface up0\nvrrp_startup_delay 2\nvrrp_garp_interval 0.4\nvrrp_garp_master_repeat 3"
        blocks = f"static_ipaddress {{\n10.88.0.9/32\n}}\ntrack_file f {{\nfile {number}\ninit_file 5\n}}"
        text = conf(150, global_extra=defs, blocks=blocks, instance_extra="mcast_src_ip 10.77.0.201", instance="track_file {\nf\n}")
        capture = lab.capture()
        begin = time.monotonic()
        home = lab.home("a")
        ours = lab.vrrpd("a", text, home=home)
        lab.until(lambda: node.holds(VIP))
        assert time.monotonic() - begin >= 2.0
        assert node.holds("10.88.0.9", "up0")
        assert (number.read_text().strip(), instance(ours)["priority"]) == ("5", 155)
        heard: list[float] = []

        def three_announcements() -> bool:
            heard.extend(time.monotonic() for _, f in capture.read() if f[12:14] == b"\x08\x06" and f[28:32] == f[38:42])
            return len(heard) >= 3

        lab.until(three_announcements)
        assert heard[2] - heard[0] >= 0.3, "not all at once (the first may have waited to be read)"
        assert {f[26:30] for _, f in capture.frames if priority_of(f) is not None} == {IPv4Address("10.77.0.201").packed}


@pytest.mark.shows("global_defs/vrrp_mcast_group6", "net_namespace")
def test_another_group_and_another_namespace() -> None:
    """The daemon is started on b and works on a."""
    with Lab("a", "b") as lab:
        capture = lab.capture()
        text = conf(150, ipv6=True, global_extra="vrrp_mcast_group6 ff02::77")
        ours = lab.vrrpd("b", f"net_namespace {lab.nodes['a'].namespace}\n" + text)
        lab.until(lambda: lab.nodes["a"].holds(SERVICE6) and not lab.nodes["b"].holds(SERVICE6))
        lab.until(lambda: capture.read() is not None and any(priority_of(f) == 150 for _, f in capture.frames))
        adverts = [(port, f[38:54]) for port, f in capture.frames if priority_of(f) is not None]
        assert set(adverts) == {("p1", bytes.fromhex("ff02000000000000000000000000" + "0077"))}
        assert ours.stop() == 0
        assert not lab.nodes["a"].holds(SERVICE6)
