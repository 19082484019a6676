"""Reads the source tree's imports without running it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("base", "vrrp", "fencing", "alerts", "watchdog", "brainctl")


@dataclass(frozen=True)
class Import:
    """One imported module, as absolute dotted name, and the line it is written on."""

    module: str
    line: int


def modules() -> dict[str, Path]:
    """Every module of our packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


class _Collector(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[Import] = []

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for part in node.orelse:
                self.visit(part)
            return
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(alias.name, node.lineno) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"line {node.lineno}: relative imports are not used here"
        module = node.module or ""
        self.found.append(Import(module, node.lineno))
        self.found += [Import(name, node.lineno) for alias in node.names if (name := f"{module}.{alias.name}") in MODULES]


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """What a file imports when it runs (not what it imports for type checking only); also inside functions."""
    collector = _Collector()
    collector.visit(tree(path))
    return tuple(collector.found)


def ours(module: str) -> bool:
    """Whether a dotted name belongs to our packages."""
    return module.split(".")[0] in PACKAGES


def with_parents(module: str) -> list[str]:
    """A module and the packages whose __init__ runs before it."""
    parts = module.split(".")
    return [name for end in range(1, len(parts) + 1) if (name := ".".join(parts[:end])) in MODULES]


def closure(start: str) -> dict[str, tuple[str, ...]]:
    """Every module of ours that importing ``start`` runs, with the chain of imports that leads to it."""
    chains: dict[str, tuple[str, ...]] = dict.fromkeys(with_parents(start), (start,))
    todo = list(chains)
    while todo:
        module = todo.pop()
        for item in imports(MODULES[module]):
            if ours(item.module):
                for name in with_parents(item.module):
                    if name not in chains:
                        chains[name] = (*chains[module], name)
                        todo.append(name)
    return chains
