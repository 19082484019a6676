"""A client, two directors and two web servers for tests in the lab's guest.

All sit on one switch (tests/lab.py). The client reaches the virtual addresses by a route to a director; real servers answer by way of the
director for NAT, and from the virtual address on their ``lo`` for DR and tunnels. Names of servers are the answers they give.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.lab import Lab, Node, inside, ip

VIP, VIP6 = "10.99.0.1", "fd99::1"
NAMES = ("client", "dir1", "dir2", "web1", "web2")
ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"


def write_sysctls(node: Node, value: int, *names: str) -> None:
    """Set ``net/...`` files of a node's namespace."""
    with inside(node.namespace):
        for name in names:
            Path("/proc/sys/net", name).write_text(str(value))


class WebServer:
    """Answers every HTTP request on one port with its name, of four letters; ``stop`` closes the port."""

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
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    connection.recv(4096)
                    connection.sendall(ANSWER + self._node.name.encode())

    def stop(self) -> None:
        """Close the port: connections are refused."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None


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
            ip("-n", node.namespace, "addr", "add", f"{VIP}/32", "dev", device)
            ip("-n", node.namespace, "addr", "add", f"{VIP6}/128", "dev", device, "nodad")
            if device == "eth0":
                write_sysctls(node, 1, "ipv4/ip_forward", "ipv6/conf/all/forwarding")
            if name != "dir1":
                ip("-n", node.namespace, "link", "add", "ipip1", "type", "ipip", "local", node.address, "remote", "any")
                ip("-n", node.namespace, "link", "set", "ipip1", "up")
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

    def ask(self, address: str = VIP, port: int = 80, timeout_s: float = 3) -> str:
        """The name of the server that answers one request, or "" if none does."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with self.nodes["client"].socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout_s)
                connection.connect((address, port))
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                received = b""
                while data := connection.recv(4096):
                    received += data
                return received.removeprefix(ANSWER).decode()
        except OSError:
            return ""

    def ask_often(self, times: int, address: str = VIP) -> Counter[str]:
        """Who answered how often."""
        return Counter(self.ask(address) for _ in range(times))


@contextlib.contextmanager
def director_lab() -> Iterator[DirectorLab]:
    """A cluster whose servers answer."""
    with DirectorLab(*NAMES) as lab:
        yield lab


def eventually(condition: Callable[[], Any], timeout_s: float = 15) -> Any:
    """Wait for something true, and return it."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(0.05)
    return found
