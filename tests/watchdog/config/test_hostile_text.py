"""No text in brain.toml ends a daemon: every key of a full file in turn is left out, given a wrong type, made huge or nested, and what
comes of it is a setting or an error with line and remedy, for the reader, for ``brainctl check`` and ``braind --test``, and for SIGHUP."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from base.diagnostics import ConfigError, Severity
from base.toml_limits import excess
from tests.watchdog.config.full_file import FULL
from watchdog.config.load import parse_brain

ROOT = Path(__file__).resolve().parents[3]
DEEP = 5_000
VALUES = {
    "missing": None,
    "empty": '""',
    "boolean": "true",
    "zero": "0",
    "negative": "-1",
    "64 bits": str(2**63),
    "hexadecimal": "0x" + "f" * 39,
    "4300 digits": "9" * 4301,
    "hexadecimal of 5000 digits": "0x" + "f" * 5000,
    "not a number": "nan",
    "infinite": "inf",
    "date": "2026-01-01",
    "time": "12:00:00",
    "string": '"x"',
    "control characters": '"a\\u0000b\\n"',
    "long string": '"' + "x" * 100_000 + '"',
    "empty list": "[]",
    "list of numbers": "[1, 2]",
    "list of lists": "[[], [[]]]",
    "list of tables": "[{}, {a = 1}]",
    "deep list": "[" * DEEP + "]" * DEEP,
    "deep list within limits": "[" * 30 + "]" * 30,
    "table": "{}",
    "strange table": '{ "" = 1, "\\u0000" = 2, other = [] }',
    "deep table": "{a=" * DEEP + "1" + "}" * DEEP,
}


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every key of the file, tables and list items included."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))


def write(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, _Raw):
        return value.text
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}" = {write(v)}' for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(write(v) for v in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


class _Raw:
    def __init__(self, text: str) -> None:
        self.text = text


def changed(path: tuple[str | int, ...], text: str | None) -> str:
    """The full file with one key left out (None) or given another value."""
    data: Any = tomllib.loads(FULL)
    owner = data
    for part in path[:-1]:
        owner = owner[part]
    if text is None:
        del owner[path[-1]]
    else:
        owner[path[-1]] = _Raw(text)
    return "".join(f'"{key}" = {write(value)}\n' for key, value in data.items())


PLACES = [".".join(str(p) for p in path) for path in leaves(tomllib.loads(FULL))]
PATHS = dict(zip(PLACES, leaves(tomllib.loads(FULL)), strict=True))


def test_the_full_file_is_good() -> None:
    """What is changed below is a file without an error, and it has every table."""
    loaded = parse_brain(FULL, "brain.toml", "A")
    assert not [d for d in loaded.diagnostics if d.severity is Severity.ERROR]
    assert set(tomllib.loads(FULL)) >= {"version", "cluster", "node", "policy", "gate", "path", "reference", "fence", "alert"}
    assert len(PLACES) > 60


@pytest.mark.parametrize("what", VALUES)
def test_every_key_takes_every_value_or_refuses_it_with_a_remedy(what: str) -> None:
    refused = 0
    for path in PATHS.values():
        text = changed(path, VALUES[what])
        try:
            parse_brain(text, "brain.toml", "A")
        except ConfigError as error:
            refused += 1
            for found in error.diagnostics:
                assert found.message and len(str(found)) < 2_000, path
            assert all(d.remedy for d in error.diagnostics if d.severity is Severity.ERROR), path
    assert refused, "a value that fits nowhere must be refused somewhere"


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("version = 1\n[[path]]\nname = 'x'\n", 2, 1, "type is missing"),
        ("version = 1\nx = " + "[" * DEEP + "]" * DEEP, 2, 37, "brackets"),
        ("version = 1\n\nn = " + "1" * 4301, 3, 5, "digits"),
        ("a" + ".a" * DEEP + " = 1", 1, 66, "parts"),
    ],
)
def test_what_the_reader_cannot_bear_is_named_with_its_place(text: str, line: int, column: int, word: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_brain(text, "brain.toml", "A")
    (found,) = [d for d in refused.value.diagnostics if word in d.message]
    assert (found.position.line, found.position.column) == (line, column) and found.remedy


@pytest.mark.parametrize(
    "text",
    [
        "s = '" + "[" * 100 + "'",
        's = """\n' + "[" * 100 + '\n"""',
        "# " + "[" * 100,
        "eth" + "0" * 100 + " = 1",
        's = "\\"' + "[" * 100 + '"',
    ],
)
def test_brackets_and_digits_in_strings_comments_and_names_are_no_excess(text: str) -> None:
    tomllib.loads(text)
    assert excess(text) is None


def programs(config: Path, state: Path) -> dict[str, list[str]]:
    common = ["--config", str(config), "--node", "A", "--state-dir", str(state)]
    return {
        "brainctl check": [sys.executable, "-m", "brainctl.command", "check", *common],
        "braind --test": [sys.executable, "-m", "watchdog.daemon", "--test", *common],
    }


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("path.0.type", "missing"),
        ("path", "deep list"),
        ("node", "strange table"),
        ("gate.hold_file", "control characters"),
        ("cluster.key_file", "control characters"),
        ("policy.confirm_ms", "4300 digits"),
        ("fence.level", "deep table"),
    ],
)
def test_check_and_test_end_with_words_and_never_with_a_traceback(place: str, what: str, tmp_path: Path) -> None:
    config = tmp_path / "brain.toml"
    config.write_text(changed(PATHS[place], VALUES[what]))
    for name, argv in programs(config, tmp_path).items():
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"})
        assert done.returncode == 2, (name, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stdout + done.stderr, name
        assert str(tmp_path) in done.stdout + done.stderr, name
