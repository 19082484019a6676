"""A client, two directors and two web servers for tests in the lab's guest.

All sit on one switch (tests/lab.py). The client reaches the virtual addresses by a route to a director; real servers answer by way of the
director for NAT, and from the virtual address on their ``lo`` for DR and tunnels. Names of servers are the answers they give.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.lab import Lab, Node, inside, ip

VIP, VIP6 = "10.99.0.1", "fd99::1"
GUE_PORT = 6080
LONG_CHUNKS = 60
NAMES = ("client", "dir1", "dir2", "web1", "web2")
ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"

LONG_ANSWER = b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n"


def write_sysctls(node: Node, value: int, *names: str) -> None:
    """Set ``net/...`` files of a node's namespace."""
    with inside(node.namespace):
        for name in names:
            Path("/proc/sys/net", name).write_text(str(value))


def batch(node: Node, *lines: str) -> None:
    """Many ``ip`` commands by one process: starting one is dear in the guest."""
    argv = ["ip", "-n", node.namespace, "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(lines), text=True, check=False, capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr


def tunnel_ends(node: Node) -> list[str]:
    """Commands that let a node unpack whatever a director may send it: IPv4 or IPv6 in either of them, by IP in IP, GRE and GUE."""
    subprocess.run(["modprobe", "-a", "fou", "fou6"], check=True, timeout=20)
    lines = []
    for name, kind, local, options in (
        ("ipip1", "ipip", node.address, ""),
        ("sit1", "sit", node.address, "mode ip6ip"),
        ("tnl6", "ip6tnl", node.address6, "mode any"),
        ("gre1", "gre", node.address, ""),
        ("gre6", "ip6gre", node.address6, ""),
    ):
        lines += [f"link add name {name} type {kind} local {local} remote any {options}", f"link set {name} up"]
    return [*lines, f"fou add port {GUE_PORT} gue", f"fou add port {GUE_PORT} gue -6"]


def expect_gre_checksum(node: Node, wanted: bool) -> None:
    """GRE ends take packets with a checksum or without one, not both."""
    word = "icsum" if wanted else "noicsum"
    batch(node, *(f"link set {name} type {kind} {word}" for name, kind in (("gre1", "gre"), ("gre6", "ip6gre"))))


class WebServer:
    """Answers every HTTP request on one port with its name, of four letters; ``stop`` closes the port. ``/long`` takes seconds."""

    def __init__(self, node: Node, port: int = 80) -> None:
        self._node, self._port = node, port
        self._listener: socket.socket | None = None
        self.start()

    def start(self) -> None:
        """Open the port."""
        listener = self._node.socket(socket.AF_INET6, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", self._port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                # A connection whose client is slow or gone must not make the others wait: they would look like failed requests.
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            if not connection.recv(4096).startswith(b"GET /long "):
                connection.sendall(ANSWER + self._node.name.encode())
                return
            connection.sendall(LONG_ANSWER)
            for _ in range(LONG_CHUNKS):
                connection.sendall(bytes(1000))
                time.sleep(0.1)

    def stop(self) -> None:
        """Close the port: connections are refused."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None


def ask(client: Node, address: str, port: int = 80, timeout_s: float = 10) -> str:
    """The name of the server that answers one request, or "" if none does."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with client.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect((address, port))
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            received = b""
            while data := connection.recv(4096):
                received += data
            return received.removeprefix(ANSWER).decode()
    except OSError:
        return ""


class DirectorLab(Lab):
    """The cluster; ``servers`` by node name."""

    def __enter__(self) -> DirectorLab:
        super().__enter__()
        for node in self.nodes.values():
            write_sysctls(node, 0, "ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter", "ipv4/conf/eth0/rp_filter")
            # Everybody is on one link: without this a director would tell the servers to answer the client directly.
            write_sysctls(node, 0, "ipv4/conf/all/send_redirects", "ipv4/conf/eth0/send_redirects", "ipv6/conf/eth0/accept_redirects")
        for name in ("dir1", "dir2", "web1", "web2"):
            node = self.nodes[name]
            # Virtual addresses belong to other nets than the switch, so the servers never see ARP for them.
            device = "eth0" if name.startswith("dir") else "lo"
            lines = [f"addr add {VIP}/32 dev {device}", f"addr add {VIP6}/128 dev {device} nodad"]
            if device == "eth0":
                write_sysctls(node, 1, "ipv4/ip_forward", "ipv6/conf/all/forwarding")
            batch(node, *lines, *(tunnel_ends(node) if name != "dir1" else ()))
        self.route_client("dir1")
        self.servers = {name: WebServer(self.nodes[name]) for name in ("web1", "web2")}
        return self

    def close(self) -> None:
        """Close the servers too."""
        for server in getattr(self, "servers", {}).values():
            server.stop()
        super().close()

    def route_client(self, director: str) -> None:
        """From now on the client's way to the virtual addresses is this director."""
        client = self.nodes["client"].namespace
        ip("-n", client, "route", "replace", f"{VIP}/32", "via", self.nodes[director].address)
        ip("-n", client, "-6", "route", "replace", f"{VIP6}/128", "via", self.nodes[director].address6)

    def answer(self, through: str = "") -> None:
        """The servers' way to the client: through dir1 (NAT) or directly (DR and tunnels). dir2 may be a server too."""
        client = self.nodes["client"]
        for name in ("web1", "web2", "dir2"):
            routes = ("-n", self.nodes[name].namespace)
            for family, target, gateway in (
                ("-4", f"{client.address}/32", self.nodes[through].address if through else ""),
                ("-6", f"{client.address6}/128", self.nodes[through].address6 if through else ""),
            ):
                way = ["via", gateway] if gateway else ["dev", "eth0"]
                ip(*routes, family, "route", "replace", target, *way)

    def ask(self, address: str = VIP, port: int = 80, timeout_s: float = 10) -> str:
        """The name of the server that answers one request, or "" if none does."""
        return ask(self.nodes["client"], address, port, timeout_s)

    def ask_until_both(self, address: str = VIP, tries: int = 10) -> Counter[str]:
        """At least four requests, and more until both servers have answered."""
        answers: Counter[str] = Counter()
        while answers.total() < 4 or (answers.total() < tries and not {"web1", "web2"} <= set(answers)):
            answers[self.ask(address)] += 1
        return answers

    def ask_often(self, times: int, address: str = VIP) -> Counter[str]:
        """Who answered how often."""
        return Counter(self.ask(address) for _ in range(times))


@contextlib.contextmanager
def director_lab() -> Iterator[DirectorLab]:
    """A cluster whose servers answer."""
    with DirectorLab(*NAMES) as lab:
        yield lab


def eventually(condition: Callable[[], Any], timeout_s: float = 30) -> Any:
    """Wait for something true, and return it."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(0.05)
    return found
