"""Three real etcd members (Debian's etcd-server) on loopback, with or without TLS and password; and a member that is slow."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

ETCD, ETCDCTL = "/usr/bin/etcd", "/usr/bin/etcdctl"
PATIENCE_S = 30


def free_ports(count: int) -> list[int]:
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in socks]
    for sock in socks:
        sock.close()
    return ports


class EtcdCluster:
    """``members`` can be stopped in their tracks, continued, killed and started again by number."""

    def __init__(self, directory: Path, members: int = 3, tls: Path | None = None) -> None:
        self.directory, self.tls = directory, tls
        ports = free_ports(2 * members)
        self.clients, peers = ports[:members], ports[members:]
        self._peers = [f"http://127.0.0.1:{port}" for port in peers]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        try:
            for number in range(members):
                self.start(number)
            for number in range(members):
                self.await_health(number)
        except BaseException:
            self.close()
            raise

    def endpoint(self, number: int) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.clients[number]}"

    @property
    def endpoints(self) -> list[str]:
        return [self.endpoint(number) for number in range(len(self.clients))]

    def start(self, number: int) -> None:
        cluster = ",".join(f"m{i}={peer}" for i, peer in enumerate(self._peers))
        argv = [ETCD, "--name", f"m{number}", "--data-dir", str(self.directory / f"m{number}"), "--logger", "zap"]
        argv += ["--listen-client-urls", self.endpoint(number), "--advertise-client-urls", self.endpoint(number)]
        argv += ["--listen-peer-urls", self._peers[number], "--initial-advertise-peer-urls", self._peers[number]]
        argv += ["--initial-cluster", cluster, "--initial-cluster-token", "witness", "--unsafe-no-fsync"]
        argv += ["--heartbeat-interval", "50", "--election-timeout", "500"]
        if self.tls:
            argv += ["--cert-file", str(self.tls / "server.pem"), "--key-file", str(self.tls / "server.key")]
        with open(self.directory / f"m{number}.log", "ab") as log:
            self.processes[number] = subprocess.Popen(
                [a for a in argv if a != "--unsafe-no-fsync" or self._has_no_fsync()], stdout=log, stderr=log, env={"PATH": "/usr/bin"}
            )

    @staticmethod
    def _has_no_fsync() -> bool:
        return b"unsafe-no-fsync" in subprocess.run([ETCD, "--help"], capture_output=True, check=False).stdout

    def ctl(self, *args: str) -> subprocess.CompletedProcess[str]:
        argv = [ETCDCTL, "--endpoints", ",".join(self.endpoints), *(["--cacert", str(self.tls / "ca.pem")] if self.tls else []), *args]
        return subprocess.run(argv, capture_output=True, text=True, check=False, env={"ETCDCTL_API": "3", "PATH": "/usr/bin"}, timeout=30)

    def await_health(self, number: int) -> None:
        self.await_health_with(number, "")

    def await_health_with(self, number: int, user: str) -> None:
        """``user`` is "name:password"."""
        end = time.monotonic() + PATIENCE_S
        argv = [ETCDCTL, "--endpoints", self.endpoint(number), *(["--cacert", str(self.tls / "ca.pem")] if self.tls else [])]
        argv += ["--user", user] if user else []
        while subprocess.run(
            [*argv, "endpoint", "health"], capture_output=True, check=False, env={"ETCDCTL_API": "3", "PATH": "/usr/bin"}, timeout=30
        ).returncode:
            assert time.monotonic() < end, (self.directory / f"m{number}.log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self, number: int) -> None:
        """SIGSTOP: it accepts connections and answers nobody, as one that is cut off from the others or whose machine hangs."""
        os.kill(self.processes[number].pid, signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        os.kill(self.processes[number].pid, signal.SIGCONT)

    def kill(self, number: int) -> None:
        process = self.processes.pop(number)
        process.kill()
        process.wait()

    def close(self) -> None:
        for number in list(self.processes):
            self.kill(number)


def make_certificates(directory: Path) -> Path:
    """A CA, a server certificate for 127.0.0.1, and a second CA that signed nothing."""
    directory.mkdir()

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)

    new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    for ca in ("ca", "other"):
        openssl(f"{new} -x509 -days 2 -subj /CN={ca} -keyout {ca}.key -out {ca}.pem")
    openssl(f"{new} -subj /CN=etcd -keyout server.key -out server.csr")
    (directory / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem")
    return directory


class SlowMember:
    """A way to a member on which every byte takes ``delay_s`` in each direction."""

    def __init__(self, port: int, delay_s: float) -> None:
        self._port, self._delay_s = port, delay_s
        self._server: asyncio.Server | None = None

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await asyncio.sleep(self._delay_s)
            writer.write(data)
            await writer.drain()
        writer.close()
