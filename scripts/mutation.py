"""Mutation testing of the rooms that decide: watchdog/judgement, watchdog/frames, fencing/plan (``make mutation``).

One small change at a time is made to the syntax tree of one module, in memory, while it is imported; then its tests run, then the cases
and seeds of the simulator, then a search. A mutant that nothing notices survives and is listed. Which of all mutants are tried is drawn
from a printed seed. The files on disk are never touched.

    python scripts/mutation.py --seed 7 --mutants 40 --budget 1800 --out docs/reliability/mutation.json
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("watchdog/judgement", "watchdog/frames", "fencing/plan")
TESTS = {
    "watchdog/judgement": ("tests/watchdog/judgement",),
    "watchdog/frames": ("tests/watchdog/frames", "tests/watchdog/judgement"),
    "fencing/plan": ("tests/fencing/test_fence_session.py", "tests/fencing/test_fence_proof.py", "tests/watchdog/judgement"),
}
WORLD_SEEDS = range(24)
WORLD_TIMEOUT_S = 600
"""A mutant that keeps everything busy for so long is noticed by it."""
SWAPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
SUMS: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult}


@dataclass(frozen=True)
class Mutant:
    """One change: the number of its place in the module's tree, and what it does there."""

    path: str
    place: int
    line: int
    what: str


class _Changer(ast.NodeTransformer):
    """Counts the places where something can be changed, and changes one of them (-1: none)."""

    def __init__(self, wanted: int = -1) -> None:
        self.wanted = wanted
        self.places: list[tuple[int, str]] = []

    def _here(self, node: ast.AST, what: str) -> bool:
        self.places.append((getattr(node, "lineno", 0), what))
        return len(self.places) - 1 == self.wanted

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node  # a text for people

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node  # it tells mypy what the types are

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        swap = SWAPS.get(type(node.ops[0]))
        if swap is not None and self._here(node, f"{type(node.ops[0]).__name__} becomes {swap.__name__}"):
            node.ops[0] = swap()
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if self._here(node, "and becomes or" if isinstance(node.op, ast.And) else "or becomes and"):
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if isinstance(node.op, ast.Not) and self._here(node, "not is left out") else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        swap = SUMS.get(type(node.op))
        texts = any(isinstance(side, ast.Constant | ast.JoinedStr) and not _is_number(side) for side in (node.left, node.right))
        if swap is not None and not texts and self._here(node, f"{type(node.op).__name__} becomes {swap.__name__}"):
            node.op = swap()
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            if self._here(node, f"{node.value} becomes {not node.value}"):
                return ast.copy_location(ast.Constant(not node.value), node)
        elif isinstance(node.value, int) and self._here(node, f"{node.value} becomes {node.value + 1}"):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node
        self.generic_visit(node)
        if self._here(node, "the condition is turned round"):
            node.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant):
            return node
        self.generic_visit(node)
        return ast.copy_location(ast.Pass(), node) if self._here(node, "the statement is left out") else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        return ast.copy_location(ast.Pass(), node) if self._here(node, "the statement is left out") else node


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def mutants_of(path: str) -> list[Mutant]:
    """Every mutant of one module."""
    counter = _Changer()
    counter.visit(ast.parse((ROOT / path).read_text()))
    return [Mutant(path, place, line, what) for place, (line, what) in enumerate(counter.places)]


def changed_tree(path: str, place: int) -> ast.Module:
    """The module's syntax tree with one change."""
    tree = ast.parse((ROOT / path).read_text())
    _Changer(place).visit(tree)
    return ast.fix_missing_locations(tree)


def mutated(path: str, place: int) -> CodeType:
    """The module's code with one change."""
    return compile(changed_tree(path, place), str(ROOT / path), "exec", dont_inherit=True)


class _Loader(importlib.abc.Loader):
    def __init__(self, code: CodeType) -> None:
        self._code = code

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102 - our own source with one change


