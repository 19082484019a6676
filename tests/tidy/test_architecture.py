"""The rules of DESIGN section 2: who may import whom, and what a pure room may see."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.imports import MODULES, PACKAGES, ROOT, closure, imports, ours, tree

ALLOWED = {
    "base": {"base"},
    "vrrp": {"base", "vrrp"},
    "fencing": {"base", "fencing"},
    "alerts": {"base", "alerts"},
    "watchdog": {"base", "vrrp", "fencing", "alerts", "watchdog"},
    "brainctl": set(PACKAGES),
}
PURE_ROOMS = (
    "vrrp.protocol",
    "vrrp.bfd.packet",
    "vrrp.bfd.session",
    "vrrp.config.model",
    "vrrp.lvs.model",
    "watchdog.frames",
    "watchdog.judgement",
    "fencing.plan",
    "watchdog.witness.lease",
    "alerts.routing",
)
PURE_LIBRARY = {
    *("__future__", "abc", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq", "hmac", "ipaddress"),
    *("itertools", "math", "struct", "typing", "unicodedata"),
}
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "breakpoint", "__import__", "hash", "id"}


def in_pure_room(module: str) -> bool:
    return any(module == room or module.startswith(room + ".") for room in PURE_ROOMS)


PURE_MODULES = sorted(module for module in MODULES if in_pure_room(module))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    wrong = [
        f"{MODULES[module].relative_to(ROOT)}:{item.line} imports {item.module}"
        for module in MODULES
        if module.split(".")[0] == package
        for item in imports(MODULES[module])
        if ours(item.module) and item.module.split(".")[0] not in ALLOWED[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_pure_room_is_there() -> None:
    assert [room for room in PURE_ROOMS if room not in MODULES] == []


@pytest.mark.parametrize("module", PURE_MODULES)
def test_whatever_a_pure_module_reaches_sees_no_clock_socket_file_or_chance(module: str) -> None:
    wrong = []
    for reached, chain in closure(module).items():
        for item in imports(MODULES[reached]):
            if not ours(item.module) and item.module.split(".")[0] not in PURE_LIBRARY:
                wrong.append(f"{' → '.join(chain)} imports {item.module} (line {item.line})")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", PURE_MODULES)
def test_pure_modules_call_no_impure_builtin(module: str) -> None:
    path = MODULES[module]
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} calls {node.func.id}()"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", PURE_MODULES)
def test_pure_modules_never_iterate_over_a_set_in_its_own_order(module: str) -> None:
    """The order of a set of strings differs with PYTHONHASHSEED; the same events must give the same commands."""
    path = MODULES[module]
    loops = [(node.iter, node.lineno) for node in ast.walk(tree(path)) if isinstance(node, ast.For)]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for source, line in loops
        if isinstance(source, ast.Set | ast.SetComp)
        or (isinstance(source, ast.Call) and isinstance(source.func, ast.Name) and source.func.id in ("set", "frozenset"))
    ]
    assert not wrong, "sort it: " + ", ".join(wrong)


OBSERVERS = ["brainctl.demo.measure", "brainctl.demo.record", "brainctl.demo.program", "brainctl.demo.kernel"]


@pytest.mark.parametrize("module", OBSERVERS)
def test_the_demos_measurements_share_no_code_with_the_daemons(module: str) -> None:
    strangers = [name for name in closure(module) if not (name == "brainctl" or name.startswith("brainctl.demo"))]
    assert strangers == []


@pytest.mark.parametrize("path", sorted((ROOT / "brainctl/demo/programs").glob("*.py")), ids=lambda path: path.stem)
def test_the_laboratorys_programs_import_only_the_standard_library(path: Path) -> None:
    assert [item.module for item in imports(path) if item.module.split(".")[0] not in sys.stdlib_module_names] == []


HEAVY = ("apprise", "sqlite_utils", "paramiko", "scapy", "aiohttp", "rich")


@pytest.mark.parametrize("module", ["watchdog.daemon", "brainctl.command"])
def test_processes_in_which_time_matters_import_nothing_heavy(module: str) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", ["watchdog.daemon", "vrrp.process"])
def test_timing_processes_use_the_pump_and_not_asyncio(module: str) -> None:
    """pyroute2, whose message classes we use, imports asyncio itself; no code of ours may (docs/adr/0001-epoll-pump.md)."""
    wrong = [m for m in closure(module) for item in imports(MODULES[m]) if item.module.split(".")[0] == "asyncio"]
    assert wrong == []


def test_nothing_in_the_product_depends_on_the_founders_notes() -> None:
    wrong = [str(path.relative_to(ROOT)) for path in MODULES.values() if "/work/shared" in path.read_text(encoding="utf-8")]
    assert wrong == []
