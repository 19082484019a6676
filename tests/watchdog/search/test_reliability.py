"""docs/RELIABILITY.md is what the record says, and a mutant really changes the code that runs."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "RELIABILITY.md").read_text() == script("reliability").render(), "run: python scripts/reliability.py render"


def test_every_place_of_a_module_is_one_small_change() -> None:
    mutation = script("mutation")
    path = "fencing/plan/budget.py"
    mutants = mutation.mutants_of(path)
    assert len(mutants) > 5
    original = ast.unparse(ast.parse((ROOT / path).read_text()))
    for mutant in mutants:
        changed = ast.unparse(mutation.changed_tree(path, mutant.place))
        pairs = zip(original.splitlines(), changed.splitlines(), strict=True)
        assert sum(one != other for one, other in pairs) == 1, mutant
    assert {mutant.path for mutant in mutants} == {path}
    assert [mutant.place for mutant in mutants] == list(range(len(mutants)))


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    mutation = script("mutation")
    assert mutation.sample(3, 20) == mutation.sample(3, 20) != mutation.sample(4, 20)
