"""virtual_routes, virtual_rules and the static entries: the same file gives the same kernel as Debian's keepalived, and stays so."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.lab import Daemon, Lab, Node
from tests.vrrp.interop.test_vrrpd_features import instance, is_in, rewrite
from tests.vrrp.interop.vrrp_conf import VIP, conf

pytestmark = pytest.mark.system

ROUTES = """
    src 10.77.0.100 to 10.9.1.0/24 via 10.77.0.9 dev eth0
    10.9.2.0/24 via 10.77.0.9 dev eth0 table 100 metric 7 mtu 1400 advmss lock 1200
    10.9.3.0/24 nexthop via 10.77.0.9 dev eth0 weight 2 nexthop via 10.77.0.8 dev eth0 weight 3
    blackhole 10.9.4.0/24
    unreachable 10.9.5.0/24 table 100 no_track
    default via 10.77.0.9 dev eth0 metric 55 protocol static tos 0x10
    10.9.6.0/24 dev eth0
    10.9.7.1 via 10.77.0.9 dev eth0 onlink hoplimit 9 initcwnd 10 quickack 1 features ecn congctl reno realms 3/4
    10.9.8.0/24 via 10.77.0.9 dev eth0 protocol static no_track
    prohibit 10.9.9.0/24 metric 3
    throw 10.9.10.0/24 table 100
    2001:db8:9::/64 dev eth0 metric 9
    2001:db8:a::/64 via fe80::9 dev eth0 pref high
"""
RULES = """
    from 10.77.0.100 table 100 preference 500
    to 10.9.0.0/16 iif eth0 lookup 100 preference 501 no_track
    not from 10.8.0.0/16 fwmark 5/0xff tos 0x10 table 101 preference 502
    from 10.7.0.0/16 blackhole preference 503
    from 2001:db8::/32 table 100 preference 504
    uidrange 0-99 table 7 preference 505
    sport 80-90 ipproto tcp table 7 preference 506
    from 10.6.0.0/16 goto 32766 preference 507
    suppress_prefixlength 0 table main preference 508
    oif eth0 realms 5/6 table 1000 preference 509
    from 10.5.0.0/16 table 22
    from 10.4.0.0/16 table 23
"""
STATIC = """
static_ipaddress {
    10.88.0.1/24 dev eth0
}
static_routes {
    10.99.0.0/24 via 10.77.0.77 dev eth0
}
static_rules {
    from 10.98.0.0/16 table 42 preference 900
}
"""
TUNNELS = """
    10.9.21.0/24 encap ip id 100 dst 10.77.0.3 src 10.77.0.1 ttl 7 tos 4 dev eth0
    2001:db8:22::/64 encap ip6 id 5 dst 2001:db8::3 hoplimit 9 dev eth0
    10.9.23.0/24 dev eth0 fastopen_no_cookie 1
"""
BEYOND_KEEPALIVED = """
    10.9.20.0/24 via inet6 fe80::9 dev eth0
    10.9.24.0/24 nexthop encap ip id 7 dst 10.77.0.4 via 10.77.0.9 dev eth0 weight 2 nexthop via inet6 fe80::8 dev eth0
    10.9.25.0/24 via 10.77.0.9 dev eth0 ttl-propagate enabled
"""
"""Debian's keepalived takes these lines and leaves the route out, or what stands behind the first gateway: iproute2 is the model."""
MOVING = f"virtual_routes {{{ROUTES}}}\nvirtual_rules {{{RULES}}}"


def kernel(node: Node) -> dict[str, list[str]]:
    """Every route but the interfaces' own, every rule, and the addresses of eth0 without those of the link."""
    found: dict[str, list[str]] = {}
    for family in ("-4", "-6"):
        routes = node.run("ip", "-d", family, "route", "show", "table", "all").splitlines()
        joined = "\n".join(routes).replace("\n\t", " ").splitlines()
        found[f"routes {family}"] = sorted(
            line for line in joined if "proto kernel" not in line and "linkdown" not in line and "fe80::/64" not in line
        )
        found[f"rules {family}"] = node.run("ip", "-d", family, "rule").splitlines()
    found["addresses"] = sorted(re.findall(r"inet (\S+)", node.run("ip", "-4", "addr", "show", "dev", "eth0")))
    return found


