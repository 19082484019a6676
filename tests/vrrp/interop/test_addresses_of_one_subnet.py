"""Two virtual routers with addresses in one subnet that is not the node's own: when the first address goes, the kernel deletes the second
one too (unless promote_secondaries is set). Measured with both daemons: keepalived stays MASTER without its address, ours puts it back."""

from __future__ import annotations

import pytest

from tests.lab import Lab
from tests.vrrp.interop.vrrp_conf import VRID, conf

pytestmark = pytest.mark.system

FIRST, SECOND = "10.78.0.100", "10.78.0.101"


def two_routers() -> str:
    second = conf(100, name="V2", vip=f"{SECOND}/24").replace(f"virtual_router_id {VRID}", f"virtual_router_id {VRID + 1}")
    return conf(100, vip=f"{FIRST}/24") + second[second.index("vrrp_instance") :]


@pytest.mark.parametrize(("daemon", "keeps"), [("vrrpd", True), ("keepalived", False)])
def test_one_address_that_moves_away_does_not_take_the_other_along(daemon: str, keeps: bool) -> None:
    with Lab("a", "b") as lab:
        a, b = lab.nodes["a"], lab.nodes["b"]
        getattr(lab, daemon)("a", two_routers())
        lab.until(lambda: a.holds(FIRST) and a.holds(SECOND))
        other = lab.vrrpd("b", conf(150, vip=f"{FIRST}/24"))
        lab.until(lambda: b.holds(FIRST) and not a.holds(FIRST), what="the first router moves to b")
        if keeps:
            lab.until(lambda: a.holds(SECOND), 2.0, what="the second address is back")
        lab.always(lambda: a.holds(SECOND) == keeps and not b.holds(SECOND), 2.0)
        other.stop()
