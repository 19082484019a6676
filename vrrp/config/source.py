"""Reads keepalived.conf and what it includes, and expands the directives of the configuration language.

In: a path. Out: ``Line``s without comments, conditions, definitions and macros. Order per line, as in keepalived:
comment, include, ``@condition``, ``~SEQ``/``~LST``, ``$NAME=`` definition, substitution.

Everything is bounded, because a definition may refer to itself and ``~SEQ`` multiplies.
"""

from __future__ import annotations

import glob
import os
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from base.diagnostics import Diagnostics, Position
from base.visible import called, is_misleading
from vrrp.config.syntax import BLANKS, Line

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_FILES = 1_000
MAX_INCLUDE_DEPTH = 16
MAX_LINES = 500_000
MAX_LINE_CHARS = 64 * 1024
MAX_NESTING = 32
MAX_REMARKS_IN_LINE = 3
BYTE_ORDER_MARK = "\ufeff"
MAX_USES_IN_LINE = 1_000
MAX_SUBSTITUTIONS = 200_000
MAX_ITERATIONS = 50_000
"""Of all loops together: nested ones multiply, and a line costs some 80 µs and 1 kB."""
MAX_BRACE_ALTERNATIVES = 1_000

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_DEFINITION = re.compile(rf"\s*\$({_NAME})=(.*)", re.DOTALL | re.ASCII)
_USE = re.compile(rf"\$(?:\{{({_NAME})((?:\s+[^\s}}]+)*)\s*\}}|({_NAME})(?=\s|$))", re.ASCII)
_CONDITION = re.compile(r"(\s*)@(\^?)(\S*)", re.ASCII)
_SEQUENCE = re.compile(r"\s*~SEQ(x?)\(([^)]*)\)\s*", re.ASCII)
_LIST = re.compile(r"\s*~LST\(", re.ASCII)
_INCLUDE = re.compile(r"\s*(include[rmwba]?)(?:\s+(.*?))?\s*$", re.DOTALL | re.ASCII)
_GROUPED = re.compile(r"\{([^{}]*)\}|([^,{}]+)")

