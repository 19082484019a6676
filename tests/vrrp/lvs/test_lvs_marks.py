"""``nftables_ipvs``: what is marked, and that packets of a namespace really get the marks. The services by mark: guest_daemon.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, Node
from tests.vrrp.lvs.test_lvs_from_config import convert
from vrrp.config.model.common import Family
from vrrp.config.model.daemon import FirewallSettings
from vrrp.lvs.marks import Marker, ruleset
from vrrp.lvs.model.settings import Listen, MarkedRange, VirtualServerSettings

GROUPS = """
virtual_server_group g {
 10.77.0.1 80
 10.77.0.16-31 81
 10.66.0.0/16
}
virtual_server_group both {
 10.77.0.1 82
 fd77::1 80
}
virtual_server_group marked {
 10.77.0.1 83
 fwmark 501
}
"""


def text(*lines: str, group: str = "g", protocol: str = "TCP", real: str = "10.77.0.9") -> str:
    """A virtual server on a group."""
    return (
        f"virtual_server group {group} {{\n lb_algo rr\n protocol {protocol}\n{chr(10).join(lines or ('lb_kind NAT',))}\n"
        f" real_server {real} 80 {{\n TCP_CHECK {{\n connect_timeout 1\n }}\n }}\n}}\n"
    )


SERVICES = text() + text(protocol="UDP") + text("lb_kind TUN", group="both") + text(group="marked")


def by_mark(directory: Path, *options: str) -> tuple[VirtualServerSettings, ...]:
    """The virtual servers of GROUPS with ``nftables_ipvs``."""
    return convert(directory, f"global_defs {{\n nftables_ipvs own\n{chr(10).join(options)}\n}}\n{GROUPS}{SERVICES}")[0]


@pytest.mark.shows("global_defs/nftables_ipvs_start_fwmark")
def test_one_mark_for_each_service_and_none_that_the_file_uses(tmp_path: Path) -> None:
    tcp, udp, both, marked = by_mark(tmp_path, "nftables_ipvs_start_fwmark 500")
    assert tcp.listen == (Listen(Family.IPV4, None, 0, 500),) and udp.listen == (Listen(Family.IPV4, None, 0, 502),)
    assert both.listen == (Listen(Family.IPV4, None, 0, 503), Listen(Family.IPV6, None, 0, 503))
    assert tcp.marked[1] == MarkedRange(500, ip_address("10.77.0.16"), ip_address("10.77.0.31"), 81)
    assert marked.marked == () and len(marked.listen) == 2, "a group with marks stays as it is, as in keepalived"
    assert [each.mark for each in by_mark(tmp_path)[0].marked] == [1000] * 3
    (plain, *_), _ = convert(tmp_path, GROUPS.replace(" 10.66.0.0/16\n", "") + SERVICES)
    assert len(plain.listen) == 1 + 16 and plain.marked == ()
    assert (plain.id, plain.real_servers) == (tcp.id, tcp.real_servers), "names and checks do not depend on it"


KEEPALIVEDS = [
    "table ip own {",
    "map tcp_map {",
    "type ipv4_addr . inet_service : mark",
    "flags interval",
    "elements = { 10.9.0.1 . 80 : 0x000003e8,",
    "10.9.0.5-10.9.0.8 . 81 : 0x000003e8 }",
    "}",
    "map udp_map {",
    "type ipv4_addr . inet_service : mark",
    "flags interval",
    "elements = { 10.9.0.1 . 80 : 0x000003e9 }",
    "}",
    "chain in {",
    "type filter hook input priority filter - 1; policy accept;",
    "meta mark set ip daddr . tcp dport map @tcp_map return",
    "meta mark set ip daddr . udp dport map @udp_map return",
    "}",
    "}",
]
"""What Debian's keepalived makes of the groups below, taken down in the lab with our own kernel (Debian's has no such tables)."""


@pytest.mark.system
def test_the_table_is_keepaliveds(lab: Lab, tmp_path: Path) -> None:
    groups = "virtual_server_group g {\n 10.9.0.1 80\n 10.9.0.5-8 81\n}\nvirtual_server_group h {\n 10.9.0.1 80\n}\n"
    wanted, _ = convert(tmp_path, f"global_defs {{\n nftables_ipvs own\n}}\n{groups}{text()}{text(group='h', protocol='UDP')}")
    marker = Marker()
    marker.namespace = lab.nodes["a"].namespace
    marker.apply(wanted, settings())
    listed = lab.nodes["a"].run("nft", "list", "ruleset").splitlines()
    assert [" ".join(line.split()) for line in listed if line.strip()] == KEEPALIVEDS


def settings(priority: int = -1) -> FirewallSettings:
    return FirewallSettings(nft_ipvs_table="own", nft_ipvs_priority=priority)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("a", "b") as made:
        yield made


WATCH = """
table inet watch {
 counter c_none { }
 counter c_tcp { }
 counter c_udp { }
 counter c_six { }
 chain c {
  type filter hook input priority 150;
  meta l4proto { tcp, udp } th dport 80-81 meta mark 0 counter name c_none
  meta mark 500 counter name c_tcp
  meta mark 502 counter name c_udp
  meta mark 503 counter name c_six
 }
}
"""


def counted(node: Node) -> dict[str, int]:
    """Packets by the mark that they had, and those to the services' ports that had none."""
    objects: list[dict[str, Any]] = json.loads(node.run("nft", "-j", "list", "counters", "table", "inet", "watch"))["nftables"]
    return {each["counter"]["name"].removeprefix("c_"): each["counter"]["packets"] for each in objects if "counter" in each}


