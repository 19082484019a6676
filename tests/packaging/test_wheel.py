"""The wheel beside PyPI's ``watchdog``: neither overwrites the other, and the three programs run from it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("vrrpd", "braind", "brainctl")


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(part) for part in argv], capture_output=True, text=True, cwd=cwd, timeout=110, check=False)
    assert done.returncode == 0, f"{argv}: rc {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=ROOT)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with PyPI's watchdog and our wheel; our dependencies come from the environment of the tests."""
    path = tmp_path_factory.mktemp("wheel-env") / "venv"
    run(sys.executable, "-m", "venv", path)
    run(path / "bin/pip", "install", "-q", "--disable-pip-version-check", "watchdog")
    run(path / "bin/pip", "install", "-q", "--disable-pip-version-check", "--no-deps", wheel)
    site = next(path.glob("lib/python3.*/site-packages"))
    (site / "zz_dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return path


def test_every_path_in_the_wheel_is_below_brainctl(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"brainctl"}
    assert not [name for name in names if name.startswith("watchdog/")]
    for package in ("base", "vrrp", "fencing", "alerts", "watchdog"):
        assert f"brainctl/_lib/{package}/__init__.py" in names


def test_the_wheel_holds_every_module_of_the_checkout(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("base", "vrrp", "fencing", "alerts", "watchdog"):
        for module in (ROOT / package).rglob("*.py"):
            assert f"brainctl/_lib/{module.relative_to(ROOT)}" in names
    for unit in ("braind", "vrrpd"):
        assert f"brainctl/_lib/conf/systemd/{unit}.service" in names
    for module in (ROOT / "brainctl").rglob("*.py"):
        assert str(module.relative_to(ROOT)) in names


def test_both_watchdogs_can_be_imported(environment: Path, tmp_path: Path) -> None:
    python = environment / "bin/python"
    theirs = run(python, "-c", "import watchdog.observers; print(watchdog.__file__)", cwd=tmp_path)
    assert "/site-packages/watchdog/" in theirs
    ours = run(
        python,
        "-c",
        "import sys, brainctl.launcher as l; sys.path.insert(0, str(l.library_root()));"
        "import watchdog.judgement.events as e; print(e.__file__)",
        cwd=tmp_path,
    )
    assert "/site-packages/brainctl/_lib/watchdog/" in ours


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_start_from_the_wheel(environment: Path, tmp_path: Path, program: str) -> None:
    assert run(environment / "bin" / program, "--help", cwd=tmp_path).strip()


def test_the_demo_is_in_the_wheel(environment: Path, tmp_path: Path) -> None:
    assert "cut-heartbeat" in run(environment / "bin/brainctl", "demo", "--list", cwd=tmp_path)


@pytest.mark.system
def test_the_demo_plays_from_the_wheel(environment: Path, tmp_path: Path) -> None:
    options = ("demo", "--daemon", "vrrpd", "--scenario", "orphan", "--keep", tmp_path / "kept")
    assert "ok: " in run(environment / "bin/brainctl", *options, cwd=tmp_path)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_start_from_the_checkout(tmp_path: Path, program: str) -> None:
    assert run(Path(sys.executable).parent / program, "--help", cwd=tmp_path).strip()
