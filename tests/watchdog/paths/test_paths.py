"""Every transport between two real network namespaces or over a real pty, through faults and floods."""

from __future__ import annotations

import os
import pty
import select
import socket
import termios
import time
import tty
from collections.abc import Iterator

import pytest

from base.clock import now_ns
from base.pump import Pump
from tests.watchdog.network import Network, wait_for
from watchdog.config.model import PathKind, PathSettings, PerNode
from watchdog.frames.cobs import stuff
from watchdog.paths.open import open_path
from watchdog.paths.path import Path

pytestmark = pytest.mark.system


class Node:
    """One end of a path, with a pump of its own."""

    def __init__(self, settings: PathSettings, name: str, net: Network | None = None) -> None:
        self.name, self.net = name, net
        self.frames: list[bytes] = []
        self.changes: list[tuple[bool, str]] = []
        self.path: Path | None = None
        self.pump = Pump(next_deadline=self._next, on_deadline=self._fire)

        def make() -> Path:
            return open_path(settings, name, self.pump, self._bytes, self._change)

        if net:
            with net.inside(name):
                self.path = make()
        else:
            self.path = make()

    def _bytes(self, _path: str, data: bytes) -> None:
        self.frames.append(data)

    def _change(self, _path: str, usable: bool, reason: str) -> None:
        self.changes.append((usable, reason))

    def _next(self) -> int | None:
        return self.path.next_deadline() if self.path else None

    def _fire(self, at_ns: int) -> None:
        assert self.path
        self.path.on_deadline(at_ns)

    def turn(self, wait_ms: int = 5) -> None:
        if self.net:
            with self.net.inside(self.name):
                self.pump.turn(wait_ms * 1_000_000)
        else:
            self.pump.turn(wait_ms * 1_000_000)

    def close(self) -> None:
        assert self.path
        self.path.close()
        self.pump.close()

    @property
    def usable(self) -> bool:
        assert self.path
        return self.path.usable


def settings_for(kind: PathKind) -> PathSettings:
    both = PerNode((("a", "eth0"), ("b", "eth0")))
    addresses = PerNode((("a", "10.77.0.1"), ("b", "10.77.0.2"))) if kind is PathKind.UNICAST else PerNode(())
    return PathSettings("p", kind, "lan", interface=both, address=addresses)


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    network = Network("a", "b", "x")
    yield network
    network.close()


@pytest.fixture(params=[PathKind.ETHERNET, PathKind.MULTICAST, PathKind.UNICAST], ids=lambda kind: kind.value)
def pair(request: pytest.FixtureRequest, net: Network) -> Iterator[tuple[Node, Node]]:
    settings = settings_for(request.param)
    a, b = Node(settings, "a", net), Node(settings, "b", net)
    yield a, b
    a.close()
    b.close()


def both(a: Node, b: Node):  # type: ignore[no-untyped-def]
    def turn() -> None:
        a.turn(1)
        b.turn(1)

    return turn


def exchange(a: Node, b: Node, mark: bytes) -> None:
    """Sends until a frame gets through, in both directions."""

    def turn() -> None:
        for node in (a, b):
            assert node.path
            node.path.send(mark * 30)
        time.sleep(0.01)
        both(a, b)()

    wait_for(lambda: mark * 30 in a.frames and mark * 30 in b.frames, turn)


def test_frames_travel_both_ways_unchanged(pair: tuple[Node, Node]) -> None:
    a, b = pair
    exchange(a, b, b"\x00\x01\xff")
    assert a.usable and b.usable and not a.changes
    largest = os.urandom(1400)
    assert a.path
    a.path.send(largest)
    wait_for(lambda: largest in b.frames, both(a, b))
    assert not any(frame == largest for frame in a.frames), "own frames are not heard"


def test_interface_down_and_up(pair: tuple[Node, Node], net: Network) -> None:
    a, b = pair
    exchange(a, b, b"1")
    net.ip("a", "link set eth0 down")
    try:
        wait_for(lambda: not a.usable, both(a, b))
        assert a.path
        for _ in range(50):
            a.path.send(b"into the void")
        assert "down" in a.changes[-1][1]
    finally:
        net.ip("a", "link set eth0 up")
    wait_for(lambda: a.usable, both(a, b))
    exchange(a, b, b"2")


def test_carrier_lost(pair: tuple[Node, Node], net: Network) -> None:
    a, b = pair
    net.ip("switch", "link set pa down")
    try:
        wait_for(lambda: not a.usable, both(a, b))
        assert a.changes[-1] == (False, "eth0 has no carrier")
    finally:
        net.ip("switch", "link set pa up")
    wait_for(lambda: a.usable, both(a, b))
    exchange(a, b, b"3")


def test_interface_vanishes_and_another_takes_its_name(pair: tuple[Node, Node], net: Network) -> None:
    a, b = pair
    exchange(a, b, b"4")
    net.ip("a", "link del eth0")
    wait_for(lambda: not a.usable, both(a, b))
    assert a.path
    a.path.send(b"x" * 50)
    net.ip("switch", f"link add pa type veth peer name eth0 netns {net.namespace('a')}\nlink set pa master br0 up")
    net.ip("a", "addr add 10.77.0.1/24 dev eth0\nlink set eth0 up")
    wait_for(lambda: a.usable, both(a, b))
    exchange(a, b, b"5")


