"""An address is (interface, address): cases H1, T5 and T7, and a virtual MAC's interface, on the real core."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from base.core import NS_PER_MS
from tests.watchdog.judgement.lab import KEY, MACS, VIP, Lab, make_settings
from watchdog.config.model import GroupKey, GroupSettings, LinkAddress, Mode
from watchdog.groups import read_groups
from watchdog.judgement import commands as c
from watchdog.judgement import events as e
from watchdog.judgement.verdict import Verdict
from watchdog.judgement.watcher import WatcherCore

PEER_MAC, OWN_MAC = MACS["b"], MACS["a"]
SHARED = "fe80::1"
INSIDE, OUTSIDE = GroupKey(51, 6), GroupKey(52, 6)
TWO_LINKS = (
    GroupSettings(INSIDE, "VI_IN", "eth0", (LinkAddress("eth0", SHARED),), 150, 3, 1_000),
    GroupSettings(OUTSIDE, "VI_OUT", "eth1", (LinkAddress("eth1", SHARED),), 150, 3, 1_000),
)
GROUP = GroupKey(51, 4)
SETTLED_NS = 6_000 * NS_PER_MS


class Watcher:
    """One core, settled, with what it ordered."""

    def __init__(self, groups: tuple[GroupSettings, ...], *held: e.HeldAddress, mode: Mode = Mode.RESOLVE) -> None:
        self.core = WatcherCore(make_settings("a", mode), key=KEY)
        self.now_ns = 10**9
        self.out: list[c.WatcherCommand] = []
        self.feed(e.Started(10**18, b"b" * 8, b"n" * 8, 1, groups, held, macs=(OWN_MAC,), same_boot=True))
        self.feed(e.LocalDaemonChanged(e.DaemonState.RUNNING))
        self.pass_time(SETTLED_NS)

    def feed(self, event: e.WatcherEvent) -> None:
        self.out += self.core.handle(self.now_ns, event)

    def pass_time(self, ns: int) -> None:
        """Deadlines fire; a probe is answered by nobody, the reference always."""
        end_ns = self.now_ns + ns
        while (due_ns := self.core.next_deadline()) is not None and due_ns < end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            commands = self.core.on_deadline(self.now_ns)
            self.out += commands
            for command in commands:
                if isinstance(command, c.ProbeReference):
                    self.feed(e.ReferenceAnswered(command.name))
        self.now_ns = end_ns

    def advert_of_peer(self, key: GroupKey, interface: str) -> None:
        """So that the peer's MAC is known."""
        self.feed(e.AdvertHeard(interface, key, 100, "10.0.0.2", PEER_MAC, False, 1_000))

    def claim(self, interface: str, address: str) -> None:
        self.feed(e.OwnerClaimed(interface, address, PEER_MAC, PEER_MAC, gratuitous=True))

    def verdict(self, key: GroupKey) -> Verdict:
        return self.core.state.groups[key].track.verdict

    def own(self, key: GroupKey) -> bool:
        return self.core.state.groups[key].own

    def removed(self) -> set[tuple[str, str]]:
        return {(x.interface, x.address) for x in self.out if isinstance(x, c.RemoveAddress)}

    def probed(self) -> set[tuple[str, str]]:
        return {(x.interface, x.address) for x in self.out if isinstance(x, c.ProbeOwners)}


def test_two_groups_that_share_a_link_local_address_are_two_addresses() -> None:
    watcher = Watcher(TWO_LINKS, e.HeldAddress("eth0", SHARED))
    assert (watcher.own(INSIDE), watcher.own(OUTSIDE)) == (True, False)
    watcher.advert_of_peer(OUTSIDE, "eth1")
    watcher.claim("eth1", SHARED)
    assert watcher.verdict(INSIDE) is not Verdict.SPLIT_BRAIN, "the peer owns it on the other link"
    watcher.claim("eth0", SHARED)
    assert watcher.verdict(INSIDE) is Verdict.SPLIT_BRAIN


def test_losing_it_on_one_link_leaves_it_on_the_other() -> None:
    watcher = Watcher(TWO_LINKS, e.HeldAddress("eth0", SHARED), e.HeldAddress("eth1", SHARED))
    watcher.feed(e.AddressChanged("eth1", SHARED, False))
    assert (watcher.own(INSIDE), watcher.own(OUTSIDE)) == (True, False)
    watcher.feed(e.LocalDaemonChanged(e.DaemonState.STOPPED))
    watcher.pass_time(7_000 * NS_PER_MS)
    assert watcher.removed() == {("eth0", SHARED)}


def test_an_orphan_serves_until_the_peer_does() -> None:
    """Promise 9: plain VRRP would have served clients from it; nobody takes it sooner than Master_Down_Interval after the last advert."""
    group = GroupSettings(GROUP, "VI_1", "eth0", (LinkAddress("eth0", VIP),), 150, 3, 1_000)
    watcher = Watcher((group,), e.HeldAddress("eth0", VIP))
    watcher.feed(e.LocalDaemonChanged(e.DaemonState.RUNNING))
    watcher.feed(e.LocalDaemonChanged(e.DaemonState.STOPPED))
    watcher.pass_time(3_000 * NS_PER_MS)
    assert watcher.removed() == set()
    watcher.advert_of_peer(GROUP, "eth0")
    watcher.pass_time(300 * NS_PER_MS)
    assert watcher.removed() == {("eth0", VIP)}


