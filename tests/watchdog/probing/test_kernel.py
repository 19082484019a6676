"""The monitor tells what a real kernel does, also after it lost notifications."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from base.pump import Pump
from tests.watchdog.network import Network, wait_for
from watchdog.frames.heartbeat import LinkMac
from watchdog.judgement.events import AddressChanged, AddressesListed, CarrierChanged, CommandFailed, LinkMacsChanged, WatcherEvent
from watchdog.probing.kernel import KernelMonitor

pytestmark = pytest.mark.system


class Watched:
    def __init__(self, net: Network, name: str) -> None:
        self.net, self.name = net, name
        self.events: list[WatcherEvent] = []
        self.pump = Pump(next_deadline=lambda: None, on_deadline=lambda _now: None)
        with net.inside(name):
            self.monitor = KernelMonitor(self.pump, self.events.append)
        self.monitor.watch(["eth0"])
        self.monitor.report_all()

    def turn(self) -> None:
        with self.net.inside(self.name):
            self.pump.turn(5_000_000)

    def until(self, event: WatcherEvent) -> None:
        wait_for(lambda: event in self.events, self.turn)

    def close(self) -> None:
        self.monitor.close()
        self.pump.close()


@pytest.fixture
def it() -> Iterator[Watched]:
    net = Network("a")
    watched = Watched(net, "a")
    yield watched
    watched.close()
    net.close()


def test_addresses_come_and_go_on_macvlans_too(it: Watched) -> None:
    assert it.events[0] == CarrierChanged("eth0", True)
    assert it.events[1:] == [LinkMacsChanged(it.monitor.node_macs(), (LinkMac("eth0", it.net.mac("a")),))]
    assert "10.77.0.1" in {held.address for held in it.monitor.held()}
    it.net.ip("a", "addr add 10.77.0.100/32 dev eth0")
    it.until(AddressChanged("eth0", "10.77.0.100", True))
    it.net.ip("a", "addr change 10.77.0.100/32 dev eth0 valid_lft 300 preferred_lft 300")
    it.net.ip("a", "link add link eth0 name vrrp.51 address 00:00:5e:00:01:33 type macvlan mode private\nlink set vrrp.51 up")
    it.net.ip("a", "addr add 10.77.0.101/32 dev vrrp.51\naddr add fd00::5/128 dev vrrp.51 nodad")
    it.until(AddressChanged("vrrp.51", "fd00::5", True, "eth0"))
    assert it.events.count(AddressChanged("eth0", "10.77.0.100", True)) == 1, "a refreshed lifetime is no news"
    it.net.ip("a", "link del vrrp.51\naddr del 10.77.0.100/32 dev eth0")
    it.until(AddressChanged("vrrp.51", "10.77.0.101", False, "eth0"))
    it.until(AddressChanged("eth0", "10.77.0.100", False))


def test_macs_of_this_node_and_of_virtual_routers(it: Watched) -> None:
    it.net.ip(
        "a", "link add link eth0 name vrrp.51 address 00:00:5e:00:01:33 type macvlan mode private\nlink add d0 type veth peer name d1"
    )
    wait_for(lambda: it.monitor.mac_of("vrrp.51") and it.monitor.mac_of("d0"), it.turn)
    eth0, vmac = it.net.mac("a"), "00:00:5e:00:01:33"
    assert eth0 in it.monitor.node_macs() and vmac not in it.monitor.node_macs()
    assert eth0 in it.monitor.macs_never_foreign_on("eth0") and vmac not in it.monitor.macs_never_foreign_on("eth0")
    assert vmac in it.monitor.macs_never_foreign_on("d0")


def test_carrier_lost_and_interface_deleted(it: Watched) -> None:
    it.net.ip("switch", "link set pa down")
    it.until(CarrierChanged("eth0", False))
    it.net.ip("switch", "link set pa up")
    wait_for(lambda: [e for e in it.events if isinstance(e, CarrierChanged)][-1].up, it.turn)
    it.net.ip("a", "link del eth0")
    wait_for(lambda: it.events.count(CarrierChanged("eth0", False)) == 2, it.turn)
    it.until(AddressChanged("eth0", "10.77.0.1", False))


def test_a_lost_notification_is_made_good_by_a_full_list(it: Watched) -> None:
    for round_ in range(40):
        lines = [f"addr add 10.78.{round_}.{n}/32 dev eth0" for n in range(1, 250)]
        it.net.ip("a", "\n".join(lines))
        if round_ >= 3:
            it.net.ip("a", "addr flush dev eth0 to 10.78.0.0/16")
        if round_ == 12:
            break
    it.net.ip("a", "addr add 10.79.0.1/32 dev eth0")
    left = {"127.0.0.1", "10.77.0.1", "10.79.0.1"}
    wait_for(lambda: {h.address for h in it.monitor.held() if ":" not in h.address} == left, it.turn, 30)
    assert it.monitor.overruns, "the burst was meant to overrun the socket"
    listed = [event for event in it.events if isinstance(event, AddressesListed)]
    assert listed, "what was lost must be told"


@pytest.mark.parametrize(("address", "prefix"), [("10.77.0.100", 24), ("10.99.0.1", 32), ("fd00::9", 64)])
def test_removes_an_address(it: Watched, address: str, prefix: int) -> None:
    it.net.ip("a", f"addr add {address}/{prefix} dev eth0" + (" nodad" if ":" in address else ""))
    it.until(AddressChanged("eth0", address, True))
    with it.net.inside("a"):
        it.monitor.remove_address("eth0", address)
        it.monitor.remove_address("eth0", address)
    it.until(AddressChanged("eth0", address, False))
    assert not [event for event in it.events if isinstance(event, CommandFailed)]
    assert it.monitor.addresses_of("eth0")[0] == "10.77.0.1"
