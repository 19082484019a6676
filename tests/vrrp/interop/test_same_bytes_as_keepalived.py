"""For the same configuration both daemons put the same bytes on the wire, the IP id (and the checksum over it) excepted."""

from __future__ import annotations

import signal

import pytest

from tests.lab import Capture, Daemon, Lab
from tests.vrrp.interop.vrrp_conf import VIP, conf

pytestmark = pytest.mark.system

TWO_VIPS = "virtual_ipaddress_excluded {\n 10.77.0.111/24\n}"
CASES = {
    "v3": {"version": 3, "interval": "0.1"},
    "v3, another interval": {"version": 3, "interval": "0.25"},
    "v3 unicast": {"version": 3, "interval": "0.1", "peer": "10.77.0.2", "source": "10.77.0.1"},
    "v2": {"version": 2, "interval": "1"},
    "v2 PASS, odd length": {"version": 2, "interval": "1", "password": "abc"},
    "v2 PASS, full length": {"version": 2, "interval": "1", "password": "12345678"},
    "group, excluded address": {"version": 3, "interval": "0.1", "global_extra": "vrrp_mcast_group4 224.0.0.99", "instance": TWO_VIPS},
}


def without_ip_id(frame: bytes) -> bytes:
    """An Ethernet frame with an IPv4 packet, IP id and header checksum blanked."""
    return frame[:18] + b"\0\0" + frame[20:24] + b"\0\0" + frame[26:]


def adverts(capture: Capture) -> list[bytes]:
    return [without_ip_id(data) for port, data in capture.frames if port == "p1" and data[12:14] == b"\x08\x00" and data[23] == 112]


def announcements(capture: Capture) -> list[bytes]:
    return [data[:42] for port, data in capture.frames if port == "p1" and data[12:14] == b"\x08\x06" and data[28:32] == data[38:42]]


def life(lab: Lab, start: str, text: str) -> tuple[list[bytes], set[bytes], int]:
    """(distinct adverts in order, distinct announcements, number of announcements in the first set) of one daemon's life on node a."""
    capture = lab.capture()
    daemon: Daemon = getattr(lab, start)("a", text)
    lab.until(lambda: lab.nodes["a"].holds(VIP), what=f"{start} becomes MASTER")
    lab.until(lambda: capture.read() is not None and len(adverts(capture)) >= 2, what="two adverts")
    daemon.signal(signal.SIGTERM)
    daemon.stop()
    capture.read()
    distinct = list(dict.fromkeys(adverts(capture)))
    garps = announcements(capture)
    return distinct, set(garps), len(garps)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_adverts_and_announcements_are_equal(case: dict[str, str]) -> None:
    text = conf(150, **case)  # type: ignore[arg-type]
    with Lab("a", "b") as lab:
        theirs = life(lab, "keepalived", text)
        ours = life(lab, "vrrpd", text)
    assert ours[0] == theirs[0], "the regular advert, then the one with priority 0"
    assert len(ours[0]) == 2
    assert ours[1:] == theirs[1:]
