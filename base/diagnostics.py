"""What is wrong in a file, where, and how to mend it.

Readers of configuration collect every problem of a file in one run instead of stopping at the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from base.visible import visible


class Severity(Enum):
    """How bad a diagnostic is. Only ERROR refuses the file."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file. Lines and columns count from 1; 0 means the whole file or line."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: where, how bad, what is wrong, and what to do about it."""

    position: Position
    severity: Severity
    message: str
    remedy: str = ""
    code: str = ""

    def __str__(self) -> str:
        text = f"{self.position}: {self.severity.value}: {visible(self.message)}"
        return f"{text}; {visible(self.remedy)}" if self.remedy else text

    def to_json(self) -> dict[str, str | int]:
        """The fields as JSON; ``severity`` is its lower-case word."""
        return {
            "file": self.position.file,
            "line": self.position.line,
            "column": self.position.column,
            "severity": self.severity.value,
            "code": self.code,
            "message": self.message,
            "remedy": self.remedy,
        }


class ConfigError(Exception):
    """A file was refused; carries every diagnostic that was found in it."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(str(d) for d in self.diagnostics))


@dataclass(slots=True)
class Diagnostics:
    """A growing list of findings."""

    items: list[Diagnostic] = field(default_factory=list)

    def error(self, position: Position, message: str, remedy: str = "", code: str = "") -> None:
        """Add a finding that refuses the file."""
        self.items.append(Diagnostic(position, Severity.ERROR, message, remedy, code))

    def warning(self, position: Position, message: str, remedy: str = "", code: str = "") -> None:
        """Add a finding that the operator should read; the file is still accepted."""
        self.items.append(Diagnostic(position, Severity.WARNING, message, remedy, code))

    def note(self, position: Position, message: str, remedy: str = "", code: str = "") -> None:
        """Add a remark."""
        self.items.append(Diagnostic(position, Severity.NOTE, message, remedy, code))

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.items)

    @property
    def errors(self) -> list[Diagnostic]:
        """Only the findings that refuse the file."""
        return [d for d in self.items if d.severity is Severity.ERROR]

    def raise_if_errors(self) -> None:
        """Raise ConfigError with all findings if any of them is an error."""
        if self.errors:
            raise ConfigError(self.items)
