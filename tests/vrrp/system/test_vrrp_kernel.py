"""The parts that touch the kernel, one by one, each in a namespace of its own."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from base.arp import gratuitous_arp
from base.log import Log
from base.pump import Pump
from tests.lab import Lab, inside
from vrrp.config.model.common import NotifyCommands, ScriptCommand
from vrrp.protocol.packet import Advert, Family, build_ipv4_header, encode_advert
from vrrp.system.advert_socket import MAX_AGE_NS, AdvertPackets, ReceiveSocket, SendSocket, filter_vrids
from vrrp.system.announce import Announcer, Pace
from vrrp.system.interfaces import InterfaceTable
from vrrp.system.netlink import CommandSocket, Monitor, address_message
from vrrp.system.notify import Change, Notifier, scripts_for
from vrrp.system.scripts import Outcome, ScriptRunner
from vrrp.system.timers import Timers

pytestmark = pytest.mark.system
GROUP = IPv4Address("224.0.0.18")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("a", "b") as made:
        yield made


def in_namespace(lab: Lab, name: str) -> object:
    return inside(lab.nodes[name].namespace)


class TestAdvertSockets:
    def test_only_wanted_vrids_of_the_wanted_interface_and_group_arrive(self, lab: Lab) -> None:
        with inside(lab.nodes["a"].namespace):
            index = socket.if_nametoindex("eth0")
            sender = SendSocket("eth0", index)
        with inside(lab.nodes["b"].namespace):
            receiver = ReceiveSocket("eth0", socket.if_nametoindex("eth0"), [7, 9], [GROUP])
        source = IPv4Address(lab.nodes["a"].address)
        for vrid in range(1, 12):
            for group in (GROUP, IPv4Address("224.0.0.77")):
                packets = AdvertPackets(source, [group])
                assert packets.send(Advert(3, Family.IPV4, vrid, 100, (), 100), sender) == []
        found = []
        lab.until(lambda: found.extend(data for _, data in receiver.drain()) or len(found) >= 2)
        time.sleep(0.1)
        found += [data for _, data in receiver.drain()]
        assert [data[21] for data in found] == [7, 9]
        sender.close()
        receiver.close()

    def test_ip_id_counts_up(self, lab: Lab) -> None:
        with inside(lab.nodes["a"].namespace):
            sender = SendSocket("eth0", socket.if_nametoindex("eth0"))
        with inside(lab.nodes["b"].namespace):
            receiver = ReceiveSocket("eth0", socket.if_nametoindex("eth0"), [7], [GROUP])
        packets = AdvertPackets(IPv4Address(lab.nodes["a"].address), [GROUP])
        advert = Advert(3, Family.IPV4, 7, 100, (), 100)
        for _ in range(3):
            packets.send(advert, sender)
        found: list[bytes] = []
        lab.until(lambda: found.extend(data for _, data in receiver.drain()) or len(found) == 3)
        assert [int.from_bytes(data[4:6], "big") for data in found] == [1, 2, 3]

    def test_egress_errors_are_values(self, lab: Lab) -> None:
        lab.nodes["a"].nft("table ip t {\n chain c {\n type filter hook output priority 0; ip protocol 112 drop\n }\n}\n")
        with inside(lab.nodes["a"].namespace):
            sender = SendSocket("eth0", socket.if_nametoindex("eth0"))
        packets = AdvertPackets(IPv4Address(lab.nodes["a"].address), [GROUP, IPv4Address(lab.nodes["b"].address)])
        failures = packets.send(Advert(3, Family.IPV4, 7, 100, (), 100), sender)
        assert [(destination, code) for destination, code in failures] == [("224.0.0.18", 1), (lab.nodes["b"].address, 1)]

    def test_age_of_a_packet_is_counted_but_bounded(self, lab: Lab) -> None:
        with inside(lab.nodes["a"].namespace):
            sender = SendSocket("eth0", socket.if_nametoindex("eth0"))
        with inside(lab.nodes["b"].namespace):
            receiver = ReceiveSocket("eth0", socket.if_nametoindex("eth0"), [7], [GROUP])
        source = IPv4Address(lab.nodes["a"].address)
        payload = encode_advert(Advert(3, Family.IPV4, 7, 100, (), 100), source, GROUP)
        packet = build_ipv4_header(source, GROUP, len(payload), identification=1, ttl=255) + payload
        ages: list[int] = []

        def waited_for() -> bool:
            """A packet that lay in the socket for longer than the bound."""
            sender.send(packet, str(GROUP), direct=True)
            assert select.select([receiver], [], [], 20)[0]
            time.sleep(0.02)
            ages.extend(age_ns for age_ns, _ in receiver.drain())
            return ages[-1] == MAX_AGE_NS

        # The kernel begins to stamp packets on arrival a while after the first socket asked for it (a deferred work item, late on a busy
        # machine); until then it stamps them when they are read.
        lab.until(waited_for)
        assert max(ages) <= MAX_AGE_NS

    def test_filter_of_many_vrids_still_has_short_jumps(self) -> None:
        assert all(jt <= 255 and jf <= 255 for _, jt, jf, _ in filter_vrids(range(1, 251)))
        assert len(filter_vrids(range(1, 256))) == 1, "too many for the program: everything passes, the shell looks"


class TestAddresses:
    def test_blob_adds_and_removes_in_one_send_and_names_errors(self, lab: Lab) -> None:
        with inside(lab.nodes["a"].namespace):
            index = socket.if_nametoindex("eth0")
            commands = CommandSocket()
        blob = b"".join(
            address_message(add=True, index=index, address=IPv4Address(f"10.77.1.{n}"), prefix_length=24, label="eth0:v")
            for n in range(1, 6)
        ) + address_message(add=True, index=index, address=IPv6Address("2001:db8::5"), prefix_length=64)
        assert commands.execute(blob) == []
        assert lab.nodes["a"].holds("10.77.1.5")
        assert "2001:db8::5/64 scope global nodad" in lab.nodes["a"].run("ip", "addr")
        assert commands.execute(blob) == [17] * 6
        assert commands.execute(blob, tolerate=[17]) == []
        gone = address_message(add=False, index=index, address=IPv4Address("10.77.1.5"), prefix_length=24)
        assert commands.execute(gone) == []
        assert commands.execute(gone) == [99]

    def test_monitor_says_when_it_lost_events_and_a_resync_finds_the_truth(self, lab: Lab) -> None:
        with inside(lab.nodes["a"].namespace):
            index = socket.if_nametoindex("eth0")
            commands, monitor, table = CommandSocket(), Monitor(), InterfaceTable()
            table.resync()
            add = [address_message(add=True, index=index, address=IPv4Address(0x0A4E0001 + n), prefix_length=32) for n in range(8000)]
            for at in range(0, len(add), 200):
                commands.execute(b"".join(add[at : at + 200]))
            lost = False
            for _ in range(1000):
                events, missed = monitor.drain()
                lost = lost or missed
                for event in events:
                    table.apply(event)
                if not events and not missed:
                    break
            assert lost, "8000 events do not fit into the buffer"
            table.resync()
            found = table.get("eth0")
            assert found is not None
            assert sum(1 for address in found.addresses if address.version == 4) == 8001
            assert found.primary_address(4) == IPv4Address(lab.nodes["a"].address)


class TestAnnouncer:
    def test_frame_is_an_arp_request_for_itself(self) -> None:
        mac = bytes.fromhex("020000000001")
        frame = gratuitous_arp(mac, "10.0.0.1")
        assert (
            frame.hex() == "ffffffffffff0200000000010806" + "0001080006040001" + "020000000001" + "0a000001" + "ffffffffffff" + "0a000001"
        )

    def test_pause_between_two_announcements(self, lab: Lab) -> None:
        with inside(lab.nodes["a"].namespace):
            announcer = Announcer("eth0", 1, bytes(6), Pace(1000))
        for _ in range(3):
            announcer.announce(0, IPv4Address("10.0.0.1"))
        assert announcer.due_ns == 1000
        announcer.announce(0, IPv4Address("10.0.0.2"))
        announcer.cancel(IPv4Address("10.0.0.1"))
        announcer.flush(1000)
        assert announcer.due_ns is None, "nothing waits"
        announcer.announce(1500, IPv4Address("10.0.0.1"))
        assert announcer.due_ns == 2000, "but the pause is kept"
        announcer.flush(2000)
        assert announcer.due_ns is None
        announcer.close()


class Scripts:
    """A runner on a pump of its own."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.pump = Pump(next_deadline=self.timers.next_deadline, on_deadline=self.timers.on_deadline)
        self.log = Log("test", fd=-1)
        self.runner = ScriptRunner(self.pump, self.timers, self.log)
        self.outcomes: list[Outcome] = []

    def run(self, *arguments: str, user: str = "", timeout_s: float | None = None) -> Outcome:
        timeout_ns = None if timeout_s is None else int(timeout_s * 1e9)
        self.runner.run(ScriptCommand(arguments, user), (), self.outcomes.append, timeout_ns=timeout_ns)
        self.wait(lambda: bool(self.outcomes))
        return self.outcomes.pop()

    def wait(self, done: object) -> None:
        end = time.monotonic() + 20
        while not done():  # type: ignore[operator]
            assert time.monotonic() < end
            self.pump.turn(50_000_000)