def test_local_firewall_is_named_and_its_removal_noticed(pair: tuple[Node, Node], net: Network, request: pytest.FixtureRequest) -> None:
    a, b = pair
    assert a.path
    net.nft("a", "add table inet t; add chain inet t out { type filter hook output priority 0; policy drop; }")
    try:
        for _ in range(20):
            a.path.send(b"y" * 60)
            a.turn(1)
        if "ethernet" in request.node.name:
            assert a.usable and a.path.counters.sent == 20, "raw frames do not pass the IP firewall"
        else:
            assert a.path.counters.send_errors == 20
            assert not a.usable and "firewall" in a.changes[-1][1] and len(a.changes) == 1
    finally:
        net.nft("a", "delete table inet t")
    exchange(a, b, b"6")
    assert a.usable


def test_a_flood_is_bounded_and_does_not_hide_the_peer(pair: tuple[Node, Node], net: Network) -> None:
    a, b = pair
    exchange(a, b, b"7")
    assert a.path and b.path
    with net.inside("x"):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.bind(("eth0", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    source: bytes = raw.getsockname()[4]
    for index in range(3_000):
        raw.send(b"\x03brain" + source + b"\x88\xb5" + os.urandom(100))
        for target in ("239.255.83.66", "10.77.0.2"):
            try:
                udp.sendto(os.urandom(100), (target, 6994))
            except OSError:
                pass
        if index % 100 == 0:
            b.turn(1)
    raw.close()
    udp.close()
    exchange(a, b, b"8")
    counters = b.path.counters
    assert counters.received + counters.foreign >= 1_000 and counters.receive_errors == 0
    started = time.monotonic()
    b.turn(1)
    assert time.monotonic() - started < 1


def test_unicast_listens_to_the_peer_only(net: Network) -> None:
    a, b = Node(settings_for(PathKind.UNICAST), "a", net), Node(settings_for(PathKind.UNICAST), "b", net)
    try:
        with net.inside("x"):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.sendto(b"foreign", ("10.77.0.2", 6994))
        udp.close()
        assert b.path
        wait_for(lambda: b.path and b.path.counters.foreign, both(a, b))
        assert b"foreign" not in b.frames
    finally:
        a.close()
        b.close()


def test_an_address_that_is_not_there_is_named_and_tried_again(net: Network) -> None:
    settings = PathSettings(
        "p",
        PathKind.UNICAST,
        "lan",
        interface=PerNode((("a", "eth0"), ("b", "eth0"))),
        address=PerNode((("a", "10.77.0.99"), ("b", "10.77.0.2"))),
    )
    a = Node(settings, "a", net)
    try:
        assert not a.usable and "does not have the path's address" in a.changes[-1][1]
        net.ip("a", "addr add 10.77.0.99/24 dev eth0")
        wait_for(lambda: a.usable, a.turn)
    finally:
        net.ip("a", "addr del 10.77.0.99/24 dev eth0")
        a.close()


# ---- serial -----------------------------------------------------------------------------------------------------------


class Line:
    """Two ptys and a relay between them that carries bytes at the pace of 9600 baud, or none when it is cut."""

    BYTES_PER_S = 960

    def __init__(self) -> None:
        self.masters: list[int] = []
        self.devices: list[str] = []
        for _ in range(2):
            master, slave = pty.openpty()
            tty.setraw(master)
            os.set_blocking(master, False)
            self.masters.append(master)
            self.devices.append(os.ttyname(slave))
            os.close(slave)
        self.cut = False
        self.carried = 0
        self._last = time.monotonic()
        self._credit = [0.0, 0.0]

    def turn(self) -> None:
        current = time.monotonic()
        earned = (current - self._last) * self.BYTES_PER_S
        self._last = current
        for index, (source, target) in enumerate((self.masters, self.masters[::-1])):
            self._credit[index] = min(self._credit[index] + earned, 64)
            count = int(self._credit[index])
            if not count or self.cut:
                continue
            try:
                data = os.read(source, count)
            except OSError:
                continue
            self._credit[index] -= len(data)
            self.carried += len(data)
            os.write(target, data)

    def close(self) -> None:
        for master in self.masters:
            os.close(master)


def serial_settings(line: Line) -> PathSettings:
    return PathSettings("s", PathKind.SERIAL, "cable", device=PerNode((("a", line.devices[0]), ("b", line.devices[1]))))


@pytest.fixture
def serial() -> Iterator[tuple[Line, Node, Node]]:
    line = Line()
    a, b = Node(serial_settings(line), "a"), Node(serial_settings(line), "b")
    yield line, a, b
    a.close()
    b.close()
    line.close()


def frame_of(mark: bytes) -> bytes:
    return stuff(mark) + b"\0"


def test_serial_frames_arrive_whole_at_9600_baud(serial: tuple[Line, Node, Node]) -> None:
    line, a, b = serial
    assert a.path and a.usable and b.usable
    sent, due = 0, time.monotonic()

    def turn() -> None:
        nonlocal sent, due
        if sent < 8 and time.monotonic() >= due:
            assert a.path and b.path
            a.path.send(frame_of(bytes((sent,)) * 62))
            b.path.send(frame_of(b"back" + bytes((sent,))))
            sent, due = sent + 1, due + 0.2
        line.turn()
        both(a, b)()

    wait_for(lambda: len(b.frames) >= 8 and len(a.frames) >= 8, turn)
    assert b.frames == [frame_of(bytes((n,)) * 62)[:-1] for n in range(8)]
    assert a.path.counters.skipped == 0


def test_a_line_is_never_offered_more_than_it_carries(serial: tuple[Line, Node, Node]) -> None:
    line, a, b = serial
    assert a.path
    line.cut = True
    started, tries = time.monotonic(), 0
    while time.monotonic() - started < 0.5:
        a.path.send(frame_of(b"s" * 46))  # 48 bytes: 50 ms at 9600 baud
        tries += 1
        both(a, b)()
    elapsed = time.monotonic() - started
    assert a.path.counters.sent <= elapsed / 0.050 + 1 and a.path.counters.skipped == tries - a.path.counters.sent > 0


def fill(fd: int) -> None:
    """Write until not one byte more fits, also after the kernel has moved what was written."""
    idle = 0
    while idle < 5:
        try:
            os.write(fd, b"z")
            idle = 0
        except BlockingIOError:
            idle += 1
            time.sleep(0.02)


def test_a_line_that_takes_nothing_does_not_block(serial: tuple[Line, Node, Node]) -> None:
    line, a, _b = serial
    assert a.path
    stranger = os.open(line.devices[0], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        fill(stranger)
        started = time.monotonic()
        a.path.send(frame_of(b"no room"))
        assert time.monotonic() - started < 1 and a.path.counters.sent == 0 and a.path.counters.skipped == 1
        while select.select([line.masters[0]], [], [], 0.05)[0]:
            os.read(line.masters[0], 65_536)
        line.turn()
        a.path.send(frame_of(b"room"))
        assert a.path.counters.sent == 1
    finally:
        os.close(stranger)


def test_hang_up_does_not_spin_and_the_line_is_reopened(tmp_path) -> None:  # type: ignore[no-untyped-def]
    first = Line()
    link = tmp_path / "tty"
    link.symlink_to(first.devices[0])
    settings = PathSettings("s", PathKind.SERIAL, "cable", device=PerNode((("a", str(link)),)))
    a = Node(settings, "a")
    second = None
    try:
        first.close()
        wait_for(lambda: not a.usable, a.turn)
        assert "hung up" in a.changes[-1][1] or "not exist" in a.changes[-1][1]
        turns, end = 0, now_ns() + 500_000_000
        while now_ns() < end:
            a.pump.turn()
            turns += 1
            assert a.path
            a.path.send(b"nobody")
        assert turns < 50, "a dead descriptor stayed readable"
        second = Line()
        link.unlink()
        link.symlink_to(second.devices[0])
        wait_for(lambda: a.usable, a.turn)
        os.write(second.masters[0], frame_of(b"again"))
        wait_for(lambda: a.frames, a.turn)
        assert a.frames == [frame_of(b"again")[:-1]]
    finally:
        a.close()
        if second:
            second.close()


def test_two_programs_never_share_a_line(serial: tuple[Line, Node, Node]) -> None:
    line, _a, _b = serial
    thief = Node(serial_settings(line), "a")
    try:
        assert not thief.usable and "another program" in thief.changes[-1][1]
    finally:
        thief.close()


def test_noise_on_the_line_is_survived(serial: tuple[Line, Node, Node]) -> None:
    line, _a, b = serial
    noise = os.urandom(8_192)
    for start in range(0, len(noise), 512):
        os.write(line.masters[1], noise[start : start + 512])
        b.turn(1)
    os.write(line.masters[1], b"\0" + frame_of(b"good"))
    wait_for(lambda: frame_of(b"good")[:-1] in b.frames, b.turn)
    assert all(len(frame) < 64 for frame in b.frames)
    assert b.usable


def test_a_path_to_a_file_that_is_no_line_is_refused_not_crashed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "plain").write_bytes(b"")
    a = Node(PathSettings("s", PathKind.SERIAL, "cable", device=PerNode((("a", str(tmp_path / "plain")),))), "a")
    try:
        assert not a.usable and a.changes[-1][1]
    finally:
        a.close()


def test_the_line_is_raw(serial: tuple[Line, Node, Node]) -> None:
    line, a, _b = serial
    every = bytes(range(1, 256))
    os.write(line.masters[0], every[:60] + b"\0")
    wait_for(lambda: a.frames, a.turn)
    assert a.frames == [every[:60]], "no character is changed, echoed or taken as a command"
    assert not select.select([line.masters[0]], [], [], 0.05)[0] or os.read(line.masters[0], 10) == b"\0"
    assert termios.tcgetattr(line.masters[0])