def send(node: Node, address: str, port: int, *, udp: bool = False) -> None:
    """A packet that nobody answers but by a refusal."""
    with node.socket(10 if ":" in address else 2, 2 if udp else 1) as client:
        client.settimeout(1)
        try:
            client.connect((address, port))
            client.send(b"x")
        except OSError:
            pass


@pytest.mark.system
@pytest.mark.shows("global_defs/nftables_ipvs", "global_defs/nftables_ipvs_priority")
def test_packets_get_their_marks_and_a_flushed_table_comes_back(lab: Lab, tmp_path: Path) -> None:
    a, b = lab.nodes["a"], lab.nodes["b"]
    wanted = by_mark(tmp_path, "nftables_ipvs_start_fwmark 500")
    a.nft(WATCH)
    marker = Marker()
    marker.namespace = a.namespace
    marker.apply(wanted, settings())
    assert marker.problem == ""
    send(b, a.address, 80)
    send(b, a.address, 80, udp=True)
    send(b, a.address6, 80)
    send(a, a.address, 80, udp=True)  # a client on the director itself
    assert counted(a) == {"none": 0, "tcp": 1, "udp": 2, "six": 1}
    send(b, a.address, 81)
    assert counted(a)["none"] == 1, "another port is not of the group"

    assert not marker.look(), "nobody touched it"
    a.run("nft", "delete", "table", "ip", "own")
    assert marker.look()
    send(b, a.address, 80)
    assert counted(a)["tcp"] == 2

    marker.apply(wanted, settings(priority=110))
    send(b, a.address, 80)
    assert counted(a)["tcp"] == 3 and "priority 110" in a.run("nft", "list", "table", "ip", "own")
    a.run("ip", "addr", "add", "10.66.3.4/32", "dev", "lo")
    send(a, "10.66.3.4", 4711)
    assert counted(a)["tcp"] > 3, "a network without a port; the answer goes there too"

    marker.apply((), settings())
    assert a.run("nft", "list", "tables").split() == ["table", "inet", "watch"]
    marker.remove()


def test_without_a_group_there_is_no_table() -> None:
    assert ruleset((), settings()) == ""


@pytest.mark.system
def test_what_nft_refuses_is_a_problem_until_it_is_accepted(lab: Lab, tmp_path: Path) -> None:
    marker = Marker()
    marker.namespace = "t-no-such-namespace"
    marker.apply(by_mark(tmp_path), settings())
    assert "t-no-such-namespace" in marker.problem
    marker.namespace = lab.nodes["a"].namespace
    assert marker.look() and marker.problem == ""
    assert "own" in lab.nodes["a"].run("nft", "list", "tables")
