"""What a keyword table is made of, and how a block is read with one.

A table is the single place where a keyword's value, its field in the model and its standing are declared;
``docs/COMPATIBILITY.md`` is generated from the tables.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, TypeVar

from base.diagnostics import Diagnostics, Position
from vrrp.config.historical import remedy_of
from vrrp.config.model.common import ScriptCommand
from vrrp.config.syntax import Statement, Word

T = TypeVar("T")


TOP_LEVEL = "(top level)"
DEFAULT_MTU = 1500
_UNDEFINED = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")


class Mark(Enum):
    """How often a keyword is met: CORE in nearly every tutorial, COMMON in many files, RARE otherwise."""

    CORE = "core"
    COMMON = "common"
    RARE = "rare"


class Status(Enum):
    """What this version does with a keyword. REFUSED is an error: the file must not mean less than it says.

    MOOT: there is nothing to do where it stands, for keepalived neither, or for want of the part that it would tune.
    """

    ACTS = "implemented"
    MOOT = "nothing to do"
    KEPT = "accepted, without effect"
    REFUSED = "refused"


class Rejected(Enum):
    """The type of REJECTED: the value was reported as wrong and is not to be used."""

    REJECTED = "rejected"


REJECTED: Final = Rejected.REJECTED


class Fields(dict[str, object]):
    """What a keyword that sets several fields answers with: field path to value."""


@dataclass(frozen=True, slots=True)
class Value:
    """How a value is written (``syntax``, for people) and read. ``read`` answers REJECTED after reporting."""

    syntax: str
    read: Callable[[Reading, Statement], object]
    takes_block: bool = False
    optional_block: bool = False


@dataclass(frozen=True, slots=True)
class Keyword:
    """One keyword of one block.

    ``field``: dotted path in the model object, "" = the caller of ``read_block`` takes the value by name.
    ``note``: what it does; for REFUSED the reason. ``loss``: for KEPT, what the operator does without (then using it
    is a warning, not only a note). ``instead``: set for deprecated spellings. ``newer``: unknown to keepalived 2.2.7.
    ``ours``: no keepalived knows it.
    ``accumulates``: giving it again adds to the first (tuples). ``first_counts``: giving it again changes nothing.
    """

    name: str
    value: Value
    field: str
    mark: Mark
    status: Status
    note: str
    loss: str = ""
    instead: str = ""
    newer: bool = False
    ours: bool = False
    accumulates: bool = False
    first_counts: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """All keywords of one kind of block. ``name``: its path in docs/COMPATIBILITY.md, e.g. ``vrrp_instance/authentication``."""

    name: str
    keywords: tuple[Keyword, ...]

    def find(self, name: str) -> Keyword | None:
        """The keyword called ``name``."""
        return next((keyword for keyword in self.keywords if keyword.name == name), None)

    def names(self) -> list[str]:
        """All names, in the order of the table."""
        return [keyword.name for keyword in self.keywords]


@dataclass(slots=True)
class Reading:
    """One run over one configuration: where findings go, and what the machine looks like.

    ``homes``: for every keyword the blocks that know it. ``via``: the macro that the current block came from.
    ``hidden``: (file, line) that keepalived does not see (``@vrrpd …``).
    """

    diagnostics: Diagnostics
    interface_exists: Callable[[str], bool] = lambda name: True
    homes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    via: str = ""
    inside_kept: int = 0
    without_effect: dict[str, Position] = field(default_factory=dict)
    lost: dict[tuple[str, str], list[Position]] = field(default_factory=dict)
    ours: dict[str, Position] = field(default_factory=dict)
    hidden: Container[tuple[str, int]] = frozenset()
    mtu_of: Callable[[str], int] = lambda name: DEFAULT_MTU

    def error(self, where: Word | Statement | Position, message: str, remedy: str, code: str = "value") -> Rejected:
        """Report an error that refuses the file; answers REJECTED for ``return reading.error(…)``."""
        if isinstance(where, Word) and (name := _UNDEFINED.search(where.text)):
            remedy = f"{name[0]} is not defined: write ${name[1]}=VALUE above this line, or correct the name"
        self.diagnostics.error(self._position(where), self._with_origin(message, where), remedy, code)
        return REJECTED

    def warning(self, where: Word | Statement | Position, message: str, remedy: str, code: str = "value") -> None:
        """Report something that keepalived complains about as well, but lives with."""
        self.diagnostics.warning(self._position(where), self._with_origin(message, where), remedy, code)

    def note(self, where: Word | Statement | Position, message: str, remedy: str = "", code: str = "advice") -> None:
        """Report something that keepalived passes over in silence."""
        self.diagnostics.note(self._position(where), self._with_origin(message, where), remedy, code)

    def note_without_effect(self) -> None:
        """One warning per keyword whose effect is missed, one remark for all others that do nothing yet."""
        for (name, loss), positions in self.lost.items():
            more = f" (also in line {', '.join(str(position.line) for position in positions[1:6])})" if len(positions) > 1 else ""
            self.diagnostics.warning(positions[0], f"{name} is not acted on yet: {loss}{more}", "", "not-acted-on")
        if self.ours:
            names = ", ".join(f"{name} (line {position.line})" for name, position in self.ours.items())
            remedy = "begin the line with @vrrpd: keepalived skips it then, and vrrpd reads it"
            self.note(next(iter(self.ours.values())), f"keepalived does not know these keywords of vrrpd: {names}", remedy, "only-vrrpd")
        if self.without_effect:
            names = ", ".join(f"{name} (line {position.line})" for name, position in self.without_effect.items())
            first = next(iter(self.without_effect.values()))
            self.diagnostics.note(first, f"read and checked, without effect in this version: {names}", "", "not-acted-on")

    @staticmethod
    def _position(where: Word | Statement | Position) -> Position:
        return where if isinstance(where, Position) else where.position

    def _with_origin(self, message: str, where: Word | Statement | Position) -> str:
        via = where.via if isinstance(where, Statement) else self.via
        return f"{message} (from {via})" if via else message


@dataclass(slots=True)
class Collected:
    """The values of one block by field path, and where each keyword stood (the last time)."""

    values: dict[str, object] = field(default_factory=dict)
    by_keyword: dict[str, object] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)

    def has(self, keyword: str) -> bool:
        """Whether the block gave ``keyword`` (even with a rejected value)."""
        return keyword in self.positions

    def position_list(self) -> tuple[tuple[str, Position], ...]:
        """The positions as the model keeps them."""
        return tuple(self.positions.items())


def read_block(reading: Reading, table: Table, statements: Iterable[Statement]) -> Collected:
    """Read every statement of a block; unknown keywords are reported and their blocks skipped."""
    collected = Collected()
    for statement in statements:
        keyword = table.find(statement.keyword)
        if keyword is None:
            report_unknown(reading, table, statement)
            continue
        reading.via = statement.via
        value = read_keyword(reading, table, keyword, statement)
        first = collected.positions.get(keyword.name)
        if value is REJECTED:
            collected.positions.setdefault(keyword.name, statement.position)
            continue
        if first is not None and not keyword.accumulates and _report_repeated(reading, keyword, statement, first, value):
            continue
        collected.positions[keyword.name] = statement.position
        if keyword.accumulates and isinstance(value, tuple):
            earlier = collected.by_keyword.get(keyword.name, ())
            value = (*earlier, *value) if isinstance(earlier, tuple) else value
        collected.by_keyword[keyword.name] = value
        if isinstance(value, Fields):
            collected.values.update(value)
        elif keyword.field:
            collected.values[keyword.field] = value
    return collected


def _report_repeated(reading: Reading, keyword: Keyword, statement: Statement, first: Position, value: object) -> bool:
    """Say which of two lines counts: for scripts and a few more the first, otherwise the last. True to skip this one."""
    if keyword.first_counts or isinstance(value, ScriptCommand):
        message = f"{keyword.name} is given again (first in line {first.line}); the first one counts"
        more = "; a script may call several commands" if isinstance(value, ScriptCommand) else ""
        reading.warning(statement, message, f"remove one of them{more}", "repeated")
        return True
    reading.note(statement, f"{keyword.name} is given again (first in line {first.line}); the last one counts", "remove one of them")
    return False


def read_keyword(reading: Reading, table: Table, keyword: Keyword, statement: Statement) -> object:
    """The value of one known statement, after the checks that every keyword shares."""
    report_standing(reading, keyword, statement)
    if statement.block is None and keyword.value.takes_block and not keyword.value.optional_block:
        return reading.error(statement, f"{keyword.name} needs a block", f"write: {keyword.name} {keyword.value.syntax}", "brace")
    if statement.block is not None and not keyword.value.takes_block:
        return reading.error(statement, f"{keyword.name} takes no block", f"write: {keyword.name} {keyword.value.syntax}".rstrip(), "brace")
    if not (keyword.status is Status.KEPT and keyword.value.takes_block):
        return keyword.value.read(reading, statement)
    reading.inside_kept += 1  # the block itself was reported: what is in it need not be
    try:
        return keyword.value.read(reading, statement)
    finally:
        reading.inside_kept -= 1


def table_block(
    table: Table, build: Callable[[Reading, Statement, Collected], object], syntax: str = "{ … }", optional: bool = False
) -> Value:
    """A block with a table of its own; ``build`` makes the value out of what was collected."""

    def read(reading: Reading, statement: Statement) -> object:
        return build(reading, statement, read_block(reading, table, statement.block or ()))

    return Value(syntax, read, takes_block=True, optional_block=optional)


def report_standing(reading: Reading, keyword: Keyword, statement: Statement) -> None:
    """Say that a keyword is deprecated, refused, or kept without effect."""
    if keyword.ours and (statement.position.file, statement.position.line) not in reading.hidden:
        reading.ours.setdefault(keyword.name, statement.position)
    if keyword.instead:
        reading.warning(statement, f"{keyword.name} is deprecated", f"write {keyword.instead} instead", "deprecated")
    if keyword.status is Status.REFUSED:
        reading.error(statement, f"{keyword.name} is not supported: {keyword.note}", "remove the line", "refused")
    elif keyword.status not in (Status.KEPT, Status.MOOT) or reading.inside_kept:
        return
    elif keyword.loss:
        reading.lost.setdefault((keyword.name, keyword.loss), []).append(statement.position)
    else:
        reading.without_effect.setdefault(keyword.name, statement.position)


def report_unknown(reading: Reading, table: Table, statement: Statement) -> None:
    """An unknown keyword with the nearest known spelling."""
    place = "at the top level" if table.name == TOP_LEVEL else f"in {table.name}"
    if modern := remedy_of(table.name, statement.keyword):
        reading.warning(statement, f"{statement.keyword} {place} is a word of former times and is skipped", modern, "historical")
        return
    suffix = "; its block is skipped" if statement.block is not None else ""
    near = nearest(statement.keyword, table.names())
    homes = reading.homes.get(statement.keyword, ())
    if homes:
        remedy = f"it belongs in {' or '.join(homes[:3])}; look for a '}}' that is missing or too much"
    elif near:
        remedy = f"did you mean '{near}'?"
    else:
        remedy = "remove the line, or look the keyword up in docs/COMPATIBILITY.md"
    reading.error(statement, f"unknown keyword '{statement.keyword}' {place}{suffix}", remedy, "unknown-keyword")


def nearest(word: str, known: Iterable[str]) -> str:
    """The most similar of ``known``, or "" if none is near."""
    by_lower = {name.lower(): name for name in known}
    match = difflib.get_close_matches(word.lower()[:80], list(by_lower), n=1, cutoff=0.6)
    return by_lower[match[0]] if match else ""


def acts(mark: Mark, name: str, value: Value, field: str, note: str, **more: Any) -> Keyword:
    """A keyword that the daemon acts on."""
    return Keyword(name, value, field, mark, Status.ACTS, note, **more)


def kept(mark: Mark, name: str, value: Value, field: str, note: str, **more: Any) -> Keyword:
    """A keyword that is read, checked and kept in the model, and has no effect yet."""
    return Keyword(name, value, field, mark, Status.KEPT, note, **more)


def moot(mark: Mark, name: str, value: Value, note: str, **more: Any) -> Keyword:
    """A keyword that is read and checked and that nothing is lost by; ``note`` says why."""
    return Keyword(name, value, "", mark, Status.MOOT, note, **more)


def refused(mark: Mark, name: str, value: Value, note: str, **more: Any) -> Keyword:
    """A keyword that is an error; ``note`` is the reason."""
    return Keyword(name, value, "", mark, Status.REFUSED, note, **more)


def apply(base: T, values: Mapping[str, object]) -> T:
    """``base`` with the fields of ``values`` replaced; a path ``a.b`` replaces field b of the object in field a."""
    flat: dict[str, object] = {}
    nested: dict[str, dict[str, object]] = {}
    for path, value in values.items():
        head, _, tail = path.partition(".")
        if tail:
            nested.setdefault(head, {})[tail] = value
        else:
            flat[head] = value
    for head, inner in nested.items():
        flat[head] = apply(flat.get(head, getattr(base, head)), inner)
    return replace(_dataclass(base), **flat) if flat else base


def _dataclass(base: T) -> Any:  # dataclasses.replace wants a DataclassInstance, which typing cannot name for T
    return base
