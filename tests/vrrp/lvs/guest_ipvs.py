"""The kernel's table, through our netlink and as ``ipvsadm`` sees it. Runs in the lab's guest: see tests/guest.py."""

from __future__ import annotations

import dataclasses
import errno
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vrrp.lvs.tables import repair, tables
from vrrp.lvs.ipvs.kernel import IpvsKernel
from vrrp.lvs.ipvs.values import SyncDaemon, SyncRole, Timeouts
from vrrp.lvs.model.desired import (
    AddDestination,
    AddService,
    Destination,
    DestinationKey,
    DropDestination,
    EditService,
    Entry,
    RemoveService,
    Service,
    ServiceKey,
    Table,
)
from vrrp.lvs.model.settings import Forwarding, Method, TunnelChecksum, TunnelType

WEB = ServiceKey(4, 0, 6, "10.0.0.1", 80)
WEB6 = ServiceKey(6, 0, 6, "fd00::1", 80)
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq")
DIRECT, TUNNEL = Forwarding(Method.DIRECT), Forwarding(Method.TUNNEL)
ONE, TWO = DestinationKey(4, "10.0.1.1", 80), DestinationKey(4, "10.0.1.2", 80)
ONE6 = DestinationKey(6, "fd00::2", 80)


@pytest.fixture(scope="module")
def kernel() -> Iterator[IpvsKernel]:
    with IpvsKernel() as made:
        yield made


@pytest.fixture(autouse=True)
def _empty(kernel: IpvsKernel) -> Iterator[None]:
    kernel.flush()
    yield
    kernel.flush()


def ipvsadm(*words: str) -> list[str]:
    done = subprocess.run(["ipvsadm", *words], capture_output=True, text=True, timeout=20, check=True)
    return [line.strip() for line in done.stdout.splitlines()]


def programmed(kernel: IpvsKernel, table: Table) -> list[str]:
    """Program a table; what ipvsadm says then. The kernel has to read back as it was meant."""
    made = repair(kernel, table, ())
    assert (made.failures, made.remaining) == ((), ()), [str(failure) for failure in made.failures]
    assert kernel.services() == table
    return ipvsadm("-Sn")


