"""Random and mutated frames on every kind of path, through the real transport into the real path state: counted, nothing else."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from base.clock import now_ns
from tests.watchdog.network import Network, wait_for
from tests.watchdog.paths.test_paths import Line, Node, serial_settings, settings_for
from watchdog.config.model import GroupKey, PathKind
from watchdog.frames.codec import DecodeError, PathCodec, open_codec
from watchdog.frames.heartbeat import GroupReport, GroupState, Heartbeat, NodeFlags
from watchdog.frames.path_state import PathState, PathStatus, PeerSession

pytestmark = pytest.mark.system

KEY = b"k" * 32
NONCES = {"a": b"noncea..", "b": b"nonceb.."}


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    network = Network("a", "b", "x")
    yield network
    network.close()


class Peer:
    """A node with codec and path state on top of its path."""

    def __init__(self, node: Node, kind: PathKind, other: str) -> None:
        self.node = node
        self.codec: PathCodec = open_codec(kind, KEY, "c", "p", node=node.name, peer=other)
        self.session = PeerSession(node.name, other, NONCES[node.name], 10**10)
        self.state = PathState("p", 10**10, now_ns())
        self.sequence = 0

    def beat(self) -> bytes:
        self.sequence += 1
        group = GroupReport(GroupKey(51, 4), GroupState.MASTER, True, 150, advert_sent_age_ms=10)
        nonce, echo = NONCES[self.node.name], self.session.echo(now_ns())
        return self.codec.encode(Heartbeat(self.node.name, b"bootboot", 1, self.sequence, nonce, echo, 1, 9, NodeFlags.NONE, (group,)))

    def send(self) -> None:
        assert self.node.path
        self.node.path.send(self.beat())

    def take(self) -> None:
        frames, self.node.frames = self.node.frames, []
        for frame in frames:
            try:
                heartbeat = self.codec.decode(frame)
            except DecodeError as error:
                self.state.reject(error.reason)
                continue
            self.state.accept(now_ns(), heartbeat, self.session.admit(now_ns(), heartbeat), bit=0)


def write_all(fd: int, data: bytes) -> None:
    """The pty takes what fits; its reader is this very thread, so give up on what does not."""
    try:
        os.write(fd, data)
    except BlockingIOError:
        return


def flood(kind: PathKind, net: Network, line: Line | None) -> Callable[[bytes], None]:
    """How a stranger puts bytes on the medium towards b; unicast with the peer's own address."""
    if line:
        return lambda frame: write_all(line.masters[1], frame)
    with net.inside("x" if kind is not PathKind.UNICAST else "a"):
        if kind is PathKind.ETHERNET:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            raw.bind(("eth0", 0))
            return lambda frame: raw.send(b"\x03brain" + b"\2\0\0\0\0\x0b" + b"\x88\xb5" + frame) and None
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    target = "239.255.83.66" if kind is PathKind.MULTICAST else "10.77.0.2"
    return lambda frame: udp.sendto(frame, (target, 6994)) and None


@pytest.mark.parametrize("kind", list(PathKind), ids=lambda kind: kind.value)
def test_garbage_is_counted_and_nothing_else(kind: PathKind, net: Network) -> None:
    line = Line() if kind is PathKind.SERIAL else None
    nodes = [Node(serial_settings(line), n) if line else Node(settings_for(kind), n, net) for n in ("a", "b")]
    a, b = Peer(nodes[0], kind, "b"), Peer(nodes[1], kind, "a")

    def turn() -> None:
        if line:
            line.turn()
        for peer in (a, b):
            peer.node.turn(1)
            peer.take()

    def meet() -> None:
        a.send()
        b.send()
        for _ in range(30):
            turn()

    try:
        wait_for(lambda: b.state.status is PathStatus.HEARING and a.state.status is PathStatus.HEARING, meet, 20)
        for _ in range(200):  # what is still under way on the slow line
            turn()
        send, rng = flood(kind, net, line), random.Random(kind.value)
        before, good = (b.state.frames, b.state.last_proven_ns, b.session.epoch), a.beat()
        recorded = good
        for number in range(1_500):
            frame = bytearray(good)
            for _ in range(rng.randint(1, 4)):
                frame[rng.randrange(len(frame))] = rng.randrange(256)
            garbage = rng.randbytes(rng.randint(1, 200)) if number % 3 == 0 else bytes(frame[: rng.randint(1, len(frame))])
            if garbage.rstrip(b"\0") != good.rstrip(b"\0"):
                send(garbage + b"\0" * (line is not None))
            if line or number % 20 == 0:
                b.node.turn(0)
                b.take()
        wait_for(lambda: b.state.rejects.total() >= 500, turn)
        assert (b.state.frames, b.state.last_proven_ns, b.session.epoch) == before and b.state.status is PathStatus.HEARING
        send(recorded)
        wait_for(lambda: b.state.frames == before[0] + 1, turn)
        total = b.state.rejects.total()
        for _ in range(5):
            send(recorded)
        wait_for(lambda: b.state.rejects.total() >= total + 5, turn)
        assert b.state.frames == before[0] + 1, "a replay is refused"
        heard = b.state.frames
        wait_for(lambda: b.state.frames > heard, meet)
    finally:
        for node in nodes:
            node.close()
        if line:
            line.close()
