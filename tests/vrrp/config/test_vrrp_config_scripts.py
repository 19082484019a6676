"""Scripts that cannot run, or that others could change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from base.diagnostics import Severity
from tests.vrrp.config.reading import INSTANCE, findings, read
from vrrp.commandline import Options
from vrrp.config.check import EXIT_CONFIG, EXIT_OK, EXIT_SECURITY, EXIT_UNREADABLE, exit_status
from vrrp.config.script_check import writable_by_others
from vrrp.loading import judge

SECURE = "global_defs {{\n enable_script_security\n script_user root\n}}\nvrrp_script s {{\n script {script}\n}}\n"


def program(directory: Path, mode: int = 0o755) -> Path:
    path = directory / "check.sh"
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


@pytest.fixture
def root_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that only root can write, up to /; pytest's own are under a sticky /tmp."""
    assert os.geteuid() == 0, "these tests need root, as vrrpd does"
    directory = tmp_path_factory.mktemp("root")
    directory.chmod(0o755)
    return directory


def codes(directory: Path, text: str, severity: Severity) -> list[str]:
    return [code for _, _, code in findings(read(directory, text, scripts=True), severity)]


def test_a_safe_script_is_fine(root_only: Path) -> None:
    text = SECURE.format(script=program(root_only))
    assert codes(root_only, text, Severity.ERROR) == codes(root_only, text, Severity.WARNING) == []


@pytest.mark.parametrize("mode", [0o757, 0o777])
@pytest.mark.shows("global_defs/enable_script_security")
def test_a_root_script_that_everybody_can_write_is_refused(root_only: Path, mode: int) -> None:
    assert codes(root_only, SECURE.format(script=program(root_only, mode)), Severity.ERROR) == ["security"]


def test_a_root_script_in_a_directory_of_others_is_refused(root_only: Path) -> None:
    script = program(root_only)
    root_only.chmod(0o777)
    assert codes(root_only, SECURE.format(script=script), Severity.ERROR) == ["security"]
    root_only.chmod(0o755)
    os.chown(root_only, 65534, 0)
    assert codes(root_only, SECURE.format(script=script), Severity.ERROR) == ["security"]
    os.chown(root_only, 0, 0)


def test_a_link_is_followed(root_only: Path) -> None:
    script = program(root_only, 0o777)
    (root_only / "link").symlink_to(script)
    assert writable_by_others(str(root_only / "link"))


def test_a_script_of_another_user_needs_no_such_care(root_only: Path) -> None:
    text = SECURE.replace("script_user root", "script_user nobody").format(script=program(root_only, 0o777))
    assert codes(root_only, text, Severity.ERROR) == []


def test_without_security_root_scripts_are_a_warning(root_only: Path) -> None:
    text = SECURE.replace(" enable_script_security\n", "").format(script=program(root_only))
    assert codes(root_only, text, Severity.WARNING) == ["security"]


def test_a_missing_or_unrunnable_tracked_script_is_a_warning(root_only: Path) -> None:
    assert codes(root_only, SECURE.format(script="/bin/nosuch"), Severity.WARNING) == ["script"]
    assert codes(root_only, SECURE.format(script=program(root_only, 0o644)), Severity.WARNING) == ["script"]


def test_unknown_users_are_errors(root_only: Path) -> None:
    text = SECURE.format(script="/bin/true\n user nosuchuser")
    assert codes(root_only, text, Severity.ERROR) == ["script-user"]
    text = SECURE.format(script="/bin/true\n user root nosuchgroup")
    assert codes(root_only, text, Severity.ERROR) == ["script-user"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (INSTANCE.format(extra=""), EXIT_OK),
        (INSTANCE.format(extra="smtp_alert"), EXIT_OK),
        (INSTANCE.format(extra="notify /bin/nosuch"), EXIT_OK),
        (INSTANCE.format(extra="nopreempt\npreempt_delay 1"), EXIT_CONFIG),
        (INSTANCE.format(extra="nosuch"), EXIT_CONFIG),
        (INSTANCE.format(extra="notify /bin/true"), EXIT_SECURITY),
        (INSTANCE.format(extra="notify /bin/true\nnosuch"), EXIT_SECURITY),
    ],
)
def test_exit_status(tmp_path: Path, text: str, status: int) -> None:
    path = tmp_path / "k.conf"
    path.write_text(text)
    verdict = judge(Options(config=str(path)), interface_exists=lambda name: True)
    assert verdict.status == status
    assert verdict.lines[-1].startswith(str(path))


def test_an_unreadable_file_has_its_own_status(tmp_path: Path) -> None:
    verdict = judge(Options(config=str(tmp_path / "nosuch.conf")))
    assert verdict.status == EXIT_UNREADABLE
    assert exit_status(()) == EXIT_OK
