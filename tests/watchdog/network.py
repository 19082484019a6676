"""Throw-away network namespaces for tests of sockets: a switch, and nodes that are entered by this very thread."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def run(*argv: str, stdin: str | None = None) -> str:
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: rc {done.returncode}: {done.stderr.strip()}\n{stdin or ''}")
    return done.stdout


class Network:
    """One bridge, and a namespace per node with ``eth0`` on it. Addresses are 10.77.0.N/24, N = place of the name from 1."""

    _count = 0

    def __init__(self, *nodes: str) -> None:
        Network._count += 1
        self.tag = f"wt{os.getpid()}n{Network._count}"
        self.nodes = nodes
        self._made: list[str] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        for name in ("switch", *self.nodes):
            run("ip", "netns", "add", self.namespace(name))
            self._made.append(name)
            self.sysctl(name, "net/ipv6/conf/default/accept_dad", "0")
            run("ip", "-n", self.namespace(name), "link", "set", "lo", "up")
        if os.path.exists("/proc/sys/net/bridge"):  # a switch does not look into IP packets
            for key in ("iptables", "ip6tables", "arptables"):
                self.sysctl("switch", f"net/bridge/bridge-nf-call-{key}", "0")
        lines = ["link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set br0 up"]
        for name in self.nodes:
            lines.append(f"link add p{name} type veth peer name eth0 netns {self.namespace(name)}")
            lines.append(f"link set p{name} master br0 up")
        run("ip", "-n", self.namespace("switch"), "-batch", "-", stdin="\n".join(lines) + "\n")
        for number, name in enumerate(self.nodes, 1):
            self.ip(name, f"addr add 10.77.0.{number}/24 dev eth0\nlink set eth0 up")

        for name in self.nodes:
            self._await_carrier(self.namespace(name), "eth0")
            self._await_carrier(self.namespace("switch"), f"p{name}")

    @staticmethod
    def _await_carrier(namespace: str, interface: str) -> None:
        """The kernel's link watch is asynchronous: what is sent before it has run is lost."""
        end = time.monotonic() + 10
        while run("ip", "-n", namespace, "-br", "link", "show", interface).split()[1] != "UP":
            assert time.monotonic() < end, f"{interface} never came up"
            time.sleep(0.005)

    def namespace(self, name: str) -> str:
        return self.tag + name

    def address(self, name: str) -> str:
        return f"10.77.0.{self.nodes.index(name) + 1}"

    def ip(self, name: str, lines: str) -> None:
        run("ip", "-n", self.namespace(name), "-batch", "-", stdin=lines + "\n")

    def nft(self, name: str, rules: str) -> None:
        run("ip", "netns", "exec", self.namespace(name), "nft", "-f", "-", stdin=rules + "\n")

    def sysctl(self, name: str, key: str, value: str) -> None:
        run("ip", "netns", "exec", self.namespace(name), "sh", "-c", f"echo {value} > /proc/sys/{key}")

    def mac(self, name: str, interface: str = "eth0") -> str:
        out = run("ip", "-n", self.namespace(name), "-o", "link", "show", interface)
        return out.split("link/ether ")[1].split()[0]

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """This thread makes its sockets in the node's namespace meanwhile."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.namespace(name)}", os.O_RDONLY)
        try:
            _setns(there)
            try:
                yield
            finally:
                _setns(before)
        finally:
            os.close(before)
            os.close(there)

    def close(self) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "del", self.namespace(name)], check=False, capture_output=True)
        self._made = []


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def wait_for(condition: Callable[[], object], turn: Callable[[], None], seconds: float = 10.0) -> None:
    """Turn the pumps until the condition holds; AssertionError if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        turn()
