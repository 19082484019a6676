"""Adverts of a real keepalived are heard in both directions; what a daemon would drop is named with its reason."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vrrp import VRRP, VRRPv3

from base.pump import Pump
from tests.watchdog.network import Network
from tests.watchdog.probing.node import ProbingNode
from tests.watchdog.probing.test_arp import attacker
from vrrp.config.load import load_config
from vrrp.config.model.instance import VrrpInstance
from vrrp.protocol.packet import DecodeError
from watchdog.config.model import GroupKey
from watchdog.judgement.events import AdvertHeard, WatcherEvent
from watchdog.probing.kernel import KernelMonitor
from watchdog.probing.sniffer import MAX_ADVERTS_PER_INTERVAL, AdvertSniffer, parse_frame

pytestmark = pytest.mark.system

KEY = GroupKey(51, 4)
MAC = "02:00:00:00:00:0b"
AH_HEADER = bytes(IP(src="10.77.0.9", dst="224.0.0.18", ttl=255, proto=51, len=64))


def keepalived_conf(**changes: str) -> str:
    values = {"version": "", "auth": "authentication { auth_type PASS\n auth_pass secret }", "interval": "1", "extra": ""} | changes
    return f"""
global_defs {{ router_id x
 {values["version"]} }}
vrrp_instance VI_1 {{
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int {values["interval"]}
    {values["auth"]}
    {values["extra"]}
    virtual_ipaddress {{
        10.77.0.100/24
    }}
}}
"""


def instances(tmp_path: Path, text: str) -> tuple[VrrpInstance, ...]:
    path = tmp_path / "sniffer.conf"
    path.write_text(text)
    return load_config(str(path)).config.instances


@pytest.fixture
def net() -> Iterator[Network]:
    network = Network("w", "a")
    yield network
    network.close()


def node_on(net: Network, name: str, models: tuple[VrrpInstance, ...]) -> ProbingNode:
    def make(pump: Pump, kernel: KernelMonitor, emit: Callable[[WatcherEvent], None]) -> AdvertSniffer:
        sniffer = AdvertSniffer(pump, kernel, emit)
        sniffer.watch(models)
        return sniffer

    return ProbingNode(net, name, make)


def v2(ttl: int = 255, source: str = "10.77.0.9", destination: str = "224.0.0.18", **changes: Any) -> bytes:
    fields: dict[str, Any] = {"vrid": 51, "priority": 100, "ipcount": 1, "addrlist": ["10.77.0.100"], "authtype": 1, "adv": 1}
    fields |= {"auth1": int.from_bytes(b"secr", "big"), "auth2": int.from_bytes(b"et\0\0", "big")} | changes
    ether = Ether(dst="01:00:5e:00:00:12", src=MAC)
    return bytes(ether / IP(src=source, dst=destination, ttl=ttl, proto=112) / VRRP(**fields))


def v3(chksum: int | None = None, addresses: tuple[str, ...] = ("10.77.0.100",)) -> bytes:
    vrrp = VRRPv3(vrid=51, priority=100, ipcount=len(addresses), addrlist=list(addresses), adv=100, chksum=chksum)
    return bytes(Ether(dst="01:00:5e:00:00:12", src=MAC) / IP(src="10.77.0.9", dst="224.0.0.18", ttl=255, proto=112) / vrrp)


@contextmanager
def keepalived(net: Network, name: str, directory: Path, text: str) -> Iterator[None]:
    """Debian's keepalived on a node."""
    path = directory / "keepalived.conf"
    path.write_text(text)
    pids = ["-p", str(directory / "parent.pid"), "-r", str(directory / "vrrp.pid")]
    argv = ["ip", "netns", "exec", net.namespace(name), "keepalived", "-n", "-l", "-P", "-f", str(path), *pids]
    with (directory / "log").open("wb") as log:
        daemon = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(10)


def hear_both(here: ProbingNode, there: ProbingNode) -> None:
    def both() -> bool:
        here.turn()
        return bool(here.events and there.events)

    there.until(both, 20)