class TestScripts:
    def test_exit_status(self) -> None:
        scripts = Scripts()
        assert scripts.run("/bin/true", user="root").success
        assert scripts.run("/bin/sh", "-c", "exit 7", user="root").code == 7

    @pytest.mark.parametrize("arguments", [("/does/not/exist",), ("/etc/passwd",), ("/bin/sh", "-c", "kill -9 $$")])
    def test_what_cannot_run_or_is_killed_has_failed(self, arguments: tuple[str, ...]) -> None:
        outcome = Scripts().run(*arguments, user="root")
        assert (outcome.code, outcome.success) == (None, False)

    def test_unknown_user_fails_closed(self) -> None:
        assert Scripts().run("/bin/true", user="nobody-of-that-name").code is None

    def test_one_that_ignores_term_is_killed_with_its_children(self) -> None:
        begin = time.monotonic()
        outcome = Scripts().run("/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done", user="root", timeout_s=0.2)
        assert outcome.code is None
        assert 2 < time.monotonic() - begin < 15

    def test_runs_as_the_user_without_our_groups(self, lab: Lab) -> None:
        out = lab.directory / "out"
        lab.directory.chmod(0o777)
        assert Scripts().run("/bin/sh", "-c", f"id -u; id -G > {out}", user="nobody").success
        assert out.read_text().split() == ["65534"]

    def test_dev_tcp_needs_bash_and_gets_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert Scripts().run(f"</dev/tcp/127.0.0.1/{port}", user="root").success
        assert not Scripts().run(f"</dev/tcp/127.0.0.1/{port}", user="root").success


