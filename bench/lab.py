"""A throw-away laboratory for timing: a switch, nodes a and b, and a detector without an address.

Every namespace has a unique name and is removed at the end, also on SIGTERM.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from itertools import count

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_numbers = count(1)
HOST = {"a": 1, "b": 2, "g": 254}
VIP = "10.66.0.100"


def run(*argv: str, stdin: str | None = None, check: bool = True) -> str:
    """Run a tool; raises RuntimeError with what it said."""
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


class Lab:
    """``with Lab() as lab``. Nodes have eth0 (service) and eth1 (a second heartbeat network); g is a host that only answers ARP."""

    def __init__(self) -> None:
        self.tag = f"bb{os.getpid()}x{next(_numbers)}"
        self.roles = ("a", "b", "g", "d")
        self._control: socket.socket | None = None
        atexit.register(self.close)

    def namespace(self, role: str) -> str:
        """The namespace's name."""
        return f"{self.tag}{role}"

    def address(self, role: str) -> str:
        """The service address."""
        return f"10.66.0.{HOST[role]}"

    def __enter__(self) -> Lab:
        for role in ("s", *self.roles):
            run("ip", "netns", "add", self.namespace(role))
            run("ip", "-n", self.namespace(role), "link", "set", "lo", "up")
        lines = []
        for bridge, interface in (("br0", "eth0"), ("br1", "eth1")):
            lines += [f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0", f"link set {bridge} up"]
            for role in self.roles if interface == "eth0" else ("a", "b"):
                lines.append(f"link add p{role}{interface[-1]} type veth peer name {interface} netns {self.namespace(role)}")
                lines.append(f"link set p{role}{interface[-1]} master {bridge} up")
        run("ip", "-n", self.namespace("s"), "-batch", "-", stdin="\n".join(lines) + "\n")
        for role in self.roles:
            inner = ["link set eth0 up"]
            if role in HOST:
                inner.append(f"addr add {self.address(role)}/24 dev eth0")
            if role in "ab":
                inner += [f"addr add 10.67.0.{HOST[role]}/24 dev eth1", "link set eth1 up"]
            run("ip", "-n", self.namespace(role), "-batch", "-", stdin="\n".join(inner) + "\n")
        self.nft("add table bridge bb; add chain bridge bb flt { type filter hook forward priority 0; }")
        self._control = self.socket("s", socket.AF_INET, socket.SOCK_DGRAM)
        return self

    def socket(self, role: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in a role's namespace."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.namespace(role)}", os.O_RDONLY)
        try:
            if _libc.setns(there, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                return socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
            finally:
                _libc.setns(here, _CLONE_NEWNET)
        finally:
            os.close(here)
            os.close(there)

    def inside(self, role: str) -> list[str]:
        """The prefix that runs a command in a role's namespace."""
        return ["ip", "netns", "exec", self.namespace(role)]

    def nft(self, text: str) -> None:
        """Load rules at the switch."""
        run(*self.inside("s"), "nft", "-f", "-", stdin=text + "\n")

    def unplug(self, role: str) -> None:
        """Take a node's service port down."""
        assert self._control is not None
        request = struct.pack("16sH14x", f"p{role}0".encode(), 0)
        flags = struct.unpack_from("H", fcntl.ioctl(self._control, _SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(self._control, _SIOCSIFFLAGS, struct.pack("16sH14x", f"p{role}0".encode(), flags & ~_IFF_UP))

    def block_adverts(self) -> None:
        """Drop VRRP between the nodes, both ways."""
        self.nft("\n".join(f'add rule bridge bb flt iifname "p{r}0" ip protocol 112 drop' for r in "ab"))

    def block_one_way(self, sender: str) -> None:
        """Drop VRRP of one node only."""
        self.nft(f'add rule bridge bb flt iifname "p{sender}0" ip protocol 112 drop')

    def unblock(self) -> None:
        """Let everything pass again."""
        self.nft("flush chain bridge bb flt")

    def close(self) -> None:
        """Remove everything."""
        atexit.unregister(self.close)
        if self._control is not None:
            self._control.close()
        for role in ("s", *self.roles):
            if os.path.exists(f"/run/netns/{self.namespace(role)}"):
                run("ip", "netns", "del", self.namespace(role), check=False)

    def __exit__(self, *_exc: object) -> None:
        self.close()
