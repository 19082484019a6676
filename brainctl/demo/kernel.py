"""The few kernel calls that Python 3.11 lacks, and short-lived children inside a namespace.

Network namespaces are anonymous (held by a descriptor or a process, never bound under /run/netns), so that a killed laboratory leaves
nothing behind.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


class ToolError(Exception):
    """A system tool failed; the message holds its command line and what it said."""


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def enter_network(fd: int) -> None:
    """Move the calling thread into the network namespace behind ``fd``."""
    _check(_libc.setns(fd, _CLONE_NEWNET), "setns")


@contextmanager
def inside(path: str) -> Iterator[None]:
    """The calling thread is in the network namespace at ``path`` (a /proc/…/ns/net or descriptor path) for the ``with`` block."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter_network(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            enter_network(here)
    finally:
        os.close(here)


class NetNamespace:
    """An anonymous network namespace that lives as long as this object (or a process in it)."""

    def __init__(self) -> None:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(_CLONE_NEWNET), "unshare(CLONE_NEWNET)")
            self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            enter_network(here)
        finally:
            os.close(here)
        with inside(self.path):
            quiet_ipv6()
        ip(self.path, "link set lo up")

    @property
    def path(self) -> str:
        """A path that other processes can open (``nsenter --net=…``, ``ip link … netns …``)."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in this namespace."""
        with inside(self.path):
            return socket.socket(family, kind, protocol)

    def close(self) -> None:
        """Let go; the kernel removes the namespace when nothing else is in it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def quiet_ipv6() -> None:
    """No IPv6 chatter (router solicitations, MLD) in the calling thread's network namespace."""
    for where in ("all", "default"):
        path = Path(f"/proc/sys/net/ipv6/conf/{where}/disable_ipv6")
        if path.exists():
            path.write_text("1\n")


def allow_ipv6(network: str) -> None:
    """IPv6 in a network namespace, with addresses that can be used at once (no duplicate address detection)."""
    with inside(network):
        for where in sorted(os.listdir("/proc/sys/net/ipv6/conf")):
            for name, value in (("accept_dad", "0"), ("accept_ra", "0"), ("disable_ipv6", "0")):
                Path(f"/proc/sys/net/ipv6/conf/{where}/{name}").write_text(f"{value}\n")


def forward(network: str) -> None:
    """The network namespace is a router."""
    with inside(network):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")


def answer_per_interface(network: str) -> None:
    """ARP as on a real server of LVS: asked on an interface, the kernel answers only for what that interface has."""
    with inside(network):
        for name, value in (("arp_ignore", "1"), ("arp_announce", "2")):
            for where in ("all", "default"):
                Path(f"/proc/sys/net/ipv4/conf/{where}/{name}").write_text(f"{value}\n")


def _wrapped(argv: Sequence[str], network: str | None) -> list[str]:
    return ([] if network is None else ["nsenter", f"--net={network}", "--"]) + list(argv)


def run(argv: Sequence[str], *, text: str = "", network: str | None = None, timeout_s: float = 20.0) -> str:
    """Run a tool to its end and return its standard output; ``network`` is the path of a network namespace. ToolError on failure."""
    try:
        done = subprocess.run(_wrapped(argv, network), input=text, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise ToolError(f"{argv[0]}: not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{' '.join(argv)}: not finished after {timeout_s:g} s") from error
    if done.returncode:
        raise ToolError(f"{' '.join(argv)}: rc {done.returncode}: {done.stderr.strip()}\n{text}")
    return done.stdout


def ip(network: str, *lines: str) -> None:
    """Feed lines to ``ip -batch`` in a network namespace."""
    run(["ip", "-batch", "-"], text="\n".join(lines) + "\n", network=network)


def nft(network: str, text: str) -> None:
    """Apply one atomic nftables transaction in a network namespace."""
    run(["nft", "-f", "-"], text=text, network=network)


def set_link(control: socket.socket, name: str, up: bool) -> None:
    """Set a link up or down at once, by ioctl on a socket of its namespace."""
    request = struct.pack("16sH14x", name.encode(), 0)
    flags = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)[0]
    flags = flags | _IFF_UP if up else flags & ~_IFF_UP
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags))


def namespace_pids(pid_namespace: int) -> list[int]:
    """Host pids of every live process in the pid namespace with this inode number."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}/ns/pid").st_ino == pid_namespace:
                    found.append(int(entry))
            except OSError:
                continue
    return found


def spawn(
    argv: Sequence[str],
    *,
    network: str | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a long-lived child, in a network namespace if given, that the kernel kills when the calling thread ends."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *_wrapped(argv, network)],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=tuple(pass_fds),
        env=env,
        start_new_session=True,
    )
