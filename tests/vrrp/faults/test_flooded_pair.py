"""Two vrrpd under 20 000 bad adverts a second: they hear each other, say that they are flooded, and take over in time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.faults.forger import VRID
from tests.lab import ROOT, Lab
from tests.vrrp.interop.vrrp_conf import VIP, conf
from tests.vrrp.interop.vrrp_conf import VRID as LAB_VRID
from tests.vrrp.interop.vrrpd_status import status

pytestmark = pytest.mark.system


def test_a_takeover_works_under_a_flood() -> None:
    assert VRID == LAB_VRID, "the forger hits the pair"
    with Lab("a", "b", "x") as lab:
        a, b = lab.nodes["a"], lab.nodes["b"]
        first = lab.vrrpd("a", conf(150, interval="0.3"))
        lab.until(lambda: a.holds(VIP))
        second = lab.vrrpd("b", conf(100, interval="0.3"))
        lab.until(lambda: "Entering BACKUP" in second.text())
        forger = ["bench.faults.forger", "mix", "20000", "8", "3"]
        inside = ["ip", "netns", "exec", lab.nodes["x"].namespace, sys.executable, "-m"]
        with subprocess.Popen([*inside, *forger], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            lab.until(lambda: status(second)["packets"]["flooded"] > 100, what="the flood is noticed")
            lab.always(lambda: a.holds(VIP) and not b.holds(VIP), 2.0)
            first.kill()
            took = lab.until(lambda: b.holds(VIP))
            assert process.poll() is None, "the flood went on until now"
            assert took < 4, "the flood held the takeover up"
            process.kill()
