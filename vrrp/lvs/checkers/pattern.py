"""``regex`` of a url, by the ``regex`` package: near to PCRE2, and with a time limit that ``re`` lacks.

A hostile page can make a backtracking matcher run for hours; a match that takes longer than MATCH_LIMIT_S counts as failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex

from vrrp.lvs.model.settings import BodyPattern

MATCH_LIMIT_S = 1.0
_FLAGS = {
    "caseless": regex.IGNORECASE,
    "dotall": regex.DOTALL,
    "extended": regex.VERBOSE,
    "multiline": regex.MULTILINE,
}
_WITHOUT_EFFECT = frozenset(
    (
        *("alt_verbnames", "auto_callout", "dupnames", "never_backslash_c", "never_ucp", "never_utf", "no_auto_capture"),
        *("no_auto_possess", "no_dotstar_anchor", "no_start_optimize", "use_offset_limit", "utf"),
    )
)


class UnusablePattern(Exception):
    """The expression cannot be used; the text says why, ``remedy`` what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class CompiledPattern:
    """A BodyPattern that is ready to be used on bytes."""

    pattern: BodyPattern
    compiled: Any

    def accepts(self, body: bytes) -> bool:
        """Whether ``body`` is good (which ``regex_no_match`` turns round). Raises TimeoutError."""
        found = self._find(body)
        return found != self.pattern.inverted

    def _find(self, body: bytes) -> bool:
        start, last = self.pattern.minimum_offset, self.pattern.maximum_offset
        if start > len(body):
            return False
        match = self.compiled.search(body, pos=start, timeout=MATCH_LIMIT_S, concurrent=True)
        return match is not None and (not last or match.start() <= last)


def translate(expression: str) -> str:
    """PCRE2 spells the end of the subject ``\\z`` and lets ``\\Z`` stand before a last newline; ``regex`` has only ``\\Z``."""
    out: list[str] = []
    index = 0
    while index < len(expression):
        pair = expression[index : index + 2]
        if pair[0] == "\\" and len(pair) == 2:
            out.append({"\\z": r"\Z", "\\Z": r"(?=\n?\Z)", "\\h": r"[\t ]"}.get(pair, pair))
            index += 2
        else:
            out.append(pair[0])
            index += 1
    return "".join(out)


@lru_cache(maxsize=1024)
def compile_pattern(pattern: BodyPattern) -> CompiledPattern:
    """Compile, or raise UnusablePattern."""
    flags = 0
    for option in pattern.options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option not in _WITHOUT_EFFECT:
            raise UnusablePattern(f"regex_options {option} is not supported", "write it inside the regex, or leave it out")
    try:
        compiled = regex.compile(translate(pattern.expression).encode(), flags)
    except regex.error as error:
        message = f"regex '{pattern.expression}' is wrong: {error}"
        raise UnusablePattern(message, "correct it (PCRE2 syntax)") from None
    return CompiledPattern(pattern, compiled)
