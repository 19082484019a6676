"""Tables, colours and ages for the terminal, without a heavy import: ``status`` must be on the screen in a blink."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

WORD_AFTER_S = 2.0
"""Whoever waits longer than this is told what for."""

_CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36", "grey": "90", "bold": "1"}
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def wants_colour(stream: TextIO | None = None) -> bool:
    """True on a terminal unless NO_COLOR is set; FORCE_COLOR wins."""
    if os.environ.get("FORCE_COLOR"):
        return True
    return (stream or sys.stdout).isatty() and "NO_COLOR" not in os.environ


def paint(text: str, colour: str, *, on: bool | None = None) -> str:
    """``text`` in a colour, or unchanged where colours are off."""
    if not (wants_colour() if on is None else on):
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def visible_width(text: str) -> int:
    """Columns that ``text`` takes without its escape codes."""
    return len(_ESCAPE.sub("", text))


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), indent: str = "") -> str:
    """Rows in aligned columns; the last column is not padded."""
    everything = [list(header), *[list(r) for r in rows]] if header else [list(r) for r in rows]
    if not everything:
        return ""
    columns = max(len(r) for r in everything)
    widths = [max((visible_width(r[c]) for r in everything if c < len(r)), default=0) for c in range(columns)]
    lines = []
    for number, row in enumerate(everything):
        cells = []
        for c, cell in enumerate(row):
            padding = "" if c == len(row) - 1 else " " * (widths[c] - visible_width(cell))
            cells.append((paint(cell, "bold") if header and number == 0 else cell) + padding)
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def age(milliseconds: float | None) -> str:
    """A short duration: 40 ms, 2.3 s, 5 min, 3 h, 2 d."""
    if milliseconds is None:
        return "–"
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 86400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def complain(message: str, remedy: str = "", *, as_json: bool = False) -> None:
    """What went wrong: a sentence on stderr, or with ``--json`` one object on stdout, so that a program never reads an empty line."""
    if as_json:
        print(json.dumps({"error": {"message": message, "remedy": remedy}}))
    else:
        print(f"{message}; {remedy}" if remedy else message, file=sys.stderr)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Says on stderr what is waited for when the body takes longer than two seconds: on a terminal with the seconds so far, else once."""
    done = threading.Event()
    teller = threading.Thread(target=_tell_waiting, args=(text, done), daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _tell_waiting(text: str, done: threading.Event) -> None:
    began = time.monotonic()
    if done.wait(WORD_AFTER_S):
        return
    if not sys.stderr.isatty():
        print(f"{text} …", file=sys.stderr, flush=True)
        return
    while True:
        print(f"\r{text} … {time.monotonic() - began:.0f} s ", end="", file=sys.stderr, flush=True)
        if done.wait(1.0):
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            return