def entries(node: Node) -> int:
    return sum(len(lines) for lines in kernel(node).values())


def has_route(node: Node, destination: str, table: str = "main") -> bool:
    return bool(json.loads(node.run("ip", "-j", "route", "show", "table", table, "exact", destination, check=False) or "[]"))


def has_rule(node: Node, preference: int) -> bool:
    return f"{preference}:" in node.run("ip", "rule")


def second_link(lab: Lab) -> Node:
    """Node a, with ``up0`` (10.66.0.1/24) that leads nowhere."""
    node = lab.nodes["a"]
    node.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    node.run("ip", "addr", "add", "10.66.0.1/24", "dev", "up0")
    for name in ("up0", "up1"):
        node.run("ip", "link", "set", name, "up")
    return node


class TestBesideKeepalived:
    @pytest.mark.shows("static_ipaddress", "static_routes", "static_rules", "vrrp_instance/virtual_routes", "vrrp_instance/virtual_rules")
    def test_the_same_kernel_before_while_and_after_being_master(self) -> None:
        seen = []
        for daemon in ("keepalived", "vrrpd"):
            with Lab("a") as lab:
                node = lab.nodes["a"]
                clean = kernel(node)
                running: Daemon = getattr(lab, daemon)("a", conf(150, instance=MOVING, blocks=STATIC))
                lab.until(lambda node=node: has_rule(node, 16383))
                master = kernel(node)
                lab.cut("a")
                lab.until(lambda node=node: not has_rule(node, 500) and not node.holds(VIP))
                lab.heal("a")
                lab.until(lambda node=node, master=master: kernel(node) == master, what="everything is back after a fault")
                running.stop()
                lab.until(lambda node=node, clean=clean: kernel(node) == clean, what="nothing is left after the stop")
                seen.append(master)
        for part in seen[0]:
            assert seen[1][part] == seen[0][part], part
        assert len(seen[1]["routes -4"]) == 12
        assert len(seen[1]["rules -4"]) == 15

    def test_tunnels(self) -> None:
        seen = []
        for daemon in ("keepalived", "vrrpd"):
            with Lab("a") as lab:
                node = lab.nodes["a"]
                clean = kernel(node)
                running: Daemon = getattr(lab, daemon)("a", conf(150, instance=f"virtual_routes {{{TUNNELS}}}"))
                lab.until(lambda node=node: has_route(node, "10.9.23.0/24"))
                seen.append(kernel(node))
                running.stop()
                lab.until(lambda node=node, clean=clean: kernel(node) == clean, what="nothing is left after the stop")
        assert seen[1] == seen[0]
        assert len(seen[1]["routes -4"]) == 2 and len(seen[1]["routes -6"]) == 1

    def test_gateways_of_the_other_family_and_tunnels_of_next_hops_as_iproute2_sets_them(self) -> None:
        seen = []
        with Lab("a") as lab:
            node = lab.nodes["a"]
            for line in BEYOND_KEEPALIVED.strip().splitlines():
                destination, *words = line.split()
                node.run("ip", "route", "add", destination, "proto", "keepalived", "scope", "global", *words)
            seen.append(kernel(node)["routes -4"])
        with Lab("a") as lab:
            node = lab.nodes["a"]
            lab.vrrpd("a", conf(150, instance=f"virtual_routes {{{BEYOND_KEEPALIVED}}}"))
            lab.until(lambda: has_route(node, "10.9.25.0/24"))
            seen.append(kernel(node)["routes -4"])
        assert seen[1] == seen[0] and len(seen[0]) == 3

    @pytest.mark.shows("global_defs/iproute_usr_dir", "global_defs/iproute_etc_dir")
    def test_names_of_tables_come_from_the_directories_of_iproute2(self, tmp_path: Path) -> None:
        """keepalived 2.2.7 does not know the words yet."""
        for name, text in (("usr", "100 uplink\n101 backup\n"), ("etc", "# ours\n102 uplink\n")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "rt_tables").write_text(text)
        directories = f"iproute_usr_dir {tmp_path}/usr\n iproute_etc_dir {tmp_path}/etc"
        lines = "10.9.1.0/24 dev eth0 table uplink\n 10.9.2.0/24 dev eth0 table backup"
        with Lab("a") as lab:
            node = lab.nodes["a"]
            lab.vrrpd("a", conf(150, global_extra=directories, instance=f"virtual_routes {{\n {lines}\n}}"))
            for number, destination in (("102", "10.9.1.0/24"), ("101", "10.9.2.0/24")):
                shown = ("ip", "route", "show", "table", number)  # an error as long as there is no such table
                lab.until(lambda shown=shown, destination=destination: destination in node.run(*shown, check=False))

    def test_leaving_master_takes_the_moving_entries_and_leaves_the_static_ones(self) -> None:
        with Lab("a", "b") as lab:
            node = lab.nodes["a"]
            ours = lab.vrrpd("a", conf(100, instance=MOVING, blocks=STATIC))
            lab.until(lambda: is_in(ours, "MASTER") and has_rule(node, 500))
            lab.keepalived("b", conf(150, instance=MOVING))
            lab.until(lambda: has_rule(lab.nodes["b"], 500) and not has_rule(node, 500))
            lab.until(lambda: not has_route(node, "10.9.1.0/24"))
            assert has_route(node, "10.99.0.0/24")
            assert has_rule(node, 900)
            assert node.holds("10.88.0.1")


