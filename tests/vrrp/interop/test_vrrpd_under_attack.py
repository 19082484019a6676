"""Bad packets on the wire: counted, said without flooding the log, and of no effect. scapy builds, a third host sends."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.layers.vrrp import VRRP, VRRPv3

from base.control import ControlClient
from tests.lab import Capture, Daemon, Lab
from tests.vrrp.interop.vrrp_conf import VIP, VRID, conf

pytestmark = pytest.mark.system

ATTACKER = "10.77.0.3"
PACKETS = 6000


def status(daemon: Daemon) -> dict[str, Any]:
    with ControlClient(str(daemon.directory / "run" / "vrrpd.sock"), timeout_s=20) as client:
        found: dict[str, Any] = client.call("status")
        return found


def instance(daemon: Daemon) -> dict[str, Any]:
    try:
        return dict(status(daemon)["instances"][0])
    except (OSError, IndexError):
        return {"state": "not running"}


def frame(payload: bytes, **ip: Any) -> bytes:
    fields = {"src": ATTACKER, "dst": "224.0.0.18", "ttl": 255, "proto": 112, "tos": 0xC0, **ip}
    return bytes(Ether(dst="01:00:5e:00:00:12", src="02:00:00:00:00:99", type=0x0800) / IP(**fields) / payload)


def good(priority: int = 250) -> bytes:
    """A well-formed v3 advert whose acceptance would change everything."""
    packet = IP(src=ATTACKER, dst="224.0.0.18", ttl=255, proto=112) / VRRPv3(vrid=VRID, priority=priority, adv=10, addrlist=[VIP])
    return bytes(packet)[20:]


def attacks(seed: int) -> Iterator[bytes]:
    """Frames none of which may be taken for an advert."""
    rng = random.Random(seed)
    v2 = bytes(IP(src=ATTACKER, dst="224.0.0.18") / VRRP(vrid=VRID, priority=250, adv=1, addrlist=[VIP]))[20:]
    for number in range(PACKETS):
        payload = bytearray(good())
        match number % 8:
            case 0:
                payload[rng.randrange(len(payload))] ^= rng.randrange(1, 256)
                yield frame(bytes(payload))
            case 1:
                yield frame(bytes(payload)[: rng.randrange(len(payload))])
            case 2:
                yield frame(bytes(payload) + rng.randbytes(rng.randrange(1, 60)))
            case 3:
                yield frame(rng.randbytes(rng.randrange(0, 200)))
            case 4:
                yield frame(bytes(payload), ttl=rng.randrange(1, 255))
            case 5:
                yield frame(v2)
            case 6:
                yield frame(b"\x31" + bytes([VRID]) + rng.randbytes(rng.randrange(0, 1200)))
            case 7:
                yield frame(bytes(payload), dst="10.77.0.1")


def adverts(capture: Capture, port: str) -> int:
    return sum(1 for p, f in capture.frames if p == port and f[12:14] == b"\x08\x00" and f[23] == 112)


def test_a_flood_of_bad_packets_changes_nothing() -> None:
    with Lab("a", "b", "x") as lab:
        first, second = lab.vrrpd("a", conf(150)), lab.vrrpd("b", conf(100))
        lab.until(lambda: instance(first)["state"] == "MASTER" and instance(second)["state"] == "BACKUP")
        before = [instance(daemon) for daemon in (first, second)]
        skipped = status(first)["packets"]["flooded"]
        frames = list(attacks(seed=1))
        sender = lab.nodes["x"].socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind(("eth0", 0))
        capture = lab.capture()
        begin = time.monotonic()
        for number, data in enumerate(frames):
            sender.send(data)
            if number % 200 == 199:
                time.sleep(0.1)
                capture.read()
        took = time.monotonic() - begin
        sender.close()
        time.sleep(0.5)
        capture.read()
        after = [instance(daemon) for daemon in (first, second)]
        assert [(i["state"], i["since_ns"], i["priority"]) for i in after] == [(i["state"], i["since_ns"], i["priority"]) for i in before]
        assert [lab.nodes[n].holds(VIP) for n in ("a", "b")] == [True, False]
        skipped = status(first)["packets"]["flooded"] - skipped
        assert skipped + sum(after[0]["rejected"].values()) > PACKETS // 4, "counted: refused, or passed over because there were so many"
        assert {"ttl", "checksum", "length", "version"} <= set(after[1]["rejected"])
        # keepalived's MASTER falls silent under such packets; ours keeps its pace.
        assert adverts(capture, "p1") >= 0.8 * took / 0.1
        for daemon in (first, second):
            assert daemon.log.stat().st_size < 40_000, "the log is not flooded"


def test_bad_packets_do_not_hold_up_a_takeover() -> None:
    with Lab("a", "b", "x") as lab:
        first, second = lab.vrrpd("a", conf(150)), lab.vrrpd("b", conf(100))
        lab.until(lambda: instance(first)["state"] == "MASTER" and instance(second)["state"] == "BACKUP")
        sender = lab.nodes["x"].socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind(("eth0", 0))
        bad = frame(good()[:-1] + b"\x00")
        first.kill()
        begin = time.monotonic()
        while not lab.nodes["b"].holds(VIP):
            sender.send(bad)
            assert time.monotonic() - begin < 3, "rejected packets moved the master-down timer"
        sender.close()


def test_a_valid_lower_master_is_answered_but_not_followed() -> None:
    with Lab("a", "x") as lab:
        ours = lab.vrrpd("a", conf(150))
        lab.until(lambda: instance(ours)["state"] == "MASTER")
        sender = lab.nodes["x"].socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind(("eth0", 0))
        time.sleep(1.2)
        capture = lab.capture()
        packet = bytes(IP(src="10.77.0.2", dst="224.0.0.18", ttl=255, proto=112) / VRRPv3(vrid=VRID, priority=50, adv=10, addrlist=[VIP]))
        begin = time.monotonic()
        for _ in range(500):
            sender.send(frame(packet[20:], src="10.77.0.2"))
            time.sleep(0.002)
        took = time.monotonic() - begin
        sender.close()
        time.sleep(0.2)
        capture.read()
        assert instance(ours)["state"] == "MASTER"
        assert adverts(capture, "p1") <= 2 * took / 0.1 + 6, "at most one unscheduled advert per interval"
        announced = sum(1 for p, f in capture.frames if p == "p1" and f[12:14] == b"\x08\x06" and f[28:32] == f[38:42])
        assert 5 <= announced <= 5 * (took + 4), "one set a second, and the second sets after 5 s"
