"""Addresses that cannot be meant are errors in check (N11), and init writes what a fence needs to know (N1)."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from base.diagnostics import Severity
from brainctl.check_addresses import check_addresses
from brainctl.local_network import LocalAddress, interface_towards
from tests.brainctl.test_init_and_usage import KEEPALIVED, ROOT
from watchdog.config.load import parse_brain
from watchdog.config.model import GroupKey, GroupSettings, LinkAddress

LOCAL = (LocalAddress("eth0", "10.0.0.1", 24), LocalAddress("eth1", "10.9.0.1", 24), LocalAddress("eth0", "10.0.0.100", 32))
GROUP = GroupSettings(
    key=GroupKey(51, 4),
    name="VI_1",
    interface="eth0",
    addresses=(LinkAddress("eth0", "10.0.0.100"),),
    priority=100,
    version=2,
    advert_interval_ms=1_000,
)
GOOD = """\
version = 1
[cluster]
name = "web"
[node.A]
addresses = ["10.0.0.1"]
[node.B]
addresses = ["10.0.0.2"]
[[path]]
type = "unicast"
interface = "eth1"
address = { A = "10.9.0.1", B = "10.9.0.2" }
[[path]]
type = "serial"
device = "/dev/ttyS0"
[[reference]]
address = "10.0.0.254"
interface = "eth0"
"""
FENCE = '[fence]\nenabled = true\n[[fence.level]]\ntarget = "B"\n[[fence.level.device]]\ntype = "ssh"\nhost = "10.9.0.2"\n'


def findings(text: str) -> list[tuple[int, Severity, str]]:
    loaded = parse_brain(text, "brain.toml", "A")
    return [(d.position.line, d.severity, d.message) for d in check_addresses(loaded.settings, loaded.positions, (GROUP,), LOCAL)]


def test_good_addresses_are_good() -> None:
    assert findings(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("10.0.0.254", "10.0.0.2", 16, "is the peer"),
        ("10.0.0.254", "10.9.0.2", 16, "is the peer"),
        ("10.0.0.254", "10.0.0.1", 16, "is this node itself"),
        ("10.0.0.254", "10.9.0.1", 16, "is this node itself"),
        ("10.0.0.254", "10.0.0.100", 16, "is a virtual address"),
        ("10.0.0.254", "192.0.2.1", 16, "on no network of eth0"),
        ('A = "10.9.0.1", B = "10.9.0.2"', 'A = "10.9.0.2", B = "10.9.0.1"', 11, "swapped"),
        ('A = "10.9.0.1"', 'A = "10.9.0.7"', 11, "no address of eth1"),
        ('B = "10.9.0.2"', 'B = "10.9.0.1"', 11, "same address for both"),
        ('addresses = ["10.0.0.1"]', 'addresses = ["10.0.0.9"]', 5, "no address of this node"),
        ('addresses = ["10.0.0.2"]', 'addresses = ["10.0.0.1"]', 7, "is an address of this node"),
        ('addresses = ["10.0.0.2"]', 'addresses = ["10.0.0.100"]', 7, "is a virtual address"),
    ],
)
def test_an_address_that_cannot_be_meant_is_an_error_with_its_line(old: str, new: str, line: int, word: str) -> None:
    found = findings(GOOD.replace(old, new, 1))
    assert any(at == line and severity is Severity.ERROR and word in text for at, severity, text in found), found


def test_fencing_asks_for_the_addresses_of_both_nodes() -> None:
    for armed, severity in (("", Severity.WARNING), (FENCE, Severity.ERROR)):
        for node in ("10.0.0.1", "10.0.0.2"):
            found = findings(GOOD.replace(f'addresses = ["{node}"]\n', "") + armed)
            assert [s for _, s, text in found if "no addresses" in text] == [severity], found


def test_the_interface_towards_an_address_is_one_of_its_network() -> None:
    assert interface_towards("10.9.0.254", LOCAL, ["eth0"]) == "eth1"
    assert interface_towards("10.0.0.254", LOCAL, ["eth0"]) == "eth0"
    assert interface_towards("192.0.2.1", LOCAL, ["eth0"]) is None


def test_init_writes_addresses_and_puts_references_on_their_interface(tmp_path: Path) -> None:
    """In a network of its own: two interfaces, the gateway behind the one without VIPs."""
    conf = tmp_path / "keepalived.conf"
    conf.write_text(KEEPALIVED.replace("    virtual_ipaddress", "    unicast_peer {\n        192.0.2.12\n    }\n    virtual_ipaddress", 1))
    init = f"{sys.executable} -m brainctl.command init --from {conf} --node a --peer b"
    script = f"""set -e
ip link add eth0 type veth peer name eth9; ip link add eth1 type veth peer name eth8
for i in eth0 eth1; do ip link set $i up; done
ip addr add 192.0.2.11/24 dev eth0; ip addr add 198.51.100.11/24 dev eth1; ip addr add 192.0.2.100/24 dev eth0
ip route add default via 198.51.100.1
{init} --out {tmp_path}/one --heartbeat eth1=198.51.100.11,198.51.100.12
{init} --out {tmp_path}/two --reference 192.0.2.1 --reference 198.51.100.1 --peer-address 192.0.2.13
"""
    done = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    one, two = (tomllib.loads((tmp_path / name / "brain.toml").read_text()) for name in ("one", "two"))
    assert one["node"]["a"]["addresses"] == ["192.0.2.11"] and one["node"]["b"]["addresses"] == ["192.0.2.12"]
    assert one["reference"] == [{"address": "198.51.100.1", "interface": "eth1"}]
    assert two["node"]["b"]["addresses"] == ["192.0.2.13"]
    assert [r["interface"] for r in two["reference"]] == ["eth0", "eth1"]
    tmpfiles = (tmp_path / "one/tmpfiles.conf").read_text()
    assert re.search(r"^d /run/brainctl/gate 0755 root root -$", tmpfiles, re.MULTILINE)
    unit = (tmp_path / "one/braind.service").read_text()
    assert re.search(r"^Before=.*keepalived\.service", unit, re.MULTILINE)
    assert not re.search(r"^After=.*(keepalived|vrrpd)\.service", unit, re.MULTILINE)
    assert done.stdout.index("tmpfiles") < done.stdout.index("reload keepalived") < done.stdout.index("enable --now")


def test_a_peer_behind_a_router_may_be_watched_and_not_fenced() -> None:
    """Case T8: no probe of ours reaches its kernel, so a crashed watcher there looks like a dead node on every path at once."""
    routed = GOOD.replace('addresses = ["10.0.0.2"]', 'addresses = ["10.5.0.2"]')
    assert [(severity, "cannot be asked" in text) for _, severity, text in findings(routed)] == [(Severity.WARNING, True)]
    armed = findings(routed + FENCE)
    assert [severity for _, severity, text in armed if "cannot be asked" in text] == [Severity.ERROR]
