"""The gate of a stock keepalived: one small file per group that it tracks, and whether it really looks at it.

Tried with 2.2.7: only FAULT holds a backup, a weight does not.

- observe and resolve: ``hold-VRID``, ``weight 0``: 1 = held, 0 or missing = open;
- strict: ``grant-VRID``, ``weight 0 reverse``: 1 = may run, anything else (missing, garbage, a reboot) = held.

braind's death leaves the files as they are. ``brainctl init`` writes the stanza that tracks them.

keepalived reads a tracked file whenever a writer closes it (inotify). But it gives the file up for good when the directory does not exist
at its start, and then no hold holds. It is found without disturbing anybody: we write what the file says already, set its access time to 0
before closing it, and look whether somebody has read it since. A file system that keeps no access times makes it unknown, not disobeyed.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from base.clock import now_ns
from base.core import NS_PER_MS, NS_PER_S
from watchdog.config.model import GateSettings, GroupKey, Mode
from watchdog.gate import Report
from watchdog.groups import LoadedGroups
from watchdog.judgement.commands import BridgeAdvert, GateState, SetGate
from watchdog.judgement.events import CommandFailed, GateChecked, GateObedience
from watchdog.tracked_gate import gate_path, missing_gate

READ_WITHIN_NS = NS_PER_S
"""keepalived reads within some ms; it may be busy starting or be scheduled late."""
FIRST_LOOK_NS = 50 * NS_PER_MS
PROBE_NS = 30 * NS_PER_S
FAILED_PROBE_NS = 3 * NS_PER_S


@dataclass(slots=True)
class _File:
    """The gate of one group. ``asked_ns``: when it was written last and nobody is known to have read it since; None = read, or never
    asked. ``due_ns``: when to write it again."""

    path: str
    instance: str
    problem: str = ""
    asked_ns: int | None = None
    due_ns: int = 0


class KeepalivedGate:
    """Writes the tracked files, and looks whether they are read."""

    def __init__(self, settings: GateSettings, mode: Mode, report: Report) -> None:
        self._settings = settings
        self._mode = mode
        self._report = report
        self._files: dict[GroupKey, _File] = {}
        self._keeps_access_times: bool | None = None

    # ---- the watcher's orders -----------------------------------------------------------------------------------------

    def set_gate(self, command: SetGate) -> None:
        """Write the group's file; a failure is reported, not raised."""
        wanted = GateState.GRANTED if self._mode is Mode.STRICT else GateState.HELD
        path = gate_path(self._settings, self._mode, command.key)
        file = self._files.get(command.key)
        try:
            write_gate(path, "1" if command.state is wanted else "0")
        except OSError as error:
            self._report(CommandFailed("SetGate", f"{path}: {error.strerror}"))
            if file is not None:
                self._tell(command.key, GateObedience.NOT_WRITABLE, f"{path}: {error.strerror}")
                file.asked_ns, file.due_ns = None, now_ns() + FAILED_PROBE_NS
            return
        if file is not None:
            file.asked_ns = now_ns()
            file.due_ns = file.asked_ns + FIRST_LOOK_NS

    def bridge(self, command: BridgeAdvert) -> None:
        """A stock keepalived cannot be told; the core does not ask for it."""

    def watch_groups(self, loaded: LoadedGroups) -> None:
        """Find from keepalived.conf which instances track their gate. Observe holds nobody and asks nothing."""
        if self._mode is Mode.OBSERVE:
            return
        before, self._files = self._files, {}
        for group in loaded.groups:
            path = gate_path(self._settings, self._mode, group.key)
            file = self._files[group.key] = before.get(group.key) or _File(path, group.name)
            file.problem = missing_gate(loaded.config, group.name, path, self._mode)
            file.due_ns = 0

    # ---- looking ------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """The next look at a file."""
        return min((file.due_ns for file in self._files.values()), default=None)

    def on_deadline(self, at_ns: int) -> None:
        """Look at, or write again, what is due."""
        for key, file in self._files.items():
            if at_ns >= file.due_ns:
                self._look(at_ns, key, file)

    def _look(self, at_ns: int, key: GroupKey, file: _File) -> None:
        try:
            if file.asked_ns is None:
                write_gate(file.path, None)
                file.asked_ns = at_ns
                file.due_ns = at_ns + FIRST_LOOK_NS
                return
            read = os.stat(file.path).st_atime_ns > 0
        except OSError as error:
            file.asked_ns, file.due_ns = None, at_ns + FAILED_PROBE_NS
            self._tell(key, GateObedience.NOT_WRITABLE, f"{file.path}: {error.strerror}")
            return
        if not read and at_ns < file.asked_ns + READ_WITHIN_NS:
            file.due_ns = file.asked_ns + READ_WITHIN_NS
            return
        file.asked_ns = None
        file.due_ns = at_ns + (PROBE_NS if read else FAILED_PROBE_NS)
        self._judge(key, file, read)

    def _judge(self, key: GroupKey, file: _File, read: bool) -> None:
        if file.problem:
            self._tell(key, GateObedience.NOT_CONFIGURED, f"{file.problem}: add the stanza and reload keepalived")
        elif not self._access_times(os.path.dirname(file.path)):
            self._tell(key, GateObedience.UNKNOWN, f"the file system of {file.path} keeps no access times")
        elif read:
            self._tell(key, GateObedience.OBEYED, "")
        else:
            why = "it was started before the directory was there, or runs another configuration"
            self._tell(key, GateObedience.NOT_READ, f"keepalived does not read {file.path}: {why}; reload it")

    def _tell(self, key: GroupKey, obedience: GateObedience, detail: str) -> None:
        """Told at every look: the watcher forgets it when the daemon starts anew."""
        self._report(GateChecked(key, obedience, detail))

    def _access_times(self, directory: str) -> bool:
        """Whether reading a file there is seen; looked at once, with a file of our own."""
        if self._keeps_access_times is None:
            path = os.path.join(directory, f".probe-{secrets.token_hex(4)}")
            try:
                write_gate(path, "0")
                with open(path, "rb") as f:
                    f.read()
                self._keeps_access_times = os.stat(path).st_atime_ns > 0
            except OSError:
                return False
            finally:
                _remove(path)
        return self._keeps_access_times

    def close(self) -> None:
        """The files stay: braind's death must not open a gate."""


def write_gate(path: str, value: str | None) -> None:
    """Write "0" or "1" (None: what it says already, "0" for a new one) without a moment in which it says nothing, and with access time 0.

    The directory is made if it is missing; raises OSError.
    """
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        data = b"1\n" if (os.pread(descriptor, 2, 0)[:1] == b"1" if value is None else value == "1") else b"0\n"
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.utime(descriptor, ns=(0, os.fstat(descriptor).st_mtime_ns))
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
