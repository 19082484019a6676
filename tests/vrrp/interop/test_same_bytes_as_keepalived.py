"""For the same configuration both daemons put the same bytes on the wire, the IP id (and the checksum over it) excepted."""

from __future__ import annotations

import signal

import pytest

from tests.lab import Capture, Daemon, Lab
from tests.vrrp.interop.vrrp_conf import SERVICE6, VIP, conf, priority_of

pytestmark = pytest.mark.system

IPV6 = b"\x86\xdd"
TWO_VIPS = "virtual_ipaddress_excluded {\n 10.77.0.111/24\n}"
CASES = {
    "v3": {"version": 3, "interval": "0.1"},
    "v3, another interval": {"version": 3, "interval": "0.25"},
    "v3 unicast": {"version": 3, "interval": "0.1", "peer": "10.77.0.2", "source": "10.77.0.1"},
    "v2": {"version": 2, "interval": "1"},
    "v2 PASS, odd length": {"version": 2, "interval": "1", "password": "abc"},
    "v2 PASS, full length": {"version": 2, "interval": "1", "password": "12345678"},
    "v2 AH": {"version": 2, "interval": "1", "password": "geheimes", "auth_type": "AH"},
    "v2 AH unicast": {
        "version": 2,
        "interval": "1",
        "password": "abc",
        "auth_type": "AH",
        "peer": "10.77.0.2",
        "source": "10.77.0.1",
    },
    "IPv6": {"version": 3, "interval": "0.1", "ipv6": True},
    "IPv6 unicast": {
        "version": 3,
        "interval": "0.1",
        "ipv6": True,
        "peer": "fd77::2",
        "source": "fd77::1",
        "instance_extra": "unicast_ttl 255",
    },
    "group, excluded address": {"version": 3, "interval": "0.1", "global_extra": "vrrp_mcast_group4 224.0.0.99", "instance": TWO_VIPS},
}


def without_ip_id(frame: bytes) -> bytes:
    """An Ethernet frame, IP id and header checksum (IPv6: the flow label, which keepalived leaves to its kernel) blanked."""
    if frame[12:14] == IPV6:
        return frame[:15] + bytes([frame[15] & 0xF0]) + b"\0\0" + frame[18:]
    return frame[:18] + b"\0\0" + frame[20:24] + b"\0\0" + frame[26:]


def adverts(capture: Capture) -> list[bytes]:
    return [without_ip_id(data) for port, data in capture.frames if port == "p1" and priority_of(data) is not None]


def announcements(capture: Capture) -> list[bytes]:
    """Gratuitous ARPs and unsolicited neighbour advertisements to all nodes."""
    mine = [data for port, data in capture.frames if port == "p1"]
    arps = [data[:42] for data in mine if data[12:14] == b"\x08\x06" and data[28:32] == data[38:42]]
    return arps + [data for data in mine if data[12:14] == IPV6 and data[20] == 58 and data[54] == 136 and data[38] == 0xFF]


def life(lab: Lab, start: str, text: str, vip: str) -> tuple[list[bytes], set[bytes], int]:
    """(distinct adverts in order, distinct announcements, number of announcements in the first set) of one daemon's life on node a."""
    capture = lab.capture()
    daemon: Daemon = getattr(lab, start)("a", text)
    lab.until(lambda: lab.nodes["a"].holds(vip), what=f"{start} becomes MASTER")
    lab.until(lambda: capture.read() is not None and len(adverts(capture)) >= 2, what="two adverts")
    daemon.signal(signal.SIGTERM)
    daemon.stop()
    capture.read()
    distinct = list(dict.fromkeys(adverts(capture)))
    garps = announcements(capture)
    return distinct, set(garps), len(garps)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.shows("global_defs/vrrp_mcast_group4", "vrrp_instance/unicast_ttl", "vrrp_instance/virtual_ipaddress_excluded")
def test_adverts_and_announcements_are_equal(case: dict[str, str]) -> None:
    text = conf(150, **case)  # type: ignore[arg-type]
    with Lab("a", "b") as lab:
        vip = SERVICE6 if "ipv6" in case else VIP
        theirs = life(lab, "keepalived", text, vip)
        ours = life(lab, "vrrpd", text, vip)
    assert ours[0] == theirs[0], "the regular advert, then the one with priority 0"
    assert len(ours[0]) == (3 if case.get("auth_type") == "AH" else 2), "with AH no two are equal: they are counted"
    assert ours[1:] == theirs[1:]