class _Finder(importlib.abc.MetaPathFinder):
    """Gives the changed code for one module, nothing for all others."""

    def __init__(self, path: str, place: int) -> None:
        self._name = path.removesuffix(".py").replace("/", ".")
        self._path = path
        self._place = place

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, ROOT / self._path, loader=_Loader(mutated(self._path, self._place)))


def notice(path: str, place: int) -> str:
    """Run in a process of its own: what notices this mutant first ("" = nothing does)."""
    sys.path.insert(0, str(ROOT))
    sys.meta_path.insert(0, _Finder(path, place))
    import pytest

    room = next(room for room in ROOMS if path.startswith(room))
    for name, words in (("tests", TESTS[room]), ("cases", ("tests/watchdog/simulator/test_cases.py", "tests/watchdog/search"))):
        quiet = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not slow"]
        if pytest.main([*quiet, *(str(ROOT / word) for word in words)]) != 0:
            return name
    return _worlds()


def _worlds() -> str:
    from watchdog.search.run import search
    from watchdog.simulator.run import run_seed

    for seed in WORLD_SEEDS:
        if run_seed(seed, quick=True).violations:
            return "seeds"
    return "search" if search(1, workers=1, stop_at_first=True).findings else ""


def sample(seed: int, number: int) -> list[Mutant]:
    """The mutants to try."""
    paths = sorted(str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).glob("*.py") if path.name != "__init__.py")
    every = [mutant for path in paths for mutant in mutants_of(path)]
    rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
    print(f"{len(every)} mutants in {len(paths)} modules; seed {seed}, {min(number, len(every))} of them", file=sys.stderr)
    return rng.sample(every, min(number, len(every)))


def tried(mutants: Sequence[Mutant], end_s: float) -> Iterator[tuple[Mutant, str]]:
    """Every mutant with what noticed it, until the time is up."""
    for mutant in mutants:
        if time.monotonic() >= end_s:
            return
        words = [sys.executable, __file__, "--notice", mutant.path, str(mutant.place)]
        try:
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=WORLD_TIMEOUT_S, check=False)
            said = [line for line in done.stdout.splitlines() if line.startswith("noticed by: ")]
            yield mutant, said[-1].removeprefix("noticed by: ") if said else "import"
        except subprocess.TimeoutExpired:
            yield mutant, "time"


def main() -> int:
    """Try a sample and write down what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutants", type=int, default=40)
    parser.add_argument("--budget", type=float, default=1_800, help="seconds")
    parser.add_argument("--out", type=Path, help="where the result is recorded")
    parser.add_argument("--notice", nargs=2, metavar=("PATH", "PLACE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.notice:
        print(f"noticed by: {notice(args.notice[0], int(args.notice[1]))}")
        return 0
    began = time.monotonic()
    mutants = sample(args.seed, args.mutants)
    results: list[tuple[Mutant, str]] = []
    for mutant, by in tried(mutants, began + args.budget):
        results.append((mutant, by))
        print(f"{mutant.path}:{mutant.line}: {mutant.what}: {by or 'SURVIVES'}", flush=True)
        if args.out:
            record(args.out, args.seed, results, time.monotonic() - began)
    killed = sum(bool(by) for _, by in results)
    print(f"{killed} of {len(results)} mutants were noticed")
    return 0


def record(out: Path, seed: int, results: Sequence[tuple[Mutant, str]], took_s: float) -> None:
    """Write what is known so far."""
    survivors = [{"path": m.path, "line": m.line, "what": m.what, "why": ""} for m, by in results if not by]
    by_whom: dict[str, int] = {}
    for _, by in results:
        by_whom[by or "nothing"] = by_whom.get(by or "nothing", 0) + 1
    told = {
        "seed": seed,
        "tried": len(results),
        "noticed_by": dict(sorted(by_whom.items())),
        "took_s": round(took_s),
        "survivors": survivors,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([told], indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
