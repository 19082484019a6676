"""use_vmac: the macvlan, what lives on it, who may speak with the virtual MAC; one lab for many checks, because each start costs."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import pytest

from tests.lab import Daemon, Lab, Node, ip
from tests.vrrp.interop.vrrp_conf import VIP, VRID, conf
from tests.vrrp.interop.vrrpd_status import instance, is_in, reload

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

MAC = "00:00:5e:00:01:33"
LINK = f"vrrp.{VRID}"
SETTINGS = ("arp_ignore", "arp_filter", "rp_filter", "accept_local", "promote_secondaries")


def links(node: Node) -> dict[str, Any]:
    """Name to what ``ip -d link`` says of it."""
    return {link["ifname"]: link for link in json.loads(ip("-n", node.namespace, "-d", "-j", "link"))}


def held(node: Node) -> dict[str, set[str]]:
    """Interface to its addresses, link-local ones of the kernel apart."""
    found = json.loads(ip("-n", node.namespace, "-j", "addr"))
    return {link["ifname"]: {f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", ()) if "local" in a} for link in found}


def ipv4_setting(node: Node, interface: str, name: str) -> str:
    return node.run("cat", f"/proc/sys/net/ipv4/conf/{interface}/{name}", check=False).strip()


def sources(frames: Iterable[tuple[str, bytes]], port: str, mac: str) -> list[bytes]:
    """The frames of a port whose Ethernet source is ``mac``."""
    return [frame for sender, frame in frames if sender == port and frame[6:12] == bytes.fromhex(mac.replace(":", ""))]


def adverts(frames: Iterable[tuple[str, bytes]], port: str) -> list[bytes]:
    """Its adverts."""
    return [f for sender, f in frames if sender == port and _is_advert(f)]


def _is_advert(frame: bytes) -> bool:
    return (frame[12:14] == b"\x08\x00" and frame[23] == 112) or (frame[12:14] == b"\x86\xdd" and frame[20] == 112)


def _is_garp(frame: bytes, address: str) -> bool:
    return frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42] == ip_address(address).packed


def second_interface(node: Node) -> None:
    """d0, whose other end d1 stays in the node."""
    ip("-n", node.namespace, "link", "add", "d0", "type", "veth", "peer", "name", "d1")
    for name in ("d0", "d1"):
        ip("-n", node.namespace, "link", "set", name, "up")


def dual(priority: int) -> str:
    """An IPv4 and an IPv6 router with macvlans."""
    v4 = conf(priority, instance_extra="use_vmac")
    v6 = conf(priority, instance_extra="use_vmac", name="V6", ipv6=True)
    return v4 + v6[v6.index("vrrp_instance") :]


@pytest.mark.shows("vrrp_instance/use_vmac")
def test_a_client_notices_nothing_of_a_takeover_and_no_backup_speaks_with_the_virtual_mac() -> None:
    with Lab("a", "b", "c") as lab:
        a, b, client = lab.nodes["a"], lab.nodes["b"], lab.nodes["c"]
        for node in (a, b):  # a router would report ff02::2, also from a macvlan without addresses
            node.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        capture = lab.capture()
        first = lab.vrrpd("a", dual(150))
        lab.until(lambda: is_in(first, "MASTER") and is_in(first, "MASTER", "V6"))
        second = lab.vrrpd("b", dual(100))
        lab.until(lambda: is_in(second, "BACKUP") and is_in(second, "BACKUP", "V6"))

        def neighbour(address: str) -> dict[str, Any]:
            found = json.loads(ip("-n", client.namespace, "-j", "neigh", "show", address) or "[]")
            return dict(found[0]) if found else {}

        def answers(address: str) -> bool:
            return " 1 received" in client.run("ping", "-c", "1", "-W", "1", address, check=False)

        lab.until(lambda: answers(VIP) and answers("fd77::100"))
        before = {address: neighbour(address)["lladdr"] for address in (VIP, "fd77::100")}
        assert before == {VIP: MAC, "fd77::100": "00:00:5e:00:02:33"}
        capture.read()
        for mac in before.values():
            assert sources(capture.frames, a.port, mac), "the master speaks with the virtual MAC"
            assert not sources(capture.frames, b.port, mac), "a backup does not"
        assert all(frame[6:12].hex(":") in before.values() for frame in adverts(capture.frames, a.port))
        first.signal(signal.SIGTERM)
        lab.until(lambda: is_in(second, "MASTER") and is_in(second, "MASTER", "V6"))
        begun = len(capture.frames) + len(capture.read())
        lab.until(lambda: answers(VIP) and answers("fd77::100"), 3.0, "the client goes on with what it knows")
        assert {address: neighbour(address)["lladdr"] for address in before} == before
        first.stop()
        lab.always(lambda: capture.read() is not None, 1.5)  # multicast reports are repeated about a second later
        for mac in before.values():
            assert sources(capture.frames[begun:], b.port, mac)
            assert not sources(capture.frames[begun:], a.port, mac), "not a word after it left, no multicast report either"
        assert not {"vrrp.51", "vrrp6.51"} & set(links(a)), "removed at the end"
        second.stop()


@pytest.fixture(scope="module")
def single() -> Iterable[tuple[Lab, Node, Daemon]]:
    """A vrrpd without peer, with use_vmac; each test leaves it MASTER."""
    with Lab("a") as lab:
        node = lab.nodes["a"]
        node.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
        daemon = lab.vrrpd("a", conf(150, instance_extra="use_vmac"))
        lab.until(lambda: is_in(daemon, "MASTER"))
        yield lab, node, daemon


Single = tuple[Lab, Node, Daemon]


def test_a_macvlan_that_somebody_deletes_comes_back_with_its_addresses(single: Single) -> None:
    lab, node, daemon = single
    since, capture = instance(daemon)["since_ns"], lab.capture()
    ip("-n", node.namespace, "link", "del", LINK)
    lab.until(lambda: f"{VIP}/24" in held(node).get(LINK, ()), 1.0, "within a second (#2479, #2564)")
    lab.until(lambda: is_in(daemon, "MASTER"))
    found = instance(daemon)
    assert found["counters"]["addresses_restored"] >= 1 or found["since_ns"] != since, "put back, or failed over"
    lab.until(lambda: capture.read() is not None and sources(capture.frames, node.port, MAC), what="adverts leave by the new one")
    for _ in range(3):
        ip("-n", node.namespace, "link", "del", LINK, check=False)
    lab.until(lambda: is_in(daemon, "MASTER") and f"{VIP}/24" in held(node).get(LINK, ()), what="also if he goes on")


def test_the_instance_is_in_fault_while_the_macvlan_or_its_parent_is_down(single: Single) -> None:
    lab, node, daemon = single
    for name in (LINK, "eth0"):
        ip("-n", node.namespace, "link", "set", name, "down")
        lab.until(lambda: is_in(daemon, "FAULT"), what=f"{name} is down")
        assert f"{VIP}/24" not in held(node)[LINK]
        ip("-n", node.namespace, "link", "set", name, "up")
        lab.until(lambda: is_in(daemon, "MASTER"), what=f"{name} is up again")


def test_a_reload_takes_the_addresses_off_the_macvlan_and_back_without_leaving_master(single: Single) -> None:
    lab, node, daemon = single
    before = instance(daemon)
    eth0 = links(node)["eth0"]["address"]
    capture = lab.capture()

    def announced(mac: str) -> bool:
        capture.read()
        return any(frame[12:14] == b"\x08\x06" for frame in sources(capture.frames, node.port, mac))

    reload(daemon, conf(150))
    lab.until(lambda: f"{VIP}/24" in held(node)["eth0"] and LINK not in links(node), what="no use_vmac: the macvlan is gone")
    lab.until(lambda: announced(eth0), what="the other MAC is announced")
    assert ipv4_setting(node, "eth0", "arp_ignore") == "0" and ipv4_setting(node, "all", "rp_filter") == "1", "given back"
    reload(daemon, conf(150, instance_extra="use_vmac other0 02:00:00:00:07"))
    lab.until(lambda: f"{VIP}/24" in held(node).get("other0", ()))
    assert links(node)["other0"]["address"] == "02:00:00:00:07:33" and f"{VIP}/24" not in held(node)["eth0"]
    lab.until(lambda: announced("02:00:00:00:07:33"))
    reload(daemon, conf(150, instance_extra="use_vmac"))
    lab.until(lambda: f"{VIP}/24" in held(node).get(LINK, ()) and "other0" not in links(node))
    now = instance(daemon)
    assert now["since_ns"] == before["since_ns"]
    assert now["counters"]["priority_zero_sent"] == before["counters"]["priority_zero_sent"]


def test_nothing_stays_behind_when_everything_is_killed_and_what_is_there_is_used(single: Single) -> None:
    lab, node, daemon = single
    child = daemon.pids()[1]
    os.kill(child, signal.SIGKILL)
    lab.until(lambda: is_in(daemon, "MASTER") and daemon.pids()[1] != child and f"{VIP}/24" in held(node).get(LINK, ()))
    daemon.kill()
    assert lab.until(lambda: LINK not in links(node)) < 3, "the guardian removes the macvlan too"
    for words in (("address", "02:00:00:00:00:09"), ("address", MAC)):  # of a stranger; as it must be
        ip("-n", node.namespace, "link", "add", LINK, "link", "eth0", *words, "type", "macvlan", "mode", "private")
        index = links(node)[LINK]["ifindex"]
        again = lab.vrrpd("a", conf(150, instance_extra=f"use_vmac {LINK}"))
        lab.until(lambda: f"{VIP}/24" in held(node).get(LINK, ()))
        assert links(node)[LINK]["address"] == MAC
        assert (links(node)[LINK]["ifindex"] == index) == (words[1] == MAC), "adopted only if it fits"
        assert again.stop() == 0
        assert LINK not in links(node)


def _heard(tap: socket.socket) -> bytes:
    try:
        return tap.recv(2048)
    except BlockingIOError:
        return b""


BOTH = """
global_defs {
    vrrp_version 3
    vmac_prefix %s
    vmac_addr_prefix %s
}
vrrp_instance V4 {
    interface eth0
    virtual_router_id 51
    advert_int 0.1
    use_vmac
    use_vmac_addr
    garp_extra_if 1
    garp_master_delay 1
    virtual_ipaddress {
        10.77.0.100/24
        10.77.0.101/24 dev eth0
        10.78.0.100/24 dev d0
    }
}
vrrp_instance V6 {
    interface eth0
    virtual_router_id 51
    advert_int 0.1
    use_vmac
    vmac_xmit_base
    virtual_ipaddress {
        fe80::77:100/64
        fd77::100/64
    }
}
vrrp_instance NAMED {
    interface eth0
    virtual_router_id 52
    advert_int 0.1
    use_vmac mine.51
    virtual_ipaddress {
        10.77.0.102/24
    }
}
vrrp_instance LINE {
    interface eth0
    virtual_router_id 53
    advert_int 0.1
    virtual_ipaddress {
        10.77.0.103/24
        10.78.0.103/24 dev d0 use_vmac
    }
}
"""


@pytest.mark.shows("vrrp_instance/use_vmac_addr", "vrrp_instance/vmac_xmit_base", "vrrp_instance/garp_extra_if")
@pytest.mark.shows("global_defs/vmac_prefix", "global_defs/vmac_addr_prefix")
def test_names_settings_and_places_are_keepalived_s() -> None:
    with Lab("a", "b") as lab:
        a, b = lab.nodes["a"], lab.nodes["b"]
        text = BOTH % ("mine", "addr")
        for node in (a, b):
            second_interface(node)
            node.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
        capture = lab.capture()
        ours = lab.vrrpd("a", text)
        theirs = lab.keepalived("b", text)
        lab.until(lambda: "10.77.0.103/24" in held(b)["eth0"] and is_in(ours, "BACKUP", "LINE"))
        heard_all = ("V4", "V6", "NAMED", "LINE")  # V6 with the MAC of eth0: on the macvlan all the same
        lab.always(lambda: all(is_in(ours, "BACKUP", name) for name in heard_all), 1.0)
        made = {name for name in links(a) if name not in ("lo", "eth0", "d0", "d1")}
        assert made == {name for name in links(b) if name not in ("lo", "eth0", "d0", "d1")}
        assert {"mine.51", "mine1.51", "mine6.51", "addr.51", "addr.53"} == made
        for name in made:
            mine, other = links(a)[name], links(b)[name]
            assert mine["linkinfo"] == other["linkinfo"]
            assert (mine["address"], mine["link"], mine["flags"]) == (other["address"], other["link"], other["flags"])
        for name in (*made, "eth0", "d0", "all", "default"):
            values = {setting: (ipv4_setting(a, name, setting), ipv4_setting(b, name, setting)) for setting in SETTINGS}
            if name == "mine6.51":  # as newer keepalived: it must not answer ARP for the addresses of eth0
                assert values.pop("arp_ignore") == ("1", "0")
            assert all(mine == other for mine, other in values.values()), f"{name}: {values}"
        assert theirs.stop() == 0
        lab.until(lambda: all("10.77.0.103/24" in held(a)["eth0"] and is_in(ours, "MASTER", n) for n in ("V4", "V6", "NAMED", "LINE")))
        now = held(a)
        assert {"10.77.0.100/24", "10.77.0.101/24"} == now["mine1.51"] and {"10.77.0.102/24"} == now["mine.51"]
        assert {"10.78.0.100/24"} == now["addr.51"] and {"10.78.0.103/24"} == now["addr.53"]
        assert {"fe80::77:100/64", "fd77::100/64"} == now["mine6.51"]
        begun = len(capture.frames) + len(capture.read())
        with a.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK) as tap:
            tap.bind(("d1", 0x0806))
            time.sleep(2.5)  # both sets of announcements are over
            while _heard(tap):
                pass
            lab.until(lambda: _is_garp(_heard(tap), "10.78.0.100"), what="garp_extra_if")
            lab.until(lambda: _is_garp(_heard(tap), "10.78.0.100"), what="and again")
        capture.read()
        v6 = [frame for frame in adverts(capture.frames[begun:], a.port) if frame[12:14] == b"\x86\xdd"]
        assert v6 and {frame[6:12].hex(":") for frame in v6} == {links(a)["eth0"]["address"]}, "vmac_xmit_base"
        assert ours.stop() == 0
        assert set(links(a)) == {"lo", "eth0", "d0", "d1"} and ipv4_setting(a, "all", "rp_filter") == "1"


@pytest.mark.shows("vrrp_instance/use_ipvlan")
def test_an_ipvlan_speaks_with_its_own_address_and_a_kernel_without_ipvlan_is_named() -> None:
    with Lab("a") as lab:
        node = lab.nodes["a"]
        ip("-n", node.namespace, "link", "add", "try0", "link", "eth0", "type", "ipvlan", "mode", "l2", check=False)
        kernel_has_it = "try0" in links(node)
        ip("-n", node.namespace, "link", "del", "try0", check=False)
        capture = lab.capture()
        daemon = lab.vrrpd("a", conf(150, instance_extra="use_ipvlan ipv0 10.77.0.9/24 private"))
        if not kernel_has_it:
            missing = "no ipv0: ipv0 cannot be made on eth0: the kernel has no ipvlan"
            causes = {missing, "interface ipv0", "no source address 10.77.0.9 on any interface"}
            lab.until(lambda: is_in(daemon, "FAULT") and causes == set(instance(daemon)["faults"]), what=str(instance(daemon)))
        else:
            lab.until(lambda: is_in(daemon, "MASTER"))
            assert links(node)["ipv0"]["linkinfo"] == {"info_kind": "ipvlan", "info_data": {"mode": "l2", "private": True}}
            assert "10.77.0.9/24" in held(node)["ipv0"] and f"{VIP}/24" in held(node)["eth0"]
            capture.read()
            assert {frame[26:30] for frame in adverts(capture.frames, node.port)} == {ip_address("10.77.0.9").packed}
        assert daemon.stop() == 0
        assert "ipv0" not in links(node)
