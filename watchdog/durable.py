"""What must survive even the loss of the record: a small file in the state directory.

``incarnation``: how often braind started, the boot id of that start, and whether it ended in an orderly way. Read and written at start and
stop only: the watcher does no disk I/O in between.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

MAX_INCARNATION = 0xFFFF_0000
"""A frame carries the number in 32 bits; a file or row that says more is damaged."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The run before this one; zeros if there was none (or its file was damaged)."""

    incarnation: int = 0
    boot_id: str = ""
    clean_end: bool = True


def write_durably(path: str, text: str) -> None:
    """Replace a small file so that either the old or the new content survives a crash."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_last_run(state_dir: str) -> tuple[LastRun, str]:
    """The last run and "" or what was wrong with the file (a damaged one is set aside, never deleted)."""
    path = os.path.join(state_dir, "incarnation")
    try:
        with open(path, encoding="utf-8") as f:
            data = json.loads(f.read(4096))
        run = LastRun(int(data["incarnation"]), str(data["boot_id"]), bool(data["clean_end"]))
        if not 0 <= run.incarnation < MAX_INCARNATION:
            raise ValueError(f"incarnation {run.incarnation}")
        return run, ""
    except FileNotFoundError:
        return LastRun(), ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        aside = f"{path}.damaged"
        try:
            os.replace(path, aside)
        except OSError:
            aside = path
        return LastRun(clean_end=False), f"{path} is damaged ({error}); set aside as {aside}, counting starts again"


def write_run(state_dir: str, run: LastRun) -> None:
    """Make this run's number durable; raises OSError."""
    text = json.dumps({"incarnation": run.incarnation, "boot_id": run.boot_id, "clean_end": run.clean_end})
    write_durably(os.path.join(state_dir, "incarnation"), text + "\n")