class TestServices:
    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    def test_every_scheduler(self, kernel: IpvsKernel, scheduler: str) -> None:
        assert programmed(kernel, {WEB: Entry(Service(scheduler))}) == [f"-A -t 10.0.0.1:80 -s {scheduler}"]

    def test_a_scheduler_that_not_every_kernel_has(self, kernel: IpvsKernel) -> None:
        """Debian's User-Mode Linux kernel comes without ``twos``, the lab's own has it."""
        failures = kernel.apply([AddService(WEB, Service("twos"))])
        if failures:
            assert failures[0].reason == "this kernel has no scheduler twos" and kernel.services() == {}
        else:
            assert ipvsadm("-Sn") == ["-A -t 10.0.0.1:80 -s twos"] and kernel.services() == {WEB: Entry(Service("twos"))}

    @pytest.mark.parametrize(
        ("key", "service", "line"),
        [
            (WEB, Service("rr"), "-A -t 10.0.0.1:80 -s rr"),
            (WEB6, Service("rr", prefix=128), "-A -t [fd00::1]:80 -s rr"),
            (ServiceKey(4, 0, 17, "10.0.0.1", 53), Service("rr", one_packet=True), "-A -u 10.0.0.1:53 -s rr -o"),
            (ServiceKey(6, 0, 17, "fd00::1", 53), Service("rr", one_packet=True, prefix=128), "-A -u [fd00::1]:53 -s rr -o"),
            (ServiceKey(4, 0, 132, "10.0.0.1", 9), Service("rr"), "-A --sctp-service 10.0.0.1:9 -s rr"),
            (ServiceKey(4, 7), Service("wlc"), "-A -f 7 -s wlc"),
            (ServiceKey(6, 8), Service("wlc", prefix=128), "-A -f 8 -6 -s wlc"),
            (ServiceKey(4, 0x7FFFFFFF), Service("wlc"), "-A -f 2147483647 -s wlc"),
            (WEB, Service("rr", persistence_timeout_s=50), "-A -t 10.0.0.1:80 -s rr -p 50"),
            (WEB, Service("rr", persistence_timeout_s=50, prefix=24), "-A -t 10.0.0.1:80 -s rr -p 50 -M 255.255.255.0"),
            (WEB6, Service("rr", persistence_timeout_s=50, prefix=64), "-A -t [fd00::1]:80 -s rr -p 50 -M 64"),
            (ServiceKey(4, 0, 6, "10.0.0.1", 0), Service("rr", persistence_timeout_s=50), "-A -t 10.0.0.1:0 -s rr -p 50"),
            (WEB, Service("sh", 1), "-A -t 10.0.0.1:80 -s sh -b sh-fallback"),
            (WEB, Service("sh", 3), "-A -t 10.0.0.1:80 -s sh -b sh-fallback,sh-port"),
            (WEB, Service("mh", 2), "-A -t 10.0.0.1:80 -s mh -b mh-port"),
            (WEB, Service("rr", 4), "-A -t 10.0.0.1:80 -s rr -b flag-3"),
            (
                ServiceKey(4, 0, 17, "10.0.0.1", 5060),
                Service("rr", persistence_timeout_s=60, engine="sip"),
                "-A -u 10.0.0.1:5060 -s rr -p 60 --pe sip",
            ),
        ],
        ids=lambda value: value.strip("-A ") if isinstance(value, str) else "",
    )
    def test_every_kind_of_service(self, kernel: IpvsKernel, key: ServiceKey, service: Service, line: str) -> None:
        (found,) = programmed(kernel, {key: Entry(service)})
        assert sorted(found.split()) == sorted(line.split())

    def test_every_field_of_a_service_can_be_changed_and_changed_back(self, kernel: IpvsKernel) -> None:
        plain = Service("rr")
        changed = Service("sh", 3, True, 77, 16, "sip")
        for name in ("scheduler", "scheduler_flags", "one_packet", "persistence_timeout_s", "prefix", "engine"):
            other = dataclasses.replace(plain, **{name: getattr(changed, name)})
            key = ServiceKey(4, 0, 17, "10.0.0.1", 5060)
            for service in (plain, other, plain):
                programmed(kernel, {key: Entry(service, {ONE: Destination(1)})})

    def test_a_mask_that_is_no_prefix_is_put_right(self, kernel: IpvsKernel) -> None:
        ipvsadm("-A", "-t", "10.0.0.1:80", "-s", "rr", "-p", "50", "-M", "255.0.255.0")
        wanted = {WEB: Entry(Service("rr", persistence_timeout_s=50, prefix=16))}
        assert programmed(kernel, wanted) == ["-A -t 10.0.0.1:80 -s rr -p 50 -M 255.255.0.0"]


