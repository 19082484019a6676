"""A small laboratory for tests: nodes in network namespaces on one bridge, VRRP daemons in them, and a capture on the switch.

    with Lab("a", "b") as lab:
        ours = lab.vrrpd("a", conf)
        theirs = lab.keepalived("b", conf)
        lab.until(lambda: lab.nodes["a"].holds(VIP))

Everything is made new (names carry the pid) and removed at the end. Nothing here imports the daemons under test.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLONE_NEWNET = 0x40000000
PATIENCE_S = 20.0
_numbers = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*words: str, check: bool = True) -> str:
    """Run ``ip`` and return what it prints."""
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=20).stdout


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread is in ``namespace`` for as long as the block lasts."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        _libc.setns(here, CLONE_NEWNET)
        os.close(here)
        os.close(there)


def sweep() -> None:
    """Remove what a test process left behind that was killed before it could: its pid stands in the names."""
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        found = re.match(r"t(\d+)x\d+", name)
        if found and not os.path.exists(f"/proc/{found.group(1)}"):
            ip("netns", "del", name, check=False)


class Node:
    """One namespace with ``eth0`` (10.77.0.N/24, fd77::N/64 and a link-local address) on the switch."""

    def __init__(self, name: str, number: int, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self.address = f"10.77.0.{number}"
        self.address6 = f"fd77::{number}"
        self.port = f"p{number}"

    def addresses(self, interface: str = "eth0", family: int = 4) -> set[str]:
        """The IPv4 (or IPv6) addresses of an interface, without their lengths."""
        found = json.loads(ip("-n", self.namespace, "-j", f"-{family}", "addr", "show", "dev", interface, check=False) or "[]")
        return {info["local"] for link in found for info in link.get("addr_info", [])}

    def holds(self, address: str, interface: str = "eth0") -> bool:
        """Is ``address`` in this kernel?"""
        return address in self.addresses(interface, 6 if ":" in address else 4)

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a program inside."""
        argv = ("ip", "netns", "exec", self.namespace, *argv)
        return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=20).stdout

    def nft(self, rules: str) -> None:
        """Load nftables rules (text)."""
        argv = ["ip", "netns", "exec", self.namespace, "nft", "-f", "-"]
        subprocess.run(argv, input=rules, text=True, check=True, capture_output=True, timeout=20)

    def socket(self, *arguments: int) -> socket.socket:
        """A socket that lives in this namespace."""
        with inside(self.namespace):
            return socket.socket(*arguments)