@pytest.mark.parametrize("vmac", [False, True], ids=["plain", "use_vmac"])
def test_real_keepalived_is_heard_outgoing_and_incoming(net: Network, tmp_path: Path, vmac: bool) -> None:
    text = keepalived_conf(extra="use_vmac" if vmac else "")
    models = instances(tmp_path, text)
    here, there = node_on(net, "a", models), node_on(net, "w", models)
    with keepalived(net, "a", tmp_path, text):
        hear_both(here, there)
    mac = "00:00:5e:00:01:33" if vmac else net.mac("a")
    common = {"interface": "eth0", "key": KEY, "source_ip": net.address("a"), "source_mac": mac, "interval_ms": 1000}
    expected = AdvertHeard(priority=150, outgoing=True, vips=("10.77.0.100",), problem="", **common)  # type: ignore[arg-type]
    assert here.events[0] == expected
    expected = AdvertHeard(priority=150, outgoing=False, vips=("10.77.0.100",), problem="", **common)  # type: ignore[arg-type]
    assert there.events[0] == expected
    there.until(lambda: any(isinstance(e, AdvertHeard) and e.priority == 0 for e in there.events))
    assert not here.part.reflected and not there.part.reflected
    here.close()
    there.close()


def test_real_adverts_over_ipv6_are_heard(net: Network, tmp_path: Path) -> None:
    text = """
global_defs { router_id x
 vrrp_version 3 }
vrrp_instance VI_6 {
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 0.5
    virtual_ipaddress {
        fe80::100
        2001:db8:77::100/64
    }
}
"""
    models = instances(tmp_path, text)
    here, there = node_on(net, "a", models), node_on(net, "w", models)
    with keepalived(net, "a", tmp_path, text):
        hear_both(here, there)
    for node, outgoing in ((here, True), (there, False)):
        heard = node.of(AdvertHeard)[0]
        assert (heard.key, heard.priority, heard.interval_ms, heard.outgoing) == (GroupKey(51, 6), 150, 500, outgoing)
        assert heard.source_ip.startswith("fe80::") and heard.source_mac == net.mac("a") and not heard.problem
        assert heard.vips == ("fe80::100", "2001:db8:77::100")
        node.close()


def test_real_adverts_in_authentication_headers_are_heard_and_checked(net: Network, tmp_path: Path) -> None:
    """keepalived's auth_type AH: protocol 51, the advert is the next header."""
    text = keepalived_conf(auth="authentication { auth_type AH\n auth_pass secret }")
    models = instances(tmp_path, text)
    here, there = node_on(net, "a", models), node_on(net, "w", models)
    without = node_on(net, "w", instances(tmp_path, keepalived_conf()))
    other = node_on(net, "w", instances(tmp_path, text.replace("secret", "other")))
    with keepalived(net, "a", tmp_path, text):
        hear_both(here, there)
        without.until(lambda: without.events)
        other.until(lambda: other.events)
    assert (here.of(AdvertHeard)[0].outgoing, there.of(AdvertHeard)[0].outgoing) == (True, False)
    for node, problem in ((here, ""), (there, ""), (without, "auth_type"), (other, "authentication")):
        heard = node.of(AdvertHeard)[0]
        assert (heard.key, heard.priority, heard.vips) == (KEY, 150, ("10.77.0.100",))
        assert heard.problem.partition(":")[0].split(" ")[0] == problem
        node.close()


def test_adverts_of_a_vlan_are_not_taken_for_those_of_the_interface_below(net: Network, tmp_path: Path) -> None:
    """The kernel puts the tag beside the frame and shows it on eth0 as if it had none; it belongs to eth0.10."""
    node = node_on(net, "w", instances(tmp_path, keepalived_conf()))
    raw = attacker(net, "a")
    tagged = Ether(v2(priority=66))
    raw.send(bytes(Ether(dst=tagged.dst, src=tagged.src) / Dot1Q(vlan=10) / tagged.payload))
    raw.send(v2(priority=77))
    node.until(lambda: node.events)
    assert [event.priority for event in node.of(AdvertHeard)] == [77]
    raw.close()
    node.close()


