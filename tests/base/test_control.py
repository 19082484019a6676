"""The control socket: who gets in, what is refused, and that bad input harms nobody."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.channel import JsonObject
from base.control import MAX_CLIENTS, MAX_READERS, MAX_READERS_OF_A_USER, Client, ControlClient, ControlServer, Peer, RequestError
from base.core import NS_PER_MS
from base.pump import Pump


class Server:
    """A control server on a pump in a thread."""

    def __init__(self, path: str) -> None:
        self.pump = Pump(next_deadline=lambda: None, on_deadline=lambda _n: None)
        self.subscribers: list[Client] = []
        self.server = ControlServer(
            self.pump,
            path,
            {"echo": (lambda _c, r: r.get("x"), False), "act": (lambda _c, _r: "done", True), "refuse": (self.refuse, False)},
        )
        self.running = True
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()

    @staticmethod
    def refuse(_client: Client, request: JsonObject) -> object:
        raise RequestError("nope", "field x", "leave it")

    def loop(self) -> None:
        while self.running:
            self.pump.turn(20 * NS_PER_MS)

    def close(self) -> None:
        self.running = False
        self.thread.join()
        self.server.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(str(tmp_path_factory.mktemp("run") / "x.sock"))
    yield made
    made.close()


def test_root_may_read_and_act(server: Server) -> None:
    with ControlClient(server.server.path) as client:
        assert client.call("echo", x=[1, {"y": None}]) == [1, {"y": None}]
        assert client.call("act") == "done"


def test_errors_name_the_place_and_the_remedy(server: Server) -> None:
    with ControlClient(server.server.path) as client:
        with pytest.raises(RequestError) as refused:
            client.call("refuse")
        assert (refused.value.code, refused.value.where, refused.value.remedy) == ("nope", "field x", "leave it")
        with pytest.raises(RequestError) as unknown:
            client.call("ecoh")
        assert "echo" in unknown.value.remedy


def test_a_stranger_does_not_get_in(server: Server) -> None:
    """uid 65534 (nobody) is not root and not in group brainctl: the kernel's file mode already stops it."""
    os.chmod(Path(server.server.path).parent, 0o755)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(server.server.path)
                sock.settimeout(2)
                code = 0 if sock.recv(10) == b"" else 1
        except OSError:
            code = 0
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_clients_are_bounded(server: Server) -> None:
    clients = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CLIENTS + 5)]
    for sock in clients:
        sock.connect(server.server.path)
    refused = 0
    for sock in clients:
        sock.settimeout(0.3)
        try:
            refused += sock.recv(1) == b""
        except TimeoutError:
            continue
    for sock in clients:
        sock.close()
    assert refused >= 5


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_never_stop_the_service(server: Server, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(server.server.path)
        sock.sendall(data + b"\n")
    with ControlClient(server.server.path) as client:
        assert client.call("echo", x=1) == 1


def test_a_second_daemon_is_told_that_the_first_one_listens(server: Server) -> None:
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _n: None)
    with pytest.raises(FileExistsError, match="another daemon"):
        ControlServer(pump, server.server.path, {})


def test_a_stale_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "y.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _n: None)
    ControlServer(pump, str(path), {}).close()
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="not a socket"):
        ControlServer(pump, str(path), {})
    assert path.read_text() == "precious"


def test_an_answer_that_is_too_long_is_an_error_and_not_the_end(server: Server) -> None:
    request = '{"v":1,"id":1,"op":"echo","x":"' + "é" * 300_000 + '"}\n'  # six characters each in the answer
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(server.server.path)
        raw.sendall(request.encode())
        assert b"too_large" in raw.recv(65536)
    with ControlClient(server.server.path) as client:
        assert client.call("echo", x=1) == 1


ROOT, BRAIND = Peer(1, 0, 0, True), Peer(2, 0, 0, True)


def admitted(server: ControlServer, peer: Peer) -> socket.socket:
    """The far end of a connection by this peer."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    near.setblocking(False)
    far.setblocking(False)
    server.admit(near, peer)
    return far


def is_open(far: socket.socket) -> bool:
    try:
        return far.recv(1) != b""
    except BlockingIOError:
        return True


def test_idle_readers_lock_nobody_out(tmp_path: Path) -> None:
    """32 idle readers kept root's status and a restarted braind out: no yield, no grant, silence (A9)."""
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _n: None)
    server = ControlServer(pump, str(tmp_path / "z.sock"), {})
    users = [Peer(100 + n, 1000 + n % 8, 1000, False) for n in range(4 * MAX_READERS)]
    readers = [admitted(server, user) for user in users]
    assert sum(map(is_open, readers)) == MAX_READERS
    assert sum(is_open(admitted(server, Peer(9, 2000, 1000, False))) for _ in range(MAX_CLIENTS)) == 0
    own = [admitted(server, ROOT) for _ in range(2 * MAX_CLIENTS)]
    assert is_open(own[-1]) and is_open(admitted(server, BRAIND))
    server.close()
    pump.close()


def test_one_user_has_a_few_places(tmp_path: Path) -> None:
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _n: None)
    server = ControlServer(pump, str(tmp_path / "z.sock"), {})
    assert sum(is_open(admitted(server, Peer(1, 1000, 1000, False))) for _ in range(MAX_CLIENTS)) <= MAX_READERS_OF_A_USER
    server.close()
    pump.close()


def test_who_is_idle_is_closed_and_who_subscribed_is_not(tmp_path: Path) -> None:
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _n: None)

    def subscribe(client: Client, _request: JsonObject) -> object:
        client.subscribed = True
        return {}

    server = ControlServer(pump, str(tmp_path / "z.sock"), {"subscribe": (subscribe, False)}, idle_ns=50 * NS_PER_MS)
    idle, waiting = admitted(server, ROOT), admitted(server, BRAIND)
    waiting.sendall(b'{"v":1,"id":1,"op":"subscribe"}\n')
    for _ in range(40):
        pump.turn(50 * NS_PER_MS)
        if not is_open(idle):
            break
    assert not is_open(idle)
    assert is_open(waiting)
    server.close()
    pump.close()


def test_a_socket_whose_directory_vanished_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "run" / "z.sock"
    made = Server(str(path))
    try:
        path.unlink()
        path.parent.rmdir()
        for _ in range(100):
            if path.exists():
                break
            threading.Event().wait(0.05)
        with ControlClient(str(path)) as client:
            assert client.call("echo", x=1) == 1
    finally:
        made.close()
