"""Whose adverts are believed: source × list × secret, each row of the table in vrrp/protocol/belief.py."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from vrrp.protocol.belief import MAX_KNOWN, Belief, DifferingLists
from vrrp.protocol.commands import RemoveAddresses, Report, ReportKind
from vrrp.protocol.events import AdvertReceived, Started
from vrrp.protocol.instance import VrrpInstance
from vrrp.protocol.packet import Advert, Family
from vrrp.protocol.parameters import InstanceParameters
from vrrp.protocol.states import State

S = 1_000_000_000
OURS, PEER, STRANGER = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6"), IPv4Address("10.0.0.66")
VIPS = (IPv4Address("10.0.0.100"), IPv4Address("10.0.0.101"))
LISTS = {
    "same": VIPS,
    "in another order": VIPS[::-1],
    "in part": (VIPS[0], IPv4Address("10.0.0.200")),
    "other": (IPv4Address("10.0.0.222"),),
    "none": (),
}
BASE = InstanceParameters("V", 51, addresses=VIPS, carried=tuple(("eth0", a) for a in VIPS))


def advert(listed: str, priority: int = 200, version: int = 2) -> Advert:
    return Advert(version, Family.IPV4, 51, priority, LISTS[listed], 100)


TABLE = [
    # source       list                 secret  believed by: known  all    none
    ("configured", "same",              False,              (True,  True,  True)),
    ("configured", "other",             False,              (True,  True,  False)),
    ("configured", "none",              False,              (True,  True,  False)),
    ("known",      "same",              False,              (True,  True,  True)),
    ("known",      "in part",           False,              (True,  True,  False)),
    ("known",      "other",             False,              (True,  True,  False)),
    ("known",      "none",              False,              (True,  True,  False)),
    ("unknown",    "same",              False,              (True,  True,  True)),
    ("unknown",    "in another order",  False,              (True,  True,  True)),
    ("unknown",    "in part",           False,              (True,  True,  False)),
    ("unknown",    "other",             True,               (True,  True,  False)),
    ("unknown",    "other",             False,              (False, True,  False)),
    ("unknown",    "none",              False,              (False, True,  False)),
]  # fmt: skip


@pytest.mark.parametrize(("source", "listed", "secret", "expected"), TABLE)
def test_the_table(source: str, listed: str, secret: bool, expected: tuple[bool, bool, bool]) -> None:
    for rule, believed in zip(DifferingLists, expected, strict=True):
        belief = Belief()
        p = replace(BASE, differing_lists=rule, has_secret=secret, peers=frozenset({PEER} if source == "configured" else ()))
        if source == "known":
            assert belief.doubt(PEER, advert("same"), p) is None
        assert (belief.doubt(PEER, advert(listed), p) is None) == believed, rule


def running(version: int, at_ns: int) -> VrrpInstance:
    instance = VrrpInstance(replace(BASE, version=version), local_address=OURS)
    instance.handle(0, Started())
    while (due := instance.next_deadline()) is not None and due <= at_ns:
        instance.on_deadline(due)
    return instance


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("priority", [0, 200])
def test_a_stranger_neither_deposes_nor_holds_back(version: int, priority: int) -> None:
    master = running(version, 5 * S)
    assert master.state is State.MASTER
    commands = master.handle(5 * S, AdvertReceived(STRANGER, advert("other", priority, version)))
    assert [c.kind for c in commands if isinstance(c, Report)] == [ReportKind.STRANGER_HEARD]
    assert not [c for c in commands if isinstance(c, RemoveAddresses)] and master.state is State.MASTER
    assert master.handle(6 * S, AdvertReceived(STRANGER, advert("other", priority, version))) == [], "said once"
    assert master.counters.strangers_heard == 2
    backup = running(version, S)
    due = backup.next_deadline()
    backup.handle(2 * S, AdvertReceived(STRANGER, advert("other", priority, version)))
    assert (backup.next_deadline(), backup.master) == (due, None)


def test_a_known_peer_in_the_middle_of_a_rolling_change_is_elected_with() -> None:
    backup = running(2, S)
    backup.handle(S, AdvertReceived(PEER, advert("same")))
    backup.handle(2 * S, AdvertReceived(PEER, advert("other")))
    assert backup.master is not None and backup.last_heard_ns == 2 * S


def test_only_the_last_ones_are_remembered() -> None:
    belief = Belief()
    for number in range(MAX_KNOWN + 1):
        assert belief.doubt(IPv4Address(number), advert("same"), BASE) is None
    assert belief.doubt(IPv4Address(0), advert("other"), BASE)
    assert belief.doubt(IPv4Address(MAX_KNOWN), advert("other"), BASE) is None


def test_ipv6() -> None:
    p = InstanceParameters("V", 51, version=3, family=Family.IPV6, addresses=(IPv6Address("fe80::100"),))
    other = Advert(3, Family.IPV6, 51, 200, (IPv6Address("fe80::200"),), 100)
    assert Belief().doubt(IPv6Address("fe80::66"), other, p)
