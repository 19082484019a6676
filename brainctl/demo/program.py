"""A program of the laboratory: a child that is told things by lines and answers with JSON lines."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from brainctl.demo.kernel import spawn

_PROGRAMS = Path(__file__).resolve().parent / "programs"

Event = dict[str, Any]


def program_path(name: str) -> str:
    """Where a laboratory program lies."""
    return str(_PROGRAMS / f"{name}.py")


def python_program(name: str, *arguments: str) -> list[str]:
    """The command line of a laboratory program: isolated from our packages and from the environment."""
    return [sys.executable, "-I", program_path(name), *arguments]


class Program:
    """Starts at once; ``hears``: it ends when its input ends.

    Its events are kept in ``events`` (and as lines in ``log``) and handed to ``on_event`` in a reader thread."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        network: str | None = None,
        log: Path,
        pass_fds: Sequence[int] = (),
        on_event: Callable[[Event], None] | None = None,
        hears: bool = True,
    ) -> None:
        self.log = log
        self._hears = hears
        self.events: list[Event] = []
        self._on_event = on_event
        self._file: IO[bytes] = log.open("ab")
        with log.with_suffix(".err").open("ab") as errors:
            self.process = spawn(argv, network=network, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, pass_fds=pass_fds)
        self._reader = threading.Thread(target=self._read, name=f"reader of {log.stem}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._file.write(line)
            try:
                event: Event = json.loads(line)
            except ValueError:
                continue
            self.events.append(event)
            if self._on_event is not None:
                self._on_event(event)
        self._file.flush()

    def tell(self, line: str) -> None:
        """Send one line; a program that has ended hears nothing."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def wait_for(self, wanted: Callable[[Event], bool], timeout_s: float) -> Event | None:
        """The first event that fits, waiting for it if it has not come yet; None after ``timeout_s`` or when the program ended."""
        until = time.monotonic() + timeout_s
        seen = 0
        while True:
            while seen < len(self.events):
                if wanted(self.events[seen]):
                    return self.events[seen]
                seen += 1
            if time.monotonic() > until or (not self._reader.is_alive() and seen == len(self.events)):
                return None
            time.sleep(0.005)

    def close(self) -> None:
        """End it: by the end of its input, then by force; everything it said is in the log afterwards."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(1.0 if self._hears else 0.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5.0)
        self._reader.join(5.0)
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()
        self._file.close()
