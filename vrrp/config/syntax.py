"""The shape of keepalived.conf without its meaning: words, statements, blocks.

A statement is a line of words, optionally followed by a block in braces: on the same line or on the next, ``{ a }`` on
one line too. keepalived finds braces anywhere outside quotes (``virtual_ipaddress{``), and so do we.

Two ways of quoting exist, and the first word of a statement chooses. Most keywords: ``"…"`` at the start of a word
groups words, no escapes. Script keywords: ``"…"`` and ``'…'`` anywhere, with the escapes of a shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from base.diagnostics import Diagnostics, Position

MAX_WORDS_IN_LINE = 10_000
MAX_DEPTH = 20

_SIMPLE_ESCAPES = {"a": "\a", "b": "\b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
OPEN = "{"
BLANKS = " \t\r\f\v\n"
"""What separates words, as for keepalived. A no-break or ideographic space belongs to its word."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line after comments and macros. ``columns``: the source column of every character, None = column i + 1.

    ``via`` tells which macro produced the line, for messages.
    """

    text: str
    file: str
    number: int
    columns: tuple[int, ...] | None = None
    via: str = ""

    def position(self, index: int) -> Position:
        """Where the character at ``index`` came from."""
        if self.columns is None:
            return Position(self.file, self.number, index + 1)
        if not self.columns:
            return Position(self.file, self.number)
        return Position(self.file, self.number, self.columns[min(index, len(self.columns) - 1)])


@dataclass(frozen=True, slots=True)
class Word:
    """A word without its quotes."""

    text: str
    position: Position
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """A keyword line: ``words[0]`` is the keyword. ``block`` None = no braces. ``via``: see Line."""

    words: tuple[Word, ...]
    block: tuple[Statement, ...] | None = None
    via: str = ""

    @property
    def keyword(self) -> str:
        """The first word."""
        return self.words[0].text

    @property
    def position(self) -> Position:
        """Where the first word stands."""
        return self.words[0].position

    @property
    def arguments(self) -> tuple[Word, ...]:
        """The words after the keyword."""
        return self.words[1:]


@dataclass(slots=True)
class _OpenBlock:
    words: tuple[Word, ...]
    via: str
    statements: list[Statement] = field(default_factory=list)


class _LineReader:
    """Cuts one line into words and braces."""

    def __init__(self, line: Line, is_script_keyword: Callable[[str], bool], diagnostics: Diagnostics) -> None:
        self._line = line
        self._text = line.text
        self._is_script_keyword = is_script_keyword
        self._diagnostics = diagnostics
        self._at = 0

    def tokens(self) -> list[Word | str]:
        """Words, and "{" or "}" as plain strings."""
        tokens: list[Word | str] = []
        shell_quoting = False
        first = True
        while len(tokens) < MAX_WORDS_IN_LINE:
            self._skip_blanks()
            if self._at >= len(self._text):
                return tokens
            if self._text[self._at] in "{}":
                tokens.append(self._text[self._at])
                self._at += 1
                first = True
                continue
            if first:
                shell_quoting = False
            word = self._shell_word() if shell_quoting else self._plain_word()
            if first:
                shell_quoting = self._is_script_keyword(word.text)
                first = False
            tokens.append(word)
        self._diagnostics.error(self._line.position(0), f"more than {MAX_WORDS_IN_LINE} words in one line", "split the line")
        return tokens

    def _skip_blanks(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in BLANKS:
            self._at += 1

    def _plain_word(self) -> Word:
        text, start = self._text, self._at
        position = self._line.position(start)
        if text[start] == '"':
            end = text.find('"', start + 1)
            if end < 0:
                self._unmatched(position, '"')
                end = len(text)
            self._at = end + 1
            return Word(text[start + 1 : end], position, quoted=True)
        at = start
        while at < len(text) and text[at] not in BLANKS and text[at] not in '"}':
            if text.startswith("${", at):
                end = text.find("}", at)
                at = len(text) if end < 0 else end + 1
            elif text[at] == "{":
                break
            else:
                at += 1
        self._at = at
        return Word(text[start:at], position)

    def _shell_word(self) -> Word:
        text = self._text
        position = self._line.position(self._at)
        out: list[str] = []
        quoted = False
        while self._at < len(text) and text[self._at] not in BLANKS and text[self._at] not in "{}":
            char = text[self._at]
            if char in "\"'":
                quoted = True
                out.append(self._shell_quoted(char))
            elif char == "\\":
                out.append(self._escape())
            elif text.startswith("${", self._at):
                end = text.find("}", self._at)
                end = len(text) if end < 0 else end + 1
                out.append(text[self._at : end])
                self._at = end
            else:
                out.append(char)
                self._at += 1
        return Word("".join(out), position, quoted)

    def _shell_quoted(self, quote: str) -> str:
        position = self._line.position(self._at)
        text = self._text
        self._at += 1
        out: list[str] = []
        while self._at < len(text):
            char = text[self._at]
            if char == quote:
                self._at += 1
                return "".join(out)
            if char == "\\":
                out.append(self._escape())
            else:
                out.append(char)
                self._at += 1
        self._unmatched(position, quote)
        return "".join(out)

    def _escape(self) -> str:
        """The character that the backslash sequence at the cursor stands for: \\n, \\xHH, \\NNN, \\cX, or \\C = C."""
        text = self._text
        self._at += 1
        if self._at >= len(text):
            self._diagnostics.error(self._line.position(self._at - 1), "a backslash ends the line", "remove it or write \\\\")
            return ""
        char = text[self._at]
        self._at += 1
        if char in _SIMPLE_ESCAPES:
            return _SIMPLE_ESCAPES[char]
        if char == "x":
            return chr(int(self._take("0123456789abcdefABCDEF", 2) or "0", 16))
        if char in "01234567":
            self._at -= 1
            return chr(int(self._take("01234567", 3), 8) & 0xFF)
        if char == "c" and self._at < len(text):
            self._at += 1
            return chr(ord(text[self._at - 1]) & 0x1F)
        return char

    def _take(self, alphabet: str, count: int) -> str:
        start = self._at
        while self._at < len(self._text) and self._at - start < count and self._text[self._at] in alphabet:
            self._at += 1
        return self._text[start : self._at]

    def _unmatched(self, position: Position, quote: str) -> None:
        self._diagnostics.error(position, f"the quote {quote} is not closed on this line", f"add the closing {quote}", "quote")


class SyntaxReader:
    """Builds statements from lines; every problem is collected and reading goes on.

    ``is_script_keyword``: words that switch to shell quoting. ``is_top_level``: keywords that can only stand outside
    of every block; one of them inside a block proves that a ``}`` is missing before it.
    """

    def __init__(
        self,
        diagnostics: Diagnostics,
        is_script_keyword: Callable[[str], bool] = lambda word: False,
        is_top_level: Callable[[str], bool] = lambda word: False,
    ) -> None:
        self._diagnostics = diagnostics
        self._is_script_keyword = is_script_keyword
        self._is_top_level = is_top_level
        self._open: list[_OpenBlock] = [_OpenBlock((), "")]
        self._ignored_depth = 0

    def read(self, lines: Iterable[Line]) -> tuple[Statement, ...]:
        """All statements of the top level."""
        for line in lines:
            self._read_line(line)
        for block in reversed(self._open[1:]):
            self._not_closed(block, "the end of the file")
            self._close()
        return tuple(self._open[0].statements)

    def _read_line(self, line: Line) -> None:
        words: list[Word] = []
        tokens = _LineReader(line, self._is_script_keyword, self._diagnostics).tokens()
        for token in tokens:
            if isinstance(token, Word):
                words.append(token)
            elif token == OPEN:
                self._begin_block(line, words)
                words = []
            else:
                self._statement(line, words)
                words = []
                self._end_block(line)
        self._statement(line, words)

    def _statement(self, line: Line, words: list[Word]) -> None:
        if not words or self._ignored_depth:
            return
        self._check_missing_close(words)
        self._open[-1].statements.append(Statement(tuple(words), None, line.via))

    def _begin_block(self, line: Line, words: list[Word]) -> None:
        if self._ignored_depth:
            self._ignored_depth += 1
            return
        via = line.via
        if words:
            self._check_missing_close(words)
        else:
            statements = self._open[-1].statements
            if not statements or statements[-1].block is not None:
                self._diagnostics.error(
                    line.position(0), "a '{' without a keyword before it", "remove it or put the keyword before it", "brace"
                )
                self._ignored_depth = 1
                return
            previous = statements.pop()
            words, via = list(previous.words), previous.via
        if len(self._open) > MAX_DEPTH:
            self._diagnostics.error(words[0].position, f"blocks are nested more than {MAX_DEPTH} deep", "look for a missing '}'", "brace")
            self._ignored_depth = 1
            return
        self._open.append(_OpenBlock(tuple(words), via))

    def _end_block(self, line: Line) -> None:
        if self._ignored_depth:
            self._ignored_depth -= 1
        elif len(self._open) == 1:
            index = max(line.text.rfind("}"), 0)
            self._diagnostics.error(
                line.position(index), "a '}' that closes nothing", "remove it, or find the '{' that is missing above", "brace"
            )
        else:
            self._close()

    def _close(self) -> None:
        block = self._open.pop()
        self._open[-1].statements.append(Statement(block.words, tuple(block.statements), block.via))

    def _check_missing_close(self, words: list[Word]) -> None:
        if len(self._open) == 1 or not self._is_top_level(words[0].text):
            return
        for block in reversed(self._open[1:]):
            self._not_closed(block, f"{words[0].text} in line {words[0].position.line}")
            self._close()

    def _not_closed(self, block: _OpenBlock, before: str) -> None:
        name = " ".join(word.text for word in block.words[:2])
        self._diagnostics.error(
            block.words[0].position, f"the '{{' of '{name}' is not closed before {before}", "add a '}' where this block ends", "brace"
        )
