"""Which test shows which keyword of keepalived.conf, read off the tests themselves (for docs/COMPATIBILITY.md; needs the repository).

A test that shows the effect of a keyword says so where it stands, and the name is the table's and the keyword's:

    @pytest.mark.shows("vrrp_instance/nopreempt", "global_defs/vrrp_strict", "child_wait_time")
    def test_nopreempt_leaves_keepalived_alone() -> None: ...
"""

from __future__ import annotations

import ast
from pathlib import Path

from vrrp.config.keyword import TOP_LEVEL, Keyword, Table

TESTS = Path(__file__).parents[2] / "tests"


def slot_name(table: Table, keyword: Keyword) -> str:
    """``block/keyword`` as in the tables; at the top level the keyword alone (a mark may also say ``(top level)/keyword``)."""
    return keyword.name if table.name == TOP_LEVEL else f"{table.name}/{keyword.name}"


def shown_slots(directory: Path = TESTS) -> dict[str, list[str]]:
    """Slot to the tests that show it, ``vrrp/config/test_x.py::TestA::test_b``; a mark outside a test names the file."""
    found: dict[str, list[str]] = {}
    for path in sorted([*directory.rglob("test_*.py"), *directory.rglob("guest_*.py")]):
        text = path.read_text(encoding="utf-8")
        if "mark.shows" in text:
            _collect(ast.parse(text), str(path.relative_to(directory)), found)
    return found


def _collect(node: ast.AST, name: str, found: dict[str, list[str]]) -> None:
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, ast.ClassDef | ast.FunctionDef) and child.name.lower().startswith("test"):
            inner = f"{name}::{child.name}"
        if isinstance(child, ast.Call) and ast.unparse(child.func) in ("pytest.mark.shows", "shows"):
            for slot in _words(child, name):
                if name not in found.setdefault(slot, []):
                    found[slot].append(name)
        _collect(child, inner, found)


def _words(call: ast.Call, where: str) -> list[str]:
    words = [argument.value if isinstance(argument, ast.Constant) else None for argument in call.args]
    if call.keywords or not all(isinstance(word, str) for word in words):
        raise ValueError(f'{where} line {call.lineno}: pytest.mark.shows takes plain strings, "block/keyword"')
    return [word.removeprefix(f"{TOP_LEVEL}/") for word in words if isinstance(word, str)]
