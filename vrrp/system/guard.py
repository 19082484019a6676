"""The daemon's side of the guardian (vrrp/guardian.py)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from vrrp.system.kernel_addresses import Place

_ROOT = Path(__file__).resolve().parents[2]
START_PATIENCE_S = 5.0


class Guard:
    """Starts the guardian and tells it what to remove. A guardian that is gone or does not read is given up: ``start`` makes a new one."""

    def __init__(self) -> None:
        self._sock: socket.socket | None = None

    def start(self) -> None:
        """Start it, unless one is there. Raises OSError or subprocess.TimeoutExpired."""
        if self._sock is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-S", "-m", "vrrp.guardian", str(theirs.fileno())]
            # It leaves its first process at once; with that one reaped it is no child of ours.
            subprocess.run(
                argv,
                env={**os.environ, "PYTHONPATH": str(_ROOT)},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                timeout=START_PATIENCE_S,
                check=True,
            )
        ours.setblocking(False)
        self._sock = ours

    def _tell(self, message: bytes) -> None:
        if self._sock is None:
            return
        try:
            self._sock.send(message)
        except OSError:
            self._sock.close()
            self._sock = None

    def process(self, pid: int) -> None:
        """The vrrp process is this one now."""
        self._tell(b"P%d" % pid)

    def forget(self) -> None:
        """Nothing is to be removed."""
        self._tell(b"C")

    def removal(self, blob: bytes) -> None:
        """These netlink messages too."""
        if blob:
            self._tell(b"R" + blob)

    def addresses(self, places: Iterable[Place]) -> None:
        """These addresses too, in whatever form the kernel holds them then."""
        for index, packed in places:
            self._tell(b"A%d " % index + packed)

    @property
    def alive(self) -> bool:
        """As far as is known."""
        return self._sock is not None
