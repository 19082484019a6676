"""vrrpd and Debian's keepalived as a pair, in both roles: election, handover, preemption, death."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import Daemon, Lab
from tests.vrrp.interop.vrrp_conf import SERVICE6, VIP, conf, priority_of

pytestmark = pytest.mark.system

MODES = {
    "v3 multicast": {"version": 3, "interval": "0.1"},
    "v3 unicast": {"version": 3, "interval": "0.1", "unicast": True},
    "v3 another group": {"version": 3, "interval": "0.2", "global_extra": "vrrp_mcast_group4 224.0.0.99"},
    "v2 multicast PASS": {"version": 2, "interval": "1", "password": "geheimes"},
    "v2 unicast": {"version": 2, "interval": "1", "unicast": True},
    "v2 multicast AH": {"version": 2, "interval": "1", "password": "geheimes", "auth_type": "AH"},
    "v2 unicast AH": {"version": 2, "interval": "1", "password": "kurz", "auth_type": "AH", "unicast": True},
    "IPv6 multicast": {"version": 3, "interval": "0.1", "ipv6": True},
    "IPv6 unicast": {"version": 3, "interval": "0.1", "ipv6": True, "unicast": True},
}
Starter = Callable[[Lab, str, str], Daemon]


def vrrpd(lab: Lab, node: str, text: str) -> Daemon:
    return lab.vrrpd(node, text)


def keepalived(lab: Lab, node: str, text: str) -> Daemon:
    return lab.keepalived(node, text)


def pair(lab: Lab, mode: dict[str, object]) -> tuple[str, str]:
    """The configurations of a (priority 150) and b (priority 100)."""
    settings = dict(mode)
    unicast = settings.pop("unicast", False)
    nodes = (lab.nodes["a"], lab.nodes["b"])
    a, b = [node.address6 if mode.get("ipv6") else node.address for node in nodes]
    to_a = {"peer": a, "source": b} if unicast else {}
    to_b = {"peer": b, "source": a} if unicast else {}
    return conf(150, **settings, **to_b), conf(100, **settings, **to_a)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize(("on_a", "on_b"), [(vrrpd, keepalived), (keepalived, vrrpd)], ids=["vrrpd higher", "keepalived higher"])
@pytest.mark.shows(
    "vrrp_instance",
    "vrrp_instance/interface",
    "vrrp_instance/virtual_router_id",
    "vrrp_instance/priority",
    "vrrp_instance/advert_int",
    "vrrp_instance/virtual_ipaddress",
    "vrrp_instance/unicast_peer",
    "vrrp_instance/unicast_src_ip",
    "vrrp_instance/authentication",
    "vrrp_instance/authentication/auth_type",
    "vrrp_instance/authentication/auth_pass",
    "global_defs",
    "global_defs/vrrp_version",
)
def test_life_of_a_pair(mode: dict[str, object], on_a: Starter, on_b: Starter) -> None:
    slow = mode["version"] == 2
    vip = SERVICE6 if mode.get("ipv6") else VIP
    with Lab("a", "b") as lab:
        conf_a, conf_b = pair(lab, mode)
        a, b = lab.nodes["a"], lab.nodes["b"]

        def owners() -> set[str]:
            return {node.name for node in (a, b) if node.holds(vip)}

        # Election: the higher priority, and only that one.
        second = on_b(lab, "b", conf_b)
        first = on_a(lab, "a", conf_a)
        lab.until(lambda: owners() == {"a"}, what="a becomes MASTER")
        lab.always(lambda: owners() == {"a"}, 2.0, what="a stays the only MASTER")
        # A stop hands over within the skew: far sooner than a master down interval.
        capture = lab.capture()
        first.signal(signal.SIGTERM)
        took = lab.until(lambda: owners() == {"b"}, what="b takes over after priority 0")
        first.stop()
        capture.read()
        said = [priority for p, f in capture.frames if p == "p1" and (priority := priority_of(f)) is not None]
        assert said[-1] == 0, "the last word of a is priority 0"
        assert took < 3 or not slow, "priority 0 was not heard: that took a whole master down interval"
        # The higher priority comes back and preempts.
        first = on_a(lab, "a", conf_a)
        lab.until(lambda: owners() == {"a"}, what="a preempts")
        # Sudden death leaves keepalived's address behind, ours is removed by the guardian; the other takes over all the same.
        left = {"a"} if on_a is keepalived else set()
        first.kill()
        lab.until(lambda: owners() == left | {"b"}, what="b takes over from the dead a")
        # A new start removes what was left over, before it decides anything.
        first = on_a(lab, "a", conf_a)
        lab.until(lambda: owners() == {"b"}, what="the leftover address is removed at start")
        lab.until(lambda: owners() == {"a"}, what="a preempts again")
        assert second.stop() == 0
        assert first.stop() == 0
        assert owners() == set()


@pytest.mark.parametrize(("on_a", "on_b"), [(vrrpd, keepalived), (keepalived, vrrpd)], ids=["vrrpd higher", "keepalived higher"])
@pytest.mark.shows("vrrp_instance/old_unicast_checksum")
def test_an_old_unicast_checksum_is_found_out(on_a: Starter, on_b: Starter) -> None:
    """keepalived speaks as before 1.3.6; whoever is MASTER, nobody else becomes MASTER beside it."""
    with Lab("a", "b") as lab:
        a, b = lab.nodes["a"], lab.nodes["b"]
        forced = {keepalived: "old_unicast_checksum", vrrpd: ""}
        conf_a = conf(150, peer=b.address, source=a.address, instance_extra=forced[on_a])
        conf_b = conf(100, peer=a.address, source=b.address, instance_extra=forced[on_b])
        on_b(lab, "b", conf_b)
        lab.until(lambda: b.holds(VIP), what="b is alone")
        on_a(lab, "a", conf_a)
        lab.until(lambda: a.holds(VIP) and not b.holds(VIP), what="a preempts and b understands it")
        lab.always(lambda: a.holds(VIP) and not b.holds(VIP), 2.0)


def test_both_families_share_a_vrid() -> None:
    """The usual dual stack: IPv4 and IPv6 with the same virtual_router_id on one interface, beside keepalived."""
    with Lab("a", "b") as lab:
        a, b = lab.nodes["a"], lab.nodes["b"]

        def both(priority: int) -> str:
            second = conf(priority, ipv6=True, name="V6").partition("vrrp_instance")
            return conf(priority) + second[1] + second[2]

        lab.keepalived("b", both(100))
        lab.until(lambda: b.holds(VIP) and b.holds(SERVICE6))
        ours = lab.vrrpd("a", both(150))
        lab.until(lambda: a.holds(VIP) and a.holds(SERVICE6) and not b.holds(VIP) and not b.holds(SERVICE6), what="a takes both")
        ours.stop()
        lab.until(lambda: b.holds(VIP) and b.holds(SERVICE6) and not a.holds(VIP) and not a.holds(SERVICE6), what="b takes both")


def test_dead_process_leaves_no_ipv6_address_and_hands_over_at_once() -> None:
    """The last will (ADR 0103) works for IPv6 too."""
    with Lab("a", "b") as lab:
        a, b = lab.nodes["a"], lab.nodes["b"]
        lab.keepalived("b", conf(100, ipv6=True, interval="1"))
        ours = lab.vrrpd("a", conf(150, ipv6=True, interval="1"))
        lab.until(lambda: a.holds(SERVICE6) and not b.holds(SERVICE6))
        child = next(pid for pid in ours.pids() if b"vrrp.process" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(child, signal.SIGKILL)
        took = lab.until(lambda: b.holds(SERVICE6), what="b takes over")
        assert took < 2.5, "priority 0 was not heard: that took a whole master down interval"
