"""ipvlan and VRF on a kernel that has them: boots the lab's guest (`make lab` installs what that needs)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest import run_in_guest

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(270)]


def test_in_the_guest(tmp_path: Path) -> None:
    run_in_guest("tests/vrrp/interop/guest_links.py", scratch=tmp_path)
