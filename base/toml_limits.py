"""What a TOML file may ask of its reader: tomllib recurses with the nesting of values and converts numbers of any length.

A hostile or damaged file of one line ("[[[[…", a number of thousands of digits) must be an error with a place, not the end of a daemon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_DEPTH = 32
"""Arrays and inline tables within each other; also the parts of a dotted key."""
MAX_DIGITS = 40
"""Far over 64 bits, far under the 4300 digits at which Python refuses to convert."""

_TOKEN = re.compile(
    r"""
    (?P<skip>\#[^\n]* | \"{3}(?:[^\\]|\\.)*?\"{3,5} | '{3}.*?'{3,5} | "(?:[^"\\\n]|\\.)*" | '[^'\n]*')
    | (?P<open>[\[{]) | (?P<close>[\]}]) | (?P<dot>\.) | (?P<end>[=,\n])
    | (?P<word>[A-Za-z0-9_+-]+)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Excess:
    """The first place that asks too much: ``line`` and ``column`` from 1, what is wrong and what to do."""

    line: int
    column: int
    message: str
    remedy: str


def excess(text: str) -> Excess | None:
    """The first thing in a TOML text that its reader could not bear, or None. Never raises; linear in the text's length."""
    depth = parts = 0
    for token in _TOKEN.finditer(text):
        kind, start = token.lastgroup, token.start()
        if kind == "open":
            depth += 1
            parts = 0
            if depth > MAX_DEPTH:
                return _at(text, start, f"more than {MAX_DEPTH} brackets within each other", "nothing in this file is nested so deeply")
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "dot":
            parts += 1
            if parts > MAX_DEPTH:
                return _at(text, start, f"a key of more than {MAX_DEPTH} parts", "no key of this file has so many")
        elif kind == "end":
            parts = 0
        elif kind == "word" and _digits(token["word"]) > MAX_DIGITS:
            return _at(text, start, f"a number of more than {MAX_DIGITS} digits", "no value of this file is that large")
    return None


def _digits(word: str) -> int:
    """How many digits a bare word begins with, 0 if it is no number (a key such as ``eth0`` may be as long as it likes)."""
    bare = word.lstrip("+-").replace("_", "")
    if bare[:2].lower() in ("0x", "0o", "0b"):
        return len(bare) - 2
    return len(bare) if bare.isdigit() else 0


def _at(text: str, offset: int, message: str, remedy: str) -> Excess:
    line = text.count("\n", 0, offset) + 1
    return Excess(line, offset - (text.rfind("\n", 0, offset) + 1) + 1, message, remedy)