@pytest.mark.parametrize(
    ("conf", "frame", "problem"),
    [
        ({}, v2(), ""),
        ({}, v2(priority=0), ""),
        ({}, v2(ttl=254), "ttl"),
        ({}, v2(auth1=0), "password"),
        ({}, v2(authtype=0, auth1=0, auth2=0), "auth_type"),
        ({}, v2(adv=3), "interval"),
        ({}, v2(chksum=0x1234), "checksum"),
        ({}, v2(addrlist=["10.77.0.101"]), "vip_list"),
        ({}, v2(addrlist=["10.77.0.100", "10.77.0.101"], ipcount=2), "vip_list"),
        ({"extra": "skip_check_adv_addr"}, v2(addrlist=["10.77.0.101"]), ""),
        ({}, v2(destination="224.0.0.19"), "wrong_group"),
        ({}, v2(destination="10.77.0.1"), "unicast_unexpected"),
        ({}, v2(source="10.77.0.1"), "own_address"),
        ({}, v3(), "version"),
        ({"version": "vrrp_version 3", "auth": ""}, v3(), ""),
        ({"version": "vrrp_version 3", "auth": ""}, v3(chksum=0x1234), "checksum"),
        ({"version": "vrrp_version 3", "auth": ""}, v3(addresses=("10.77.0.7",)), "vip_list"),
        ({"version": "vrrp_version 3", "auth": ""}, v2(authtype=0), "version"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_problems_are_named(net: Network, tmp_path: Path, conf: dict[str, str], frame: bytes, problem: str) -> None:
    node = node_on(net, "w", instances(tmp_path, keepalived_conf(**conf)))
    raw = attacker(net, "a")
    raw.send(frame)
    node.until(lambda: node.events)
    heard = node.of(AdvertHeard)[0]
    assert heard.problem.partition(":")[0].split(" ")[0] == problem
    assert (heard.key, heard.source_mac, heard.outgoing) == (KEY, MAC, False)
    raw.close()
    node.close()


def test_unknown_routers_and_reflections_are_counted_not_reported(net: Network, tmp_path: Path) -> None:
    node = node_on(net, "w", instances(tmp_path, keepalived_conf()))
    raw = attacker(net, "a")
    for vrid in range(100, 256):
        raw.send(v2(vrid=vrid))
    mine = bytearray(v2())
    mine[6:12] = bytes.fromhex(net.mac("w").replace(":", ""))
    raw.send(bytes(mine))
    raw.send(v2())
    node.until(lambda: node.events)
    assert len(node.events) == 1 and node.part.reflected == 1 and len(node.part.foreign_vrids) == 64
    assert node.part.foreign_vrids["eth0 100/4 from 10.77.0.9"] == 1
    raw.close()
    node.close()


def test_a_flood_of_mutated_adverts_is_bounded_and_counted(net: Network, tmp_path: Path) -> None:
    node = node_on(net, "w", instances(tmp_path, keepalived_conf()))
    raw = attacker(net, "a")
    rng = random.Random("adverts")
    good = v2()
    for number in range(5_000):
        frame = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            frame[rng.randrange(14, len(frame))] = rng.randrange(256)
        raw.send(bytes(frame[: rng.randint(24, len(frame))]))
        if number % 50 == 0:
            node.turn(0)
    raw.send(v2(priority=77))
    node.until(lambda: any(event.priority == 77 and not event.problem for event in node.of(AdvertHeard)))
    counters = node.part.snapshot()["interfaces"]["eth0"]
    assert counters["malformed"] > 100
    accepted = [event for event in node.of(AdvertHeard) if not event.problem]
    assert all(event.vips == ("10.77.0.100",) for event in accepted)
    node.events.clear()
    for number in range(2_000):
        raw.send(v2(source=f"10.77.{number >> 8}.{number & 255}"))
    node.turn(0)
    node.turn(0)
    assert len(node.events) <= 2 * MAX_ADVERTS_PER_INTERVAL
    raw.close()
    node.close()


def test_an_interface_that_comes_later_is_heard(net: Network, tmp_path: Path) -> None:
    net.ip("w", "link del eth0")
    node = node_on(net, "w", instances(tmp_path, keepalived_conf()))
    assert node.part.snapshot()["interfaces"]["eth0"]["problem"]
    net.ip("switch", f"link add pw type veth peer name eth0 netns {net.namespace('w')}\nlink set pw master br0 up")
    net.ip("w", "link set eth0 up")
    raw = attacker(net, "a")

    def heard() -> bool:
        raw.send(v2())
        return bool(node.events)

    node.until(heard)
    raw.close()
    node.close()


@given(st.binary(max_size=120))
def test_parsing_is_total(frame: bytes) -> None:
    for prefix in (b"", b"\0" * 12 + b"\x08\x00", b"\0" * 12 + b"\x08\x00" + AH_HEADER, b"\0" * 12 + b"\x86\xdd\x60"):
        try:
            parse_frame(prefix + frame)
        except DecodeError as error:
            assert error.reason


def test_ipv6_adverts_are_parsed() -> None:
    vrrp = VRRPv3(vrid=51, priority=100, ipcount=1, addrlist=["fe80::100"], adv=100)
    frame = bytes(Ether(dst="33:33:00:00:00:12", src=MAC) / IPv6(src="fe80::1", dst="ff02::12", hlim=255, nh=112) / vrrp)
    datagram = parse_frame(frame)
    assert (str(datagram.source), datagram.ttl, len(datagram.payload)) == ("fe80::1", 255, 24)