class TestReconcile:
    def test_what_somebody_deletes_is_put_back_within_a_second_and_told(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            ours = lab.vrrpd("a", conf(150, instance=MOVING, blocks=STATIC))
            lab.until(lambda: is_in(ours, "MASTER") and has_rule(node, 16383))
            master, since = kernel(node), instance(ours)["since_ns"]
            node.run("ip", "route", "del", "10.9.1.0/24")
            assert lab.until(lambda: has_route(node, "10.9.1.0/24")) < 1
            node.run("ip", "route", "del", "10.99.0.0/24")
            assert lab.until(lambda: has_route(node, "10.99.0.0/24")) < 1
            node.run("ip", "rule", "del", "preference", "500")
            assert lab.until(lambda: has_rule(node, 500)) < 1
            lab.until(lambda: kernel(node) == master)
            lab.until(lambda: instance(ours)["routing_restored"] == 2)
            node.run("ip", "addr", "del", "10.88.0.1/24", "dev", "eth0")
            assert lab.until(lambda: node.holds("10.88.0.1")) < 1.5
            assert (instance(ours)["since_ns"], instance(ours)["state"]) == (since, "MASTER")

    def test_no_track_is_left_alone(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            ours = lab.vrrpd("a", conf(150, instance=MOVING))
            lab.until(lambda: is_in(ours, "MASTER") and has_rule(node, 501))
            node.run("ip", "rule", "del", "preference", "501")
            node.run("ip", "route", "del", "10.9.8.0/24")
            lab.always(lambda: not has_rule(node, 501) and not has_route(node, "10.9.8.0/24"), 1.5)

    def test_an_address_comes_back_ever_more_slowly_and_one_that_is_not_tracked_not_at_all(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            ours = lab.vrrpd("a", conf(150, instance="virtual_ipaddress_excluded {\n 10.77.0.120/24 no_track\n}"))
            lab.until(lambda: is_in(ours, "MASTER") and node.holds(VIP))
            node.run("ip", "addr", "del", "10.77.0.120/24", "dev", "eth0")
            lab.always(lambda: not node.holds("10.77.0.120"), 0.7)
            node.run("ip", "addr", "del", f"{VIP}/24", "dev", "eth0")
            assert lab.until(lambda: node.holds(VIP)) < 1
            taken = []
            for _ in range(2):
                node.run("ip", "addr", "del", f"{VIP}/24", "dev", "eth0")
                taken.append(lab.until(lambda: node.holds(VIP)))
            assert taken[0] < 1.5
            assert taken[1] > 1.5
            assert instance(ours)["counters"]["addresses_restored"] == 3

    def test_nobody_fights_for_ever(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            ours = lab.vrrpd("a", conf(150, instance=MOVING))
            lab.until(lambda: is_in(ours, "MASTER") and has_rule(node, 500))

            def fight() -> bool:
                node.run("ip", "rule", "del", "preference", "500", check=False)
                return False

            with pytest.raises(AssertionError):
                lab.until(fight, 4)
            assert 3 <= instance(ours)["routing_restored"] <= 6, "at 0, 0.25, 0.75, 1.75, 3.75 s"
            lab.until(lambda: has_rule(node, 500), 9, what="when the other side gives up, the rule comes back")

    @pytest.mark.parametrize("daemon", ["keepalived", "vrrpd"])
    def test_the_interface_of_a_route_is_tracked(self, daemon: str) -> None:
        with Lab("a") as lab:
            node = second_link(lab)
            getattr(lab, daemon)("a", conf(150, instance="virtual_routes {\n 10.9.1.0/24 via 10.66.0.2 dev up0\n}"))
            lab.until(lambda: node.holds(VIP) and has_route(node, "10.9.1.0/24"))
            node.run("ip", "link", "set", "up0", "down")
            lab.until(lambda: not node.holds(VIP), what="FAULT")
            node.run("ip", "link", "set", "up0", "up")
            lab.until(lambda: node.holds(VIP) and has_route(node, "10.9.1.0/24"))

    def test_routes_that_vanish_silently_with_a_link_come_back_with_it(self) -> None:
        with Lab("a") as lab:
            node = second_link(lab)
            hops = "nexthop via 10.66.0.2 dev up0 weight 1 nexthop via 10.66.0.3 dev up0 weight 1"
            ours = lab.vrrpd("a", conf(150, instance=f"virtual_routes {{\n 10.9.1.0/24 {hops}\n}}"))
            lab.until(lambda: has_route(node, "10.9.1.0/24"))
            node.run("ip", "link", "set", "up0", "down")
            assert not has_route(node, "10.9.1.0/24")
            lab.always(lambda: is_in(ours, "MASTER"), 0.5, "a route that cannot be set is told, and the address stays served")
            node.run("ip", "link", "set", "up0", "up")
            lab.until(lambda: has_route(node, "10.9.1.0/24"))


class TestReloadAndDeath:
    def test_reload_changes_only_what_differs(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            ours = lab.vrrpd("a", conf(150, instance=MOVING, blocks=STATIC))
            lab.until(lambda: is_in(ours, "MASTER") and has_rule(node, 900))
            since = instance(ours)["since_ns"]
            changed = MOVING.replace("blackhole 10.9.4.0/24", "blackhole 10.9.44.0/24").replace("preference 503", "preference 603")
            rewrite(ours, conf(150, instance=changed, blocks=STATIC.replace("10.98.0.0/16", "10.97.0.0/16"), name="RENAMED"))
            lab.until(lambda: has_route(node, "10.9.44.0/24") and has_rule(node, 603) and "10.97.0.0/16" in node.run("ip", "rule"))
            lab.until(lambda: not has_route(node, "10.9.4.0/24") and not has_rule(node, 503))
            assert "10.98.0.0/16" not in node.run("ip", "rule")
            assert (instance(ours)["since_ns"], instance(ours)["routing_restored"]) == (since, 0)
            rewrite(ours, conf(150, name="RENAMED"))
            lab.until(lambda: entries(node) == 2 + 6 - 1, what="only the kernel's rules and the addresses")
            assert is_in(ours, "MASTER")

    def test_the_parent_removes_what_a_killed_process_leaves(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            ours = lab.vrrpd("a", conf(150, interval="1", instance=MOVING))
            lab.until(lambda: is_in(ours, "MASTER") and has_rule(node, 16383))
            child = int((Path(ours.directory) / "vrrp.pid").read_text())
            os.kill(child, signal.SIGKILL)
            assert lab.until(lambda: not has_rule(node, 500) and not has_route(node, "10.9.1.0/24")) < 1.5
            lab.until(lambda: is_in(ours, "MASTER") and has_rule(node, 500), what="a new process takes over")

    def test_a_line_that_cannot_be_set_does_not_keep_the_others_out(self) -> None:
        with Lab("a") as lab:
            node = lab.nodes["a"]
            routes = "virtual_routes {\n 10.9.1.0/24 via 10.77.0.9 dev eth0 table nosuchtable\n 10.9.2.0/24 via 10.77.0.9 dev eth0\n}"
            ours = lab.vrrpd("a", conf(150, instance=routes))
            lab.until(lambda: is_in(ours, "MASTER") and has_route(node, "10.9.2.0/24"))
            assert not has_route(node, "10.9.1.0/24")
            assert [text for text in instance(ours)["routing"] if "10.9.1.0" in text] == []
