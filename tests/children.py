"""A child of ours under test, started as its parent would start it: one socket, JSON lines, killable by signal."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from base.supervise import CHILD_FD_ENV

PATIENCE_S = 30.0


class ChildProcess:
    """``python -m MODULE ARGS`` with the parent's end of its socket."""

    def __init__(self, module: str, *args: str, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None) -> None:
        self.sock, theirs = socket.socketpair()
        self.messages: list[dict[str, Any]] = []
        self._buffer = b""
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", module, *args],
            env={**os.environ, **(env or {}), CHILD_FD_ENV: str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
            stderr=subprocess.DEVNULL,
        )
        theirs.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send one object."""
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout_s: float) -> bool:
        """Read what is there, waiting at most ``timeout_s``; False at the end of the stream."""
        if not select.select([self.sock], [], [], timeout_s)[0]:
            return True
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            return False
        if not data:
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self.messages += [json.loads(line) for line in lines]
        return True

    def wait_for(self, key: str, matches: Callable[[Any], bool] = lambda _v: True, timeout_s: float = PATIENCE_S) -> Any:
        """The next message with ``key`` whose value matches; it and those before it are consumed."""
        end = time.monotonic() + timeout_s
        while True:
            for index, message in enumerate(self.messages):
                if key in message and matches(message[key]):
                    del self.messages[: index + 1]
                    return message[key]
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {key!r} within {timeout_s} s; got {self.messages}")
            if not self.receive(left):
                raise AssertionError(f"the child closed its socket before {key!r}; got {self.messages}")

    def kill(self) -> None:
        """kill -9 and reap."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        self.sock.close()

    def end(self) -> int:
        """Close the socket as a parent that exits; the child's exit code."""
        self.sock.close()
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Poll until the condition holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.02)
