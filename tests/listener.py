"""A datagram socket that plays systemd or a syslog daemon."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path


class Listener:
    """What systemd or a syslog daemon hears at a socket."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.bind(str(path))
        self.heard: list[str] = []

    def read(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard += self._sock.recv(4096).decode().split("\n")
        return self.heard

    def close(self) -> None:
        self._sock.close()
