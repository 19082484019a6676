"""What the laboratory's programs put on the wire, read by scapy."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from scapy.all import ARP, Ether, ICMPv6ND_NS, IPv6, raw
from scapy.layers.inet import IP
from scapy.layers.vrrp import VRRPv3

PROGRAMS = Path(__file__).resolve().parents[2] / "brainctl/demo/programs"
PLAN = {"mac": "02:00:00:00:00:09", "source": "10.1.2.3", "vip": "10.1.2.100", "vrid": 7, "priority": 1, "interval_cs": 50}


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_forged_advert_is_a_good_one_in_the_peers_name() -> None:
    frame = Ether(program("forger").advert(PLAN))
    assert frame.src == PLAN["mac"]
    assert (frame[IP].src, frame[IP].dst, frame[IP].ttl) == ("10.1.2.3", "224.0.0.18", 255)
    assert (frame[VRRPv3].vrid, frame[VRRPv3].priority, frame[VRRPv3].addrlist) == (7, 1, ["10.1.2.100"])
    again = frame.copy()
    del again[IP].chksum
    del again[VRRPv3].chksum
    assert raw(again)[: len(raw(frame))] == raw(frame)


def test_a_forged_claim_says_where_an_address_is() -> None:
    frame = Ether(program("forger").claim(PLAN, "10.1.2.3"))
    assert (frame[ARP].op, frame[ARP].psrc, frame[ARP].hwsrc) == (2, "10.1.2.3", PLAN["mac"])


def test_the_observers_question_about_an_ipv6_address_teaches_nobody() -> None:
    target = bytes.fromhex("fd12" + "00" * 12 + "abcd")
    frame = Ether(program("observer").solicitation(bytes.fromhex("020000000009"), target))
    assert (frame.dst, frame[IPv6].src, frame[IPv6].dst) == ("33:33:ff:00:ab:cd", "::", "ff02::1:ff00:abcd")
    assert frame[ICMPv6ND_NS].tgt == "fd12::abcd"
    again = frame.copy()
    del again[ICMPv6ND_NS].cksum
    assert raw(again) == raw(frame)