class Daemon:
    """A daemon under test."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path, log: Path) -> None:
        self.process = process
        self.directory = directory
        self.log = log

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self.process.pid

    def pids(self) -> list[int]:
        """The daemon and its living descendants, parents first."""
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop(0)
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    queue += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the daemon's main process."""
        self.process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to every process of the daemon."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """kill -9 for all of it: nobody may react to the death of another."""
        pids = self.pids()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM and wait; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def text(self) -> str:
        """Its log so far, for the message of a failed test only."""
        return self.log.read_text(errors="replace")


class Capture:
    """Every frame that enters the switch, once, with the port it came from."""

    def __init__(self, namespace: str) -> None:
        with inside(namespace):
            # ETH_P_ALL: a bridge takes its ports' frames away before sockets for one EtherType see them.
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
            self._sock.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)
        self.frames: list[tuple[str, bytes]] = []

    def read(self) -> list[tuple[str, bytes]]:
        """Frames since the last call as (port, bytes); all of them stay in ``frames``."""
        fresh = []
        while True:
            try:
                data, address = self._sock.recvfrom(4096)
            except BlockingIOError:
                break
            if address[2] != 4 and address[0].startswith("p"):
                fresh.append((address[0], data))
        self.frames += fresh
        return fresh

    def close(self) -> None:
        """Stop capturing."""
        self._sock.close()


class Lab:
    """Nodes on a switch; see the module docstring."""

    def __init__(self, *names: str) -> None:
        self.prefix = f"t{os.getpid()}x{next(_numbers)}"
        self.switch = f"{self.prefix}s"
        self.directory = Path(tempfile.mkdtemp(prefix="brainctl-lab-"))
        self.nodes = {name: Node(name, number, f"{self.prefix}{name}") for number, name in enumerate(names, 1)}
        self._daemons: list[Daemon] = []
        self._captures: list[Capture] = []

    def __enter__(self) -> Lab:
        sweep()
        try:
            ip("netns", "add", self.switch)
            ip("-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
            ip("-n", self.switch, "link", "set", "br0", "up")
            for node in self.nodes.values():
                self._plug(node)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            for daemon in self._daemons:
                print(f"--- {daemon.log} ---\n{daemon.text()[-6000:]}", file=sys.stderr)
        self.close()

    def _plug(self, node: Node) -> None:
        ip("netns", "add", node.namespace)
        ip("link", "add", node.port, "netns", self.switch, "type", "veth", "peer", "name", "eth0", "netns", node.namespace)
        ip("-n", self.switch, "link", "set", node.port, "master", "br0", "up")
        ip("-n", node.namespace, "addr", "add", f"{node.address}/24", "dev", "eth0")
        node.run("sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_dad=0")
        ip("-n", node.namespace, "addr", "add", f"{node.address6}/64", "dev", "eth0", "nodad")
        ip("-n", node.namespace, "link", "set", "lo", "up")
        ip("-n", node.namespace, "link", "set", "eth0", "up")

    def close(self) -> None:
        """End every daemon and remove everything."""
        for daemon in self._daemons:
            if daemon.process.poll() is None:
                daemon.kill()
        for capture in self._captures:
            capture.close()
        for namespace in [node.namespace for node in self.nodes.values()] + [self.switch]:
            ip("netns", "del", namespace, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def cut(self, node: str) -> None:
        """Take the node's port of the switch down."""
        ip("-n", self.switch, "link", "set", self.nodes[node].port, "down")

    def heal(self, node: str) -> None:
        """And up again."""
        ip("-n", self.switch, "link", "set", self.nodes[node].port, "up")

    def capture(self) -> Capture:
        """Start capturing on the switch."""
        capture = Capture(self.switch)
        self._captures.append(capture)
        return capture

    def start(self, node: str, argv: Sequence[str], directory: Path) -> Daemon:
        """Start any daemon on a node; its output goes to ``log`` in ``directory``."""
        log = directory / "log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.nodes[node].namespace, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        daemon = Daemon(process, directory, log)
        self._daemons.append(daemon)
        return daemon

    def home(self, node: str) -> Path:
        """A fresh directory for one run of a daemon."""
        return Path(tempfile.mkdtemp(prefix=f"{node}-", dir=self.directory))

    def vrrpd(self, node: str, conf: str, *extra: str, home: Path | None = None) -> Daemon:
        """Our vrrpd with this configuration; its control socket is ``home/run/vrrpd.sock``."""
        home = home or self.home(node)
        (home / "conf").write_text(conf)
        argv = [sys.executable, "-m", "vrrp.daemon", "-n", "-l", "-D", "-f", f"{home}/conf", "-p", f"{home}/pid", "-r", f"{home}/vrrp.pid"]
        return self.start(node, ["env", f"PYTHONPATH={ROOT}", *argv, "--run-dir", f"{home}/run", *extra], home)

    def keepalived(self, node: str, conf: str, *extra: str, home: Path | None = None) -> Daemon:
        """Debian's keepalived with this configuration."""
        home = home or self.home(node)
        (home / "conf").write_text(conf)
        pids = ["-p", f"{home}/pid", "-r", f"{home}/vrrp.pid", "-c", f"{home}/checkers.pid"]
        return self.start(node, ["keepalived", "-P", "-n", "-l", "-D", "-G", "-f", f"{home}/conf", *pids, *extra], home)

    def until(self, condition: Callable[[], Any], timeout_s: float = PATIENCE_S, what: str = "") -> float:
        """Wait until ``condition`` is true; returns how long it took, fails the test otherwise."""
        begin = time.monotonic()
        while not condition():
            if time.monotonic() - begin > timeout_s:
                raise AssertionError(f"not within {timeout_s} s: {what or condition}")
            time.sleep(0.02)
        return time.monotonic() - begin

    def always(self, condition: Callable[[], Any], for_s: float, what: str = "") -> None:
        """Fail the test if ``condition`` is ever false during ``for_s``."""
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            assert condition(), f"not all the time: {what or condition}"
            time.sleep(0.02)
