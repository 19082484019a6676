"""How soon a failed real server leaves IPVS and comes back, beside keepalived. Runs in the kernel lab's guest (``make lab``).

Three directors at the same time, each in a namespace of its own with the same file and a web server of its own: keepalived, vrrpd, and
keepalived again as the noise. The server changes its answer from 200 to 500 and back. Two times are taken: from the change until IPVS shows
it (mostly the wait for the next check, the same delay_loop for all), and from the answer that told it (what the daemon adds).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DAEMONS = ("keepalived", "vrrpd", "keepalived again")
COMMANDS = {
    "keepalived": "keepalived -C -n -l -f {dir}/conf -p {dir}/pid -c {dir}/checkers.pid",
    "vrrpd": f"{sys.executable} -m vrrp.daemon -C -n -l -f {{dir}}/conf -p {{dir}}/pid -c {{dir}}/checkers.pid --run-dir {{dir}}/run",
}
CONF = """
virtual_server 10.9.0.1 80 {
    delay_loop 0.5
    warmup 0
    lb_algo rr
    lb_kind NAT
    protocol TCP
    real_server 127.0.0.2 9001 {
        HTTP_GET {
            url {
                path /
                status_code 200
            }
            connect_timeout 3
            retry 0
        }
    }
}
"""
CLONE_NEWNET = 0x40000000
POLL_S, PATIENCE_S = 0.002, 30.0
Times = dict[str, dict[str, list[float]]]
"""Daemon, then "removed", "restored" (from the change) and "removed after the answer", "restored after the answer": ms."""


def measure_lvs(runs: int) -> Times:
    """Boot the guest and measure there; raises RuntimeError with what it said."""
    argv = [str(ROOT / "lab/run"), "-t", str(90 + 4 * runs), sys.executable, "-m", "bench.lvs", "--runs", str(runs)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"in the guest, status {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    found: Times = json.loads(done.stdout.splitlines()[-1])
    return found


class Director(threading.Thread):
    """A daemon, its web server and the eyes on its IPVS table; this thread lives in their namespace."""

    def __init__(self, name: str, directory: Path, number: int) -> None:
        super().__init__(daemon=True)
        self.daemon_name = name
        self.namespace = f"bl{os.getpid()}x{number}"
        self._directory = directory
        self.healthy = True
        self.answered_at = 0.0
        self.listed_at: tuple[bool, float] = (False, 0.0)
        self._process: subprocess.Popen[bytes] | None = None
        self.failure = ""

    def run(self) -> None:
        """Serve and watch until the process ends."""
        try:
            self._enter()
            listener = socket.create_server(("127.0.0.2", 9001), backlog=64)
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            self._start_daemon()
            with open("/proc/thread-self/net/ip_vs", encoding="ascii") as table:
                while True:
                    table.seek(0)
                    listed = "7F000002:2329" in table.read()
                    if listed != self.listed_at[0]:
                        self.listed_at = (listed, time.monotonic())
                    time.sleep(POLL_S)
        except OSError as error:
            self.failure = str(error)

    def _enter(self) -> None:
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        subprocess.run(["ip", "-n", self.namespace, "link", "set", "lo", "up"], check=True)
        descriptor = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)

    def _start_daemon(self) -> None:
        self._directory.mkdir()
        (self._directory / "conf").write_text(CONF)
        argv = shlex.split(COMMANDS[self.daemon_name.split()[0]].format(dir=self._directory))
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)})

    def _serve(self, listener: socket.socket) -> None:
        said = True
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(2)
                try:
                    connection.recv(4096)
                    healthy = self.healthy
                    if healthy != said:
                        said, self.answered_at = healthy, time.monotonic()
                    connection.sendall(b"HTTP/1.0 %s\r\nContent-Length: 2\r\n\r\nok" % (b"200 OK" if healthy else b"500 Sorry"))
                except OSError:
                    continue

    def wait(self, listed: bool) -> None:
        """Until the server is in the table, or not; raises RuntimeError."""
        end = time.monotonic() + PATIENCE_S
        while self.listed_at[0] != listed:
            if self.failure or time.monotonic() > end:
                log = (self._directory / "log").read_text()[-800:] if self._directory.exists() else ""
                raise RuntimeError(f"{self.daemon_name}: the server is not {'in' if listed else 'out of'} IPVS: {self.failure} {log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the daemon and remove the namespace."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)


def measure_here(runs: int) -> Times:
    """In the guest."""
    times: Times = {name: {} for name in DAEMONS}
    subprocess.run(["modprobe", "-a", "ip_vs", "ip_vs_rr"], check=True)
    with tempfile.TemporaryDirectory(prefix="bench-lvs-") as temporary:
        directors = [Director(name, Path(temporary) / str(number), number) for number, name in enumerate(DAEMONS)]
        try:
            for director in directors:
                director.start()
            for director in directors:
                director.wait(True)
            for _ in range(runs):
                for healthy, what in ((False, "removed"), (True, "restored")):
                    time.sleep(1 + random.uniform(0, 0.5))  # any phase of the checks
                    changed_at = time.monotonic()
                    for director in directors:
                        director.healthy = healthy
                    for director in directors:
                        director.wait(healthy)
                        mine, at = times[director.daemon_name], director.listed_at[1]
                        mine.setdefault(what, []).append((at - changed_at) * 1000)
                        mine.setdefault(f"{what} after the answer", []).append((at - director.answered_at) * 1000)
        finally:
            for director in directors:
                director.stop()
    return times


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.lvs", description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    print(json.dumps(measure_here(parser.parse_args().runs)))