OWN_ID = "vrrpd"
"""``@vrrpd LINE`` is read by every vrrpd and skipped by keepalived, whose configuration id is another."""
INCLUDE_CHECKS = ("readable", "match", "wildcard_match", "brace_match")
_VARIANT_CHECKS = {
    "include": frozenset[str](),
    "includer": frozenset({"readable"}),
    "includem": frozenset({"readable", "match"}),
    "includew": frozenset({"readable", "wildcard_match"}),
    "includeb": frozenset({"readable", "brace_match"}),
    "includea": frozenset(INCLUDE_CHECKS),
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What the configuration language may ask of the machine. ``config_id``: what ``@ID`` is compared with (``-i``)."""

    config_id: str
    variables: Mapping[str, str] = field(default_factory=dict)
    random_seed: int | None = None


@dataclass(frozen=True, slots=True)
class _Definition:
    """``body``: one Line for a plain definition, several for a multi-line one."""

    body: tuple[Line, ...]
    multi_line: bool


class UnreadableError(Exception):
    """The main file could not be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooMuchError(Exception):
    """A bound was passed; reading stops."""

    def __init__(self, position: Position, message: str, remedy: str) -> None:
        super().__init__(message)
        self.position = position
        self.message = message
        self.remedy = remedy


def read_bytes(path: str) -> bytes:
    """A whole regular file; OSError if it cannot be read, ValueError if it is too large or no regular file."""
    with open(path, "rb") as f:
        if not os.path.isfile(path):
            raise ValueError("it is no regular file")
        data = f.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB; is it the right file?")
    return data


DIGITS = re.compile("[0-9]{1,18}").fullmatch


def blank_split(text: str) -> list[str]:
    """The words of ``text``; only keepalived's blanks separate."""
    return [word for word in re.split(r"[ \t\r\f\v\n]+", text) if word]


def _whole(text: str) -> int:
    """A number in ASCII digits, 0x and 0o as in Python. Raises ValueError."""
    if not text.isascii():
        raise ValueError(text)
    return int(text, 0)


def strip_comment(text: str) -> str:
    """The line up to ``#`` or ``!`` outside of double quotes; ``\\#`` and ``\\!`` are the characters themselves."""
    if "#" not in text and "!" not in text:
        return text
    in_quotes = False
    out: list[str] = []
    index = 0
    while index < len(text):
        char = text[index]
        if char == '"':
            in_quotes = not in_quotes
        elif char == "\\" and index + 1 < len(text) and text[index + 1] in "#!" and not in_quotes:
            index += 1
            char = text[index]
        elif char in "#!" and not in_quotes:
            break
        out.append(char)
        index += 1
    return "".join(out)


class SourceReader:
    """Reads one configuration. Afterwards ``files`` lists every file that was read."""

    def __init__(self, environment: Environment, diagnostics: Diagnostics) -> None:
        self.files: list[str] = []
        self.own_lines: set[tuple[str, int]] = set()
        """(file, line) of those that began with ``@vrrpd``."""
        self._environment = environment
        self._diagnostics = diagnostics
        self._definitions: dict[str, _Definition] = {}
        self._pending: tuple[str, list[Line]] | None = None
        self._substitutions = 0
        self._iterations = 0
        self._lines = 0
        self._include_checks: frozenset[str] = frozenset()
        self._random = random.Random(environment.random_seed)  # noqa: S311  a feature of the file format, no secret

    def read(self, path: str) -> Iterator[Line]:
        """Every line with a meaning. Raises UnreadableError if ``path`` itself cannot be read."""
        try:
            data = read_bytes(path)
        except OSError as error:
            raise UnreadableError(error.strerror or str(error)) from None
        except ValueError as error:
            raise UnreadableError(str(error)) from None
        try:
            yield from self._file(path, data, 0)
        except TooMuchError as error:
            self._diagnostics.error(error.position, error.message, error.remedy, "bound")
        if self._pending is not None:
            name, body = self._pending
            self._diagnostics.error(
                body[0].position(0),
                f"the definition of ${name} runs into the end of the file",
                "its last line must not end in '\\'",
                "macro",
            )

    def set_include_checks(self, words: tuple[str, ...]) -> list[str]:
        """``include_check``: replaces, adds (``+``) or removes (``-``) checks; answers with the words it does not know."""
        checks = set(self._include_checks)
        adding, replacing = True, True
        unknown: list[str] = []
        for word in words or INCLUDE_CHECKS:
            if word[:1] in "+-":
                adding, replacing, word = word[0] == "+", False, word[1:]
            if not word:
                continue
            if word not in INCLUDE_CHECKS:
                unknown.append(word)
                continue
            if replacing:
                checks, replacing = set(), False
            (checks.add if adding else checks.discard)(word)
        self._include_checks = frozenset(checks)
        return unknown

    def _file(self, path: str, data: bytes, depth: int) -> Iterator[Line]:
        if len(self.files) >= MAX_FILES:
            raise TooMuchError(Position(path), f"more than {MAX_FILES} files are included", "does a file include itself?")
        self.files.append(path)
        outer_checks = self._include_checks
        for number, raw in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
            if "\0" in raw:
                self._diagnostics.error(Position(path, number, raw.index("\0") + 1), "a NUL byte", "is this a text file?", "bytes")
                continue
            if len(raw) > MAX_LINE_CHARS:
                self._diagnostics.error(Position(path, number), f"a line of more than {MAX_LINE_CHARS} characters", "split it", "bound")
                continue
            text = strip_comment(raw).rstrip(BLANKS)
            if self._pending is not None:
                self._continue_definition(Line(text, path, number))
                continue
            if not text.strip(BLANKS):
                continue
            if not text.isascii() and not self._is_readable(path, number, text):
                continue
            line = Line(text, path, number)
            include = _INCLUDE.match(text)
            if include:
                yield from self._include(line, include, depth)
            else:
                yield from self._expand(line, 0)
        self._include_checks = outer_checks

    def _is_readable(self, path: str, number: int, text: str) -> bool:
        """Point at what nobody sees in a line. False: there is nothing else in it."""
        if number == 1 and text.strip(BLANKS) == BYTE_ORDER_MARK:
            self._diagnostics.warning(Position(path, 1, 1), "a byte order mark (U+FEFF) begins the file", "save it without", "bytes")
            return False
        told = 0
        for at, char in enumerate(text):
            if not is_misleading(char) or (at and text[at - 1] == char):
                continue
            told += 1
            if told > MAX_REMARKS_IN_LINE:
                break
            what = f"{called(char)} is no blank and no ASCII character: it belongs to its word"
            self._diagnostics.warning(Position(path, number, at + 1), what, "write it anew on a keyboard; copied from a page?", "advice")
        return True

    def _obey_reader_keyword(self, line: Line) -> None:
        """``include_check`` and ``random_seed`` steer the reading of the very next lines."""
        words = blank_split(line.text)
        if words[0] == "include_check":
            self.set_include_checks(tuple(words[1:]))
        elif words[0] == "random_seed" and len(words) > 1 and DIGITS(words[1]):
            self._random.seed(int(words[1]))

    # -- include ---------------------------------------------------------------------------------------------------

    def _include(self, line: Line, match: re.Match[str], depth: int) -> Iterator[Line]:
        keyword, argument = match.group(1), (match.group(2) or "").strip(BLANKS).strip('"')
        position = line.position(match.start(1))
        if line.text.count('"') % 2:
            self._diagnostics.error(position, 'the quote " is not closed on this line', 'add the closing "', "quote")
            return
        if not argument:
            self._diagnostics.error(position, f"{keyword} without a file name", f"write: {keyword} FILE", "include")
            return
        if depth >= MAX_INCLUDE_DEPTH:
            raise TooMuchError(position, f"files include each other more than {MAX_INCLUDE_DEPTH} deep", "does a file include itself?")
        checks = self._include_checks | _VARIANT_CHECKS[keyword]
        pattern = os.path.join(os.path.dirname(os.path.abspath(line.file)), argument)
        alternatives = expand_braces(pattern)
        found: list[str] = []
        for alternative in alternatives:
            paths = sorted(glob.glob(alternative))
            wildcard = glob.has_magic(alternative)
            demanded = "wildcard_match" if wildcard else "match"
            if not paths and (demanded in checks or (len(alternatives) > 1 and "brace_match" in checks)):
                self._diagnostics.error(position, f"no file matches {alternative}", "create the file or correct the pattern", "include")
            elif not paths and not wildcard and "readable" in checks:
                self._diagnostics.error(position, f"{alternative} does not exist", "create the file, or use plain 'include'", "include")
            elif not paths and not wildcard:
                self._diagnostics.note(
                    position, f"{alternative} does not exist; nothing is included", "use 'includea' to insist on it", "include"
                )
            found += paths
        for path in found:
            try:
                data = read_bytes(path)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                text = f"cannot read {path}: {reason}"
                if "readable" in checks:
                    self._diagnostics.error(position, text, "correct the file's permissions or the pattern", "include")
                elif not os.path.isdir(path):
                    self._diagnostics.warning(position, text, "its settings are missing; correct the permissions", "include")
                continue
            yield from self._file(path, data, depth + 1)

    # -- directives ------------------------------------------------------------------------------------------------

    def _expand(self, line: Line, nesting: int) -> Iterator[Line]:
        """Apply condition, loop, definition and substitution to one line, in this order, until nothing is left."""
        if nesting > MAX_NESTING:
            raise TooMuchError(line.position(0), f"definitions are nested more than {MAX_NESTING} deep", "does a definition use itself?")
        for _ in range(MAX_USES_IN_LINE):
            conditioned = self._condition(line)
            if conditioned is None or not conditioned.text.strip(BLANKS):
                return
            line = conditioned
            loop = self._loop(line, nesting) if line.text.lstrip(BLANKS).startswith("~") else None
            if loop is not None:
                yield from loop
                return
            definition = _DEFINITION.match(line.text)
            if definition:
                self._define(line, definition)
                return
            use = self._next_use(line)
            if use is None:
                self._lines += 1
                if self._lines > MAX_LINES:
                    raise TooMuchError(line.position(0), f"more than {MAX_LINES} lines after expansion", "look at the ~SEQ and ~LST lines")
                self._obey_reader_keyword(line)
                yield line
                return
            replaced = self._substitute(line, use)
            if len(replaced) > 1:
                for part in replaced:
                    yield from self._expand(part, nesting + 1)
                return
            line = replaced[0]
        raise TooMuchError(line.position(0), f"more than {MAX_USES_IN_LINE} substitutions in one line", "does a definition use itself?")

    def _condition(self, line: Line) -> Line | None:
        """The line without its ``@ID`` words, or None if one of them does not hold."""
        while match := _CONDITION.match(line.text):
            name = match.group(3)
            if not name:
                self._diagnostics.error(line.position(match.start(2)), "'@' without a configuration id", "write @NAME or @^NAME", "macro")
                return None
            if (name in (self._environment.config_id, OWN_ID)) == bool(match.group(2)):
                return None
            if name == OWN_ID:
                place = line.position(0)
                self.own_lines.add((place.file, place.line))
            line = _cut(line, match.end())
        return line

    def _loop(self, line: Line, nesting: int) -> Iterator[Line] | None:
        head = line
        for _ in range(MAX_NESTING):
            use = self._next_use(head)
            end = _loop_end(head.text)
            if use is None or end is None or use.start() >= end:
                break
            head = self._substitute(head, use)[0]
        if match := _SEQUENCE.match(head.text):
            values = self._sequence_values(head, match)
            return self._iterate(_cut(head, match.end()), values, nesting)
        if match := _LIST.match(head.text):
            parsed = self._list_values(head, match.end())
            if parsed is None:
                return iter(())
            end, assignments = parsed
            return self._iterate(_cut(head, end), assignments, nesting)
        return None

    def _iterate(self, rest: Line, values: list[dict[str, str]], nesting: int) -> Iterator[Line]:
        for assignment in values:
            self._iterations += 1
            if self._iterations > MAX_ITERATIONS:
                text = f"the ~SEQ and ~LST loops go round more than {MAX_ITERATIONS} times"
                raise TooMuchError(rest.position(0), text, "nest fewer of them, or make them shorter")
            for name, value in assignment.items():
                self._definitions[name] = _Definition((Line(value, rest.file, rest.number, tuple([1] * len(value))),), False)
            yield from self._expand(rest, nesting + 1)

    def _sequence_values(self, line: Line, match: re.Match[str]) -> list[dict[str, str]]:
        position = line.position(match.start(2))
        parts = [part.strip(BLANKS) for part in match.group(2).split(",")]
        remedy = "write ~SEQ(NAME, START, STEP, END); START and STEP may be left out"
        if not 2 <= len(parts) <= 4 or not re.fullmatch(_NAME, parts[0]):
            self._diagnostics.error(position, f"cannot read ~SEQ({match.group(2)})", remedy, "macro")
            return []
        try:
            numbers = [_whole(part) for part in parts[1:]]
        except ValueError:
            self._diagnostics.error(position, f"~SEQ({match.group(2)}) needs whole numbers", remedy, "macro")
            return []
        end = numbers[-1]
        start = numbers[0] if len(numbers) > 1 else (1 if end > 0 else -1)
        step = numbers[1] if len(numbers) == 3 else (1 if end >= start else -1)
        if step == 0 or (end - start) * step < 0:
            self._diagnostics.error(position, f"~SEQ({match.group(2)}) never reaches its end", remedy, "macro")
            return []
        if (end - start) // step >= MAX_LINES:
            raise TooMuchError(position, f"~SEQ({match.group(2)}) makes more than {MAX_LINES} lines", "use a shorter sequence")
        shape = "x" if match.group(1) else "d"
        stop = end + (1 if step > 0 else -1)
        return [{parts[0]: format(number, shape)} for number in range(start, stop, step)]

    def _list_values(self, line: Line, start: int) -> tuple[int, list[dict[str, str]]] | None:
        end = _closing_parenthesis(line.text, start)
        remedy = "write ~LST(NAME, a, b, …) or ~LST({N1,N2}, {a,b}, {c,d}, …)"
        if end < 0:
            self._diagnostics.error(line.position(start), "~LST( is not closed", remedy, "macro")
            return None
        groups: list[list[str]] = []
        for grouped, single in _GROUPED.findall(line.text[start:end]):
            if single.strip(BLANKS):
                groups.append([single.strip(BLANKS)])
            elif grouped:
                groups.append([part.strip(BLANKS) for part in grouped.split(",")])
        names = groups[0] if groups else []
        if len(groups) < 2 or not all(re.fullmatch(_NAME, name) for name in names) or any(len(g) != len(names) for g in groups[1:]):
            self._diagnostics.error(line.position(start), f"cannot read ~LST({line.text[start:end]})", remedy, "macro")
            return None
        rest = end + 1
        while rest < len(line.text) and line.text[rest] in BLANKS:
            rest += 1
        return rest, [dict(zip(names, group)) for group in groups[1:]]

    # -- definitions and their use ---------------------------------------------------------------------------------

    def _define(self, line: Line, match: re.Match[str]) -> None:
        name, value = match.group(1), match.group(2)
        if value.rstrip(BLANKS).endswith("\\"):
            first = value.rstrip(BLANKS)[:-1]
            if first.strip(BLANKS):
                self._diagnostics.error(
                    line.position(match.start(2)),
                    f"text after ${name}= in a definition of several lines",
                    "begin the text on the next line",
                    "macro",
                )
            self._pending = (name, [Line("", line.file, line.number)])
            return
        start = match.start(2) + len(value) - len(value.lstrip(BLANKS))
        self._definitions[name] = _Definition((_cut(line, start),), False)

    def _continue_definition(self, line: Line) -> None:
        assert self._pending is not None
        name, body = self._pending
        text = line.text.rstrip(BLANKS)
        more = text.endswith("\\")
        inner = _DEFINITION.match(text)
        if inner and inner.group(1) == name:
            message = f"the definition of ${name} (line {body[0].number}) defines ${name} again"
            self._diagnostics.error(line.position(inner.start(1) - 1), message, "remove one of the two lines", "macro")
        body.append(Line(text[:-1] if more else text, line.file, line.number, line.columns))
        if len(body) > MAX_LINES:
            raise TooMuchError(line.position(0), f"the definition of ${name} is too long", "end it with a line without '\\'")
        if not more:
            self._definitions[name] = _Definition(tuple(body[1:]), True)
            self._pending = None

    def _next_use(self, line: Line) -> re.Match[str] | None:
        """The first ``$NAME`` or ``${NAME}`` that has a value; others stay in the text as they are."""
        for match in _USE.finditer(line.text):
            name = match.group(1) or match.group(3)
            if (name in self._definitions and not match.group(2)) or (name in _PREDEFINED and self._predefined(line, match) is not None):
                return match
        return None

    def _substitute(self, line: Line, match: re.Match[str]) -> list[Line]:
        """The line(s) with one use replaced; a multi-line definition takes its neighbours along."""
        self._substitutions += 1
        if self._substitutions > MAX_SUBSTITUTIONS:
            raise TooMuchError(
                line.position(match.start()), f"more than {MAX_SUBSTITUTIONS} substitutions", "does a definition use itself?"
            )
        name = match.group(1) or match.group(3)
        definition = self._definitions.get(name)
        if definition is not None and definition.multi_line:
            return self._insert_lines(line, match, name, definition)
        value = definition.body[0].text if definition is not None else self._predefined(line, match) or ""
        columns = _columns(line)
        here = line.position(match.start()).column
        text = line.text[: match.start()] + value + line.text[match.end() :]
        if len(text) > MAX_LINE_CHARS:
            raise TooMuchError(
                line.position(match.start()), f"${name} makes a line of more than {MAX_LINE_CHARS} characters", "does it use itself?"
            )
        return [Line(text, line.file, line.number, columns[: match.start()] + (here,) * len(value) + columns[match.end() :], line.via)]

    def _insert_lines(self, line: Line, match: re.Match[str], name: str, definition: _Definition) -> list[Line]:
        place = line.position(match.start())
        via = f"${name} used at {place}" + (f", {line.via}" if line.via and line.via.count(",") < 3 else "")
        lines = [Line(body.text, body.file, body.number, body.columns, via) for body in definition.body]
        before, after = line.text[: match.start()], line.text[match.end() :]
        if before.strip(BLANKS):
            lines.insert(0, Line(before, line.file, line.number, _columns(line)[: match.start()], line.via))
        if after.strip(BLANKS):
            lines.append(Line(after, line.file, line.number, _columns(line)[match.end() :], line.via))
        return lines

    def _predefined(self, line: Line, match: re.Match[str]) -> str | None:
        name, words = match.group(1) or match.group(3), blank_split(match.group(2) or "")
        if name == "_PWD":
            return os.path.dirname(os.path.abspath(line.file))
        if name == "_INSTANCE":
            return self._environment.config_id
        if name == "_HASH":
            return "#"
        if name == "_BANG":
            return "!"
        if name == "_ENV" and len(words) == 1:
            return self._environment.variables.get(words[0], "")
        if name == "_RANDOM" and all(DIGITS(word) for word in words) and len(words) <= 2:
            low = int(words[0]) if words else 0
            high = int(words[1]) if len(words) == 2 else 32_767
            return str(self._random.randint(low, high)) if low <= high else None
        return None


_PREDEFINED = frozenset({"_PWD", "_INSTANCE", "_HASH", "_BANG", "_ENV", "_RANDOM"})


def _columns(line: Line) -> tuple[int, ...]:
    return line.columns if line.columns is not None else tuple(range(1, len(line.text) + 1))


def _cut(line: Line, start: int) -> Line:
    """The line from ``start`` on, with its columns."""
    return Line(line.text[start:], line.file, line.number, _columns(line)[start:], line.via)


def _closing_parenthesis(text: str, start: int) -> int:
    depth = 1
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return -1


def _loop_end(text: str) -> int | None:
    """Where the arguments of a leading ~SEQ( or ~LST( end; None if the text is no loop."""
    stripped = text.lstrip(BLANKS)
    if not stripped.startswith(("~SEQ(", "~SEQx(", "~LST(")):
        return None
    end = _closing_parenthesis(text, text.index("(") + 1)
    return end if end >= 0 else None


def expand_braces(pattern: str) -> list[str]:
    """csh-style alternatives: ``a{b,c}`` is ``ab`` and ``ac``, nested too; unbalanced braces stay as they are."""
    start = pattern.find("{")
    if start < 0:
        return [pattern]
    depth, parts, begin = 0, [], start + 1
    for index in range(start, len(pattern)):
        char = pattern[index]
        if char == "{":
            depth += 1
        elif char == "," and depth == 1:
            parts.append(pattern[begin:index])
            begin = index + 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                parts.append(pattern[begin:index])
                heads = [expanded for part in parts for expanded in expand_braces(part)]
                tails = expand_braces(pattern[index + 1 :])
                return [pattern[:start] + head + tail for head in heads for tail in tails][:MAX_BRACE_ALTERNATIVES]
    return [pattern]