class TestDestinations:
    @pytest.mark.parametrize(
        ("key", "value", "options"),
        [
            (DestinationKey(4, "10.0.1.1", 8080), Destination(3), "-r 10.0.1.1:8080 -m -w 3"),
            (ONE, Destination(0), "-r 10.0.1.1:80 -m -w 0"),
            (ONE, Destination(65535, DIRECT), "-r 10.0.1.1:80 -g -w 65535"),
            (ONE, Destination(1, TUNNEL), "-r 10.0.1.1:80 -i -w 1 --tun-type ipip"),
            (
                ONE,
                Destination(1, Forwarding(Method.TUNNEL, TunnelType.GUE, 6080)),
                "-r 10.0.1.1:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum",
            ),
            (
                ONE,
                Destination(1, Forwarding(Method.TUNNEL, TunnelType.GUE, 6080, TunnelChecksum.FULL)),
                "-r 10.0.1.1:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum",
            ),
            (
                ONE,
                Destination(1, Forwarding(Method.TUNNEL, TunnelType.GUE, 6080, TunnelChecksum.REMOTE)),
                "-r 10.0.1.1:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum",
            ),
            (
                ONE,
                Destination(1, Forwarding(Method.TUNNEL, TunnelType.GRE, 0, TunnelChecksum.FULL)),
                "-r 10.0.1.1:80 -i -w 1 --tun-type gre --tun-csum",
            ),
            (ONE6, Destination(1, TUNNEL), "-r [fd00::2]:80 -i -w 1 --tun-type ipip"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_every_kind_of_destination(self, kernel: IpvsKernel, key: DestinationKey, value: Destination, options: str) -> None:
        lines = programmed(kernel, {WEB: Entry(Service("rr"), {key: value})})
        assert lines == ["-A -t 10.0.0.1:80 -s rr", f"-a -t 10.0.0.1:80 {options}"]

    def test_connection_thresholds(self, kernel: IpvsKernel) -> None:
        programmed(kernel, {WEB: Entry(Service("rr"), {ONE: Destination(1, DIRECT, 20, 10)})})
        assert ipvsadm("-Ln", "--thresholds")[-1].split()[-5:] == ["10.0.1.1:80", "20", "10", "0", "0"]

    def test_an_ipv6_service_with_servers_of_both_families(self, kernel: IpvsKernel) -> None:
        lines = programmed(kernel, {WEB6: Entry(Service("rr", prefix=128), {ONE6: Destination(1), ONE: Destination(1, TUNNEL)})})
        assert sorted(lines[1:]) == [
            "-a -t [fd00::1]:80 -r 10.0.1.1:80 -i -w 1 --tun-type ipip",
            "-a -t [fd00::1]:80 -r [fd00::2]:80 -m -w 1",
        ]

    def test_weight_thresholds_and_method_change_in_place(self, kernel: IpvsKernel) -> None:
        gue = Forwarding(Method.TUNNEL, TunnelType.GUE, 6080, TunnelChecksum.FULL)
        for value in (
            Destination(1),
            Destination(0),
            Destination(5, DIRECT, 9, 3),
            Destination(5, gue),
            Destination(5, TUNNEL),
            Destination(1),
        ):
            programmed(kernel, {WEB: Entry(Service("rr"), {ONE: value, TWO: Destination(1)})})

    def test_tunnel_options_that_do_not_count_make_no_difference(self, kernel: IpvsKernel) -> None:
        noisy = Destination(1, Forwarding(Method.NAT, TunnelType.GUE, 6080, TunnelChecksum.FULL))
        assert kernel.apply([AddService(WEB, Service("rr")), AddDestination(WEB, ONE, noisy)]) == []
        assert kernel.services()[WEB].destinations == {ONE: Destination(1)}


class TestRepair:
    TABLE: ClassVar[Table] = {
        WEB: Entry(Service("wrr", persistence_timeout_s=60), {ONE: Destination(3), TWO: Destination(1, DIRECT, 10, 5)}),
        WEB6: Entry(Service("mh", prefix=128), {ONE6: Destination(2)}),
        ServiceKey(4, 7): Entry(Service("lc"), {ONE: Destination(1)}),
        ServiceKey(6, 7): Entry(Service("lc", prefix=128), {ONE6: Destination(1, DIRECT)}),
    }

    def test_what_is_right_is_left_alone(self, kernel: IpvsKernel) -> None:
        programmed(kernel, self.TABLE)
        assert repair(kernel, self.TABLE, ()).changes == ()

    def test_someones_clear_is_repaired(self, kernel: IpvsKernel) -> None:
        before = sorted(programmed(kernel, self.TABLE))
        ipvsadm("-C")
        assert len(repair(kernel, self.TABLE, ()).changes) == 9
        assert sorted(ipvsadm("-Sn")) == before

    @pytest.mark.parametrize(
        "words",
        [
            "-D -t 10.0.0.1:80",
            "-E -t 10.0.0.1:80 -s rr",
            "-d -t [fd00::1]:80 -r [fd00::2]:80",
            "-e -t 10.0.0.1:80 -r 10.0.1.1:80 -m -w 9",
            "-e -f 7 -r 10.0.1.1:80 -i -w 1",
            "-a -f 7 -6 -r [fd00::9]:80 -m",
        ],
    )
    def test_someones_change_is_undone_by_one_or_few_of_ours(self, kernel: IpvsKernel, words: str) -> None:
        before = sorted(programmed(kernel, self.TABLE))
        ipvsadm(*words.split())
        made = repair(kernel, self.TABLE, ())
        assert 1 <= len(made.changes) <= 3
        assert sorted(ipvsadm("-Sn")) == before

    def test_services_of_others_are_left_alone_and_ours_that_are_no_longer_wanted_go(self, kernel: IpvsKernel) -> None:
        ipvsadm("-A", "-t", "192.0.2.1:1", "-s", "rr")
        repair(kernel, self.TABLE, ())
        repair(kernel, {}, self.TABLE.keys())
        assert ipvsadm("-Sn") == ["-A -t 192.0.2.1:1 -s rr"]

    @given(first=tables(), second=tables(), foreign=st.booleans())
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_from_any_table_to_any_other(self, kernel: IpvsKernel, first: Table, second: Table, foreign: bool) -> None:
        kernel.flush()
        if foreign:
            ipvsadm("-A", "-t", "192.0.2.1:1", "-s", "rr")
        for table, owned in ((first, ()), (second, first.keys())):
            made = repair(kernel, table, owned)
            assert (made.failures, made.remaining) == ((), ()), [str(failure) for failure in made.failures]
        there = kernel.services()
        assert there.pop(ServiceKey(4, 0, 6, "192.0.2.1", 1), None) == (Entry(Service("rr")) if foreign else None)
        assert there == second

    def test_more_changes_than_one_batch(self, kernel: IpvsKernel) -> None:
        wide = {DestinationKey(4, f"10.1.{number // 250}.{number % 250 + 1}", 80): Destination(number + 1) for number in range(300)}
        keys = [ServiceKey(4, 0, 6, "10.0.0.1", port) for port in range(1, 201)]
        table = {WEB: Entry(Service("rr"), wide), **{key: Entry(Service("rr"), {ONE: Destination(1)}) for key in keys if key != WEB}}
        assert len(programmed(kernel, table)) == 1 + 300 + 2 * 199


class TestRefusals:
    def test_a_refused_change_says_why_and_does_not_stop_the_others(self, kernel: IpvsKernel) -> None:
        changes = [
            AddService(WEB, Service("nonsense")),
            AddService(WEB, Service("rr")),
            AddService(WEB, Service("rr")),
            AddDestination(WEB, ONE, Destination(1)),
            AddDestination(WEB, ONE, Destination(1)),
            DropDestination(WEB, TWO),
            AddDestination(WEB, TWO, Destination(1, upper_threshold=1, lower_threshold=2)),
            RemoveService(WEB6),
            EditService(WEB6, Service("rr", prefix=128)),
            AddDestination(WEB6, ONE6, Destination(1)),
            AddDestination(WEB, TWO, Destination(2)),
        ]
        failures = kernel.apply(changes)
        assert [(failure.change, failure.errno) for failure in failures] == [
            (changes[0], errno.ENOENT),
            (changes[2], errno.EEXIST),
            (changes[4], errno.EEXIST),
            (changes[5], errno.ENOENT),
            (changes[6], errno.ERANGE),
            (changes[7], errno.ESRCH),
            (changes[8], errno.ESRCH),
            (changes[9], errno.ESRCH),
        ]
        assert "no scheduler nonsense" in failures[0].reason
        assert kernel.services() == {WEB: Entry(Service("rr"), {ONE: Destination(1), TWO: Destination(2)})}

    def test_what_cannot_be_had_remains_and_the_rest_is_served(self, kernel: IpvsKernel) -> None:
        wanted = {WEB: Entry(Service("nonsense"), {ONE: Destination(1)}), WEB6: Entry(Service("rr", prefix=128), {ONE6: Destination(1)})}
        made = repair(kernel, wanted, ())
        assert {change.key for change in made.remaining} == {WEB}
        assert {failure.change.key for failure in made.failures} == {WEB}
        assert kernel.services() == {WEB6: wanted[WEB6]}


class TestSyncDaemons:
    @pytest.fixture(autouse=True)
    def _stopped(self, kernel: IpvsKernel) -> Iterator[None]:
        yield
        for role in SyncRole:
            kernel.stop_sync(role)

    def test_both_roles_run_beside_each_other(self, kernel: IpvsKernel) -> None:
        kernel.start_sync(SyncDaemon(SyncRole.MASTER, "lo", 7))
        kernel.start_sync(SyncDaemon(SyncRole.BACKUP, "lo", 9))
        assert {(daemon.role, daemon.interface, daemon.sync_id) for daemon in kernel.sync_daemons()} == {
            (SyncRole.MASTER, "lo", 7),
            (SyncRole.BACKUP, "lo", 9),
        }
        lines = " ".join(ipvsadm("-ln", "--daemon"))
        assert "master sync daemon" in lines and "backup sync daemon" in lines and "syncid=7" in lines and "syncid=9" in lines

    @pytest.mark.parametrize("group", [IPv4Address("224.0.0.99"), IPv6Address("ff02::99")], ids=str)
    def test_every_option_arrives(self, kernel: IpvsKernel, group: IPv4Address | IPv6Address) -> None:
        for words in ("add sync0 type dummy", "set sync0 up"):
            subprocess.run(["ip", "link", *words.split()], check=False, timeout=20)
        wanted = SyncDaemon(SyncRole.MASTER, "sync0", 3, 1200, group, 9000, 5)
        kernel.start_sync(wanted)
        assert kernel.sync_daemons() == [wanted]

    def test_stopped_before_its_thread_ever_ran(self, kernel: IpvsKernel) -> None:
        for _ in range(20):
            for role in SyncRole:
                kernel.start_sync(SyncDaemon(role, "lo"))
                kernel.stop_sync(role)
                assert kernel.sync_daemons() == []

    def test_stopping_none_is_fine_and_starting_twice_is_an_error(self, kernel: IpvsKernel) -> None:
        kernel.stop_sync(SyncRole.MASTER)
        kernel.start_sync(SyncDaemon(SyncRole.MASTER, "lo"))
        with pytest.raises(FileExistsError):
            kernel.start_sync(SyncDaemon(SyncRole.MASTER, "lo"))

    def test_it_follows_the_role_that_is_wanted(self, kernel: IpvsKernel) -> None:
        backup, master = SyncDaemon(SyncRole.BACKUP, "lo", 7), SyncDaemon(SyncRole.MASTER, "lo", 7, ttl=3)
        for wanted in (backup, master, dataclasses.replace(master, sync_id=8), backup):
            assert kernel.run_sync([wanted])
            (running,) = kernel.sync_daemons()
            assert wanted.is_met_by(running)
            assert not kernel.run_sync([wanted])
        assert kernel.run_sync(())
        assert kernel.sync_daemons() == []
        assert not kernel.run_sync(())

    def test_no_such_interface(self, kernel: IpvsKernel) -> None:
        with pytest.raises(OSError) as error:
            kernel.start_sync(SyncDaemon(SyncRole.BACKUP, "none0"))
        assert error.value.errno == errno.ENODEV


def test_timeouts_that_are_zero_stay(kernel: IpvsKernel) -> None:
    kernel.set_timeouts(Timeouts(800, 90, 200))
    kernel.set_timeouts(Timeouts(0, 60, 0))
    assert kernel.timeouts() == Timeouts(800, 60, 200)
    assert ipvsadm("-l", "--timeout") == ["Timeout (tcp tcpfin udp): 800 60 200"]


def test_the_version_is_what_ipvsadm_says(kernel: IpvsKernel) -> None:
    number = ".".join(map(str, kernel.version()))
    assert f"version {number} " in ipvsadm("-Ln")[0]
