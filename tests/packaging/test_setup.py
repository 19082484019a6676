"""Set-up: quick and silent when all is there, the lock pins everything, and no existing policy-rc.d is touched."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pinned() -> dict[str, str]:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines)}


def test_every_line_of_the_lock_pins_a_version() -> None:
    assert all(re.fullmatch(r"[0-9][\w.]*", version) for version in pinned().values())


def test_every_declared_dependency_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    names = {re.split(r"[<>=\[ ]", name)[0].lower().replace("_", "-") for name in wanted}
    assert names <= set(pinned())


@pytest.mark.parametrize("path", [".ci/run", "scripts/setup.sh", "scripts/lock.sh", "brainctl/demo/programs/fence_lab.py"])
def test_scripts_can_be_executed(path: str) -> None:
    assert (ROOT / path).stat().st_mode & stat.S_IXUSR


@pytest.fixture
def fake_debian(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the set-up whose apt-get and dpkg-query are recorders, and whose policy-rc.d lies in a directory of ours."""
    bin_dir, sbin = tmp_path / "bin", tmp_path / "sbin"
    bin_dir.mkdir()
    sbin.mkdir()
    policy = sbin / "policy-rc.d"
    (bin_dir / "dpkg-query").write_text("#!/bin/sh\nexit 1\n")
    (bin_dir / "systemctl").write_text("#!/bin/sh\nexit 0\n")
    (bin_dir / "apt-get").write_text(f'#!/bin/sh\nif [ -e {policy} ]; then cat {policy} >> {tmp_path}/seen; fi\nexit "${{APT_RC:-0}}"\n')
    for tool in bin_dir.iterdir():
        tool.chmod(0o755)
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    script = (ROOT / "scripts/setup.sh").read_text().replace("/usr/sbin/policy-rc.d", str(policy))
    (checkout / "scripts/setup.sh").write_text(script)
    for name in ("apt-demo.txt", "apt-test.txt"):
        (checkout / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    return checkout, {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"}


def setup(checkout: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # It ends after the packages: this copy has no requirements.lock.
    return subprocess.run(
        ["sh", "scripts/setup.sh", "demo"], cwd=checkout, env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("apt_rc", ["0", "100"])
def test_services_are_held_while_packages_are_installed_and_the_policy_is_removed(
    fake_debian: tuple[Path, dict[str, str]], tmp_path: Path, apt_rc: str
) -> None:
    checkout, env = fake_debian
    setup(checkout, {**env, "APT_RC": apt_rc})
    assert "exit 101" in (tmp_path / "seen").read_text()
    assert not (tmp_path / "sbin/policy-rc.d").exists()


def test_an_existing_policy_is_left_as_it_is(fake_debian: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    checkout, env = fake_debian
    policy = tmp_path / "sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\n# the administrator's\nexit 101\n")
    setup(checkout, env)
    assert policy.read_text() == "#!/bin/sh\n# the administrator's\nexit 101\n"


def test_a_policy_left_behind_by_a_killed_setup_is_removed(fake_debian: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    checkout, env = fake_debian
    policy = tmp_path / "sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\n# temporary, by brainctl scripts/setup.sh\nexit 101\n")
    setup(checkout, env)
    assert not policy.exists()