def test_an_orphan_that_nobody_takes_is_removed() -> None:
    group = GroupSettings(GROUP, "VI_1", "eth0", (LinkAddress("eth0", VIP),), 150, 3, 1_000)
    watcher = Watcher((group,), e.HeldAddress("eth0", VIP))
    watcher.feed(e.LocalDaemonChanged(e.DaemonState.RUNNING))
    watcher.feed(e.LocalDaemonChanged(e.DaemonState.STOPPED))
    watcher.pass_time(4_700 * NS_PER_MS)
    assert watcher.removed() == {("eth0", VIP)}


def test_each_link_is_asked_about_its_own_address() -> None:
    watcher = Watcher(TWO_LINKS)
    watcher.pass_time(5_000 * NS_PER_MS)
    assert {("eth0", SHARED), ("eth1", SHARED)} <= watcher.probed()


def test_an_address_on_lo_owns_nothing_and_is_never_removed() -> None:
    """Case T5: the director that is a real server too."""
    group = GroupSettings(GROUP, "VI_1", "eth0", (LinkAddress("eth0", VIP),), 150, 2, 1_000)
    watcher = Watcher((group,), e.HeldAddress("lo", VIP))
    assert not watcher.own(GROUP)
    watcher.advert_of_peer(GROUP, "eth0")
    watcher.claim("eth0", VIP)
    assert watcher.verdict(GROUP) is not Verdict.SPLIT_BRAIN
    watcher.feed(e.LocalDaemonChanged(e.DaemonState.STOPPED))
    watcher.pass_time(5_000 * NS_PER_MS)
    assert watcher.removed() == set()


def test_an_address_with_dev_is_asked_for_and_watched_on_that_interface() -> None:
    """Case T7: VRRP on eth0, the address on eth2."""
    group = GroupSettings(GROUP, "VI_1", "eth0", (LinkAddress("eth2", VIP),), 150, 2, 1_000)
    watcher = Watcher((group,), e.HeldAddress("eth2", VIP))
    watcher.pass_time(3_000 * NS_PER_MS)
    assert ("eth2", VIP) in watcher.probed() and ("eth0", VIP) not in watcher.probed()
    watcher.advert_of_peer(GROUP, "eth0")
    watcher.pass_time(7_000 * NS_PER_MS)
    watcher.claim("eth0", VIP)
    assert watcher.verdict(GROUP) is not Verdict.SPLIT_BRAIN, "who answers on another LAN does not own it on this one"
    watcher.claim("eth2", VIP)
    assert watcher.verdict(GROUP) is Verdict.SPLIT_BRAIN


def test_an_address_on_the_virtual_interface_owns_the_lan_below_it() -> None:
    group = GroupSettings(GROUP, "VI_1", "eth0", (LinkAddress("eth0", VIP),), 150, 2, 1_000, use_vmac=True)
    watcher = Watcher((group,), e.HeldAddress("vrrp.51", VIP, "eth0"))
    assert watcher.own(GROUP)
    watcher.feed(e.AddressChanged("eth0", VIP, True))
    watcher.feed(e.AddressChanged("vrrp.51", VIP, False, "eth0"))
    assert watcher.own(GROUP), "the interface below holds it still"
    watcher.feed(e.LocalDaemonChanged(e.DaemonState.STOPPED))
    watcher.pass_time(7_000 * NS_PER_MS)
    assert watcher.removed() == {("eth0", VIP)}


def test_every_family_of_a_group_is_asked_for() -> None:
    addresses = (LinkAddress("eth0", VIP), LinkAddress("eth2", "2001:db8::100"))
    group = GroupSettings(GROUP, "VI_1", "eth0", addresses, 150, 3, 1_000)
    watcher = Watcher((group,))
    watcher.pass_time(5_000 * NS_PER_MS)
    assert {("eth0", VIP), ("eth2", "2001:db8::100")} <= watcher.probed()


def test_one_vrid_on_two_lans_is_misconfigured_and_said(tmp_path: Path) -> None:
    """Case T10: brainctl check refuses it; a running keepalived does not, and the watcher must not say HEALTHY."""
    conf = tmp_path / "keepalived.conf"
    block = (
        "vrrp_instance {name} {{\n  interface {link}\n  virtual_router_id 51\n  priority 150\n  virtual_ipaddress {{\n    {vip}\n  }}\n}}\n"
    )
    conf.write_text(block.format(name="VI_IN", link="eth0", vip=VIP) + block.format(name="VI_OUT", link="eth1", vip="10.1.0.100"))
    (group,) = read_groups(str(conf), tolerant=True).groups
    assert (group.name, group.interface) == ("VI_IN", "eth0") and "VI_OUT on eth1" in group.clash
    lab = Lab()
    lab.run(10)
    node = lab.nodes["a"]
    lab.tell(node, e.GroupsChanged((replace(node.group, clash=group.clash),)))
    lab.run(5)
    view = node.core.state.groups[GROUP]
    assert view.track.verdict is Verdict.MISCONFIGURED and "VI_OUT" in view.track.reason
    lab.tell(node, replace(e.AdvertHeard("eth1", GROUP, 100, "10.0.0.2", PEER_MAC, False, 1_000), vips=("10.1.0.100",)))
    assert view.track.verdict is Verdict.MISCONFIGURED, "an advert on the other LAN is of the other virtual router"