class TestNotifier:
    def test_changes_of_one_instance_wait_for_each_other_those_of_two_do_not(self, lab: Lab) -> None:
        scripts = Scripts()
        notifier = Notifier(scripts.runner, scripts.timers, scripts.log)
        out = lab.directory / "out"
        slow = ScriptCommand(("/bin/sh", "-c", f"sleep 0.5; echo slow >> {out}"), "root")
        fast = ScriptCommand(("/bin/sh", "-c", f"echo fast >> {out}"), "root")
        other = ScriptCommand(("/bin/sh", "-c", f"echo other >> {out}"), "root")
        commands = NotifyCommands(master=slow, backup=fast)
        notifier.changed(commands, Change("INSTANCE", "A", "MASTER", 100))
        notifier.changed(commands, Change("INSTANCE", "A", "BACKUP", 100))
        notifier.changed(NotifyCommands(backup=other), Change("INSTANCE", "B", "BACKUP", 100))
        scripts.wait(lambda: notifier.idle)
        assert out.read_text().split() == ["other", "slow", "fast"]

    def test_arguments(self) -> None:
        every, master = ScriptCommand(("/e",)), ScriptCommand(("/m", "x"))
        commands = NotifyCommands(master=master, any_state=every)
        assert scripts_for(commands, Change("GROUP", "G", "MASTER", 0)) == [(master, ()), (every, ("GROUP", "G", "MASTER", "0"))]
        assert scripts_for(commands, Change("INSTANCE", "V", "MASTER_RX_LOWER_PRI", 9)) == []
