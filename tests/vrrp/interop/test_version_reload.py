"""A reload that changes vrrp_version: the same virtual router goes on, beside Debian's keepalived (which keeps it, too)."""

from __future__ import annotations

import pytest

from tests.lab import Capture, Lab
from tests.vrrp.interop.test_vrrpd_features import is_in, rewrite
from tests.vrrp.interop.vrrp_conf import VIP, conf

pytestmark = pytest.mark.system


def versions(wire: Capture, port_of_sender: str) -> list[int]:
    """The VRRP versions of the adverts that left this node since the last look."""
    return [frame[34] >> 4 for port, frame in wire.read() if port == port_of_sender and frame[12:14] == b"\x08\x00" and frame[23] == 112]


@pytest.mark.parametrize("daemon", ["keepalived", "vrrpd"])
@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2)])
def test_a_master_stays_master(daemon: str, before: int, after: int) -> None:
    with Lab("a") as lab:
        node = lab.nodes["a"]
        running = getattr(lab, daemon)("a", conf(150, version=before, interval="1"))
        lab.until(lambda: node.holds(VIP), timeout_s=20)
        wire = lab.capture()
        rewrite(running, conf(150, version=after, interval="1"))
        seen: list[int] = []

        def spoken() -> bool:
            assert node.holds(VIP), "the address never leaves"
            seen.extend(versions(wire, node.port))
            return seen[-2:] == [after, after]

        lab.until(spoken, timeout_s=20)
        lab.always(lambda: node.holds(VIP), 1.0, "no interruption")
        seen.extend(versions(wire, node.port))
        assert seen == sorted(seen, reverse=before > after), f"first {before}, then only {after}"
        wire.close()
        assert not (daemon == "vrrpd" and not is_in(running, "MASTER"))


def test_a_pair_changes_its_version_node_by_node() -> None:
    """While they differ neither understands the other: both own the address, as with keepalived; then one does."""
    with Lab("a", "b") as lab:
        a = lab.vrrpd("a", conf(150, version=2, interval="1"))
        b = lab.vrrpd("b", conf(100, version=2, interval="1"))
        lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"), timeout_s=20)
        rewrite(b, conf(100, version=3, interval="1"))
        rewrite(a, conf(150, version=3, interval="1"))
        lab.until(lambda: is_in(a, "MASTER") and is_in(b, "BACKUP"), timeout_s=20)
        lab.always(lambda: lab.nodes["a"].holds(VIP) and not lab.nodes["b"].holds(VIP), 4.0, "b hears a's adverts of version 3")
        a.stop()
        lab.until(lambda: is_in(b, "MASTER"), timeout_s=20)
