"""The status of ``vrrpd -t`` is that of Debian's ``keepalived -t`` on every file of tests/corpus/variations.py."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.corpus.variations import write
from tests.vrrp.config.reading import INTERFACES
from tests.vrrp.config.test_vrrp_config_keepalived import SET_UP
from vrrp.commandline import Options
from vrrp.loading import judge

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
DIFFERENT: dict[str, tuple[int, int, str]] = {
    "virtual_ipaddress_excluded { ; 192.168.200.20 peer 192.168.200.30/32 ; }": (
        5,
        0,
        "2.2.7 cannot read the length that its manual shows",
    ),
    "use_symlink_paths": (5, 0, "2.2.7 does not know it yet"),
    "json_version 2": (5, 0, "2.2.7 does not know it yet"),
}
"""The line → status of keepalived, ours, and why they differ."""


def test_the_same_verdict_on_every_variation(tmp_path: Path) -> None:
    paths = write(tmp_path)
    assert len(paths) >= 150
    command = ["unshare", "--net", "bash", "-c", SET_UP, "corpus", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    theirs = {Path(m[1]): int(m[2]) for m in re.finditer(r"^status (\S+) (\d+)$", done.stdout, re.MULTILINE)}
    wrong = {}
    for path, line in paths.items():
        verdict = judge(Options(config=str(path)), interface_exists=INTERFACES.__contains__)
        expected, ours, _why = DIFFERENT.get(line, (theirs[path], theirs[path], ""))
        if (theirs[path], verdict.status) != (expected, ours):
            wrong[line] = (theirs[path], verdict.status, verdict.lines)
    assert wrong == {}
