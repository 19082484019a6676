"""House rules that a reader would otherwise have to check by eye."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.tidy.imports import MODULES, ROOT, tree

MAX_LINES = 850
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def test_every_module_says_what_it_holds() -> None:
    assert [str(path.relative_to(ROOT)) for path in MODULES.values() if not ast.get_docstring(tree(path))] == []


def test_no_module_has_grown_beyond_reading() -> None:
    long = {str(path.relative_to(ROOT)): count for path in MODULES.values() if (count := len(path.read_text().splitlines())) > MAX_LINES}
    assert long == {}


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_tests_patch_nothing(path: Path) -> None:
    """A test that needs ``patch`` on our own code is a design bug."""
    wrong = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            wrong += [f"line {node.lineno}: mock" for name in names if name.split(".")[-1] == "mock"]
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "setattr"
            and isinstance(node.value, ast.Name)
            and node.value.id == "monkeypatch"
        ):
            wrong.append(f"line {node.lineno}: monkeypatch.setattr")
    assert not wrong, f"{path}: {wrong}"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_no_test_is_skipped_without_a_condition(path: Path) -> None:
    """An unconditional skip or an expected failure hides a missing piece."""
    hidden = [
        node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute) and node.attr in ("skip", "xfail", "importorskip")
    ]
    assert not hidden, f"{path}: lines {hidden}"
