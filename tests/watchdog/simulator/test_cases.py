"""Cases that the product once failed, as fault lines with what is wanted (the number in front names the case).

Each is played in the simulator with d exactly as ``brainctl check`` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.watchdog.simulator.chronicle import Chronicle, play
from watchdog.simulator.options import VIPS

BASE = ("vrrp_version=3", "advert_interval_ms=1000", "groups=1", "beat_ms=200", "reference=true", "fence_enabled=true", "enrolled=true")
PATHS = "paths=ethernet,unicast,serial"
VRRPD, KEEPALIVED = "daemon=vrrpd", "daemon=keepalived"
STRICT, RESOLVE = "mode=strict", "mode=resolve"
LEAST = "fence_levels=1"
BRIDGED = "bridge_adverts=true"


@dataclass(frozen=True)
class Case:
    """Fault lines, the options that matter, and what is wanted of the run."""

    id: str
    settings: tuple[str, ...]
    faults: tuple[str, ...]
    wanted: Callable[[Chronicle], object]
    safety_s: float = 0
    seed: int = 13


def served_again(within_s: float, from_s: float = 10.0, until_s: float = 45.0) -> Callable[[Chronicle], object]:
    """Nobody serves the address for at most so long."""

    def wanted(told: Chronicle) -> None:
        gap_s = told.nobody_for_s(from_s, until_s)
        assert gap_s <= within_s, f"nobody served for {gap_s:.1f} s"

    return wanted


def owned_by(node: str, at_s: float) -> Callable[[Chronicle], object]:
    def wanted(told: Chronicle) -> None:
        assert told.owners_at(at_s) == (node,), f"at {at_s} s owned by {told.owners_at(at_s)}"

    return wanted


def paged(words: str, within_s: float, from_s: float = 10.0, severity: str = "") -> Callable[[Chronicle], object]:
    """A page whose text has the words, in time."""

    def wanted(told: Chronicle) -> None:
        pages = [p for p in told.pages if from_s <= p.at_s <= from_s + within_s and severity in ("", p.severity)]
        assert any(words.lower() in page.text.lower() for page in pages), [str(page) for page in told.pages]

    return wanted


def critical(within_s: float, from_s: float = 10.0) -> Callable[[Chronicle], object]:
    def wanted(told: Chronicle) -> None:
        assert told.critical_pages(from_s, from_s + within_s), [str(page) for page in told.pages]

    return wanted


def nobody_fenced(told: Chronicle) -> None:
    assert told.told_off == [], told.told_off


def fenced_at_most_one(told: Chronicle) -> None:
    assert len(set(told.fenced())) <= 1, told.lost_power


def never_two(from_s: float, until_s: float, bound_s: float = 0.6) -> Callable[[Chronicle], object]:
    def wanted(told: Chronicle) -> None:
        assert told.two_for_s(from_s, until_s) <= bound_s, told.owned

    return wanted


def served_or_critical(within_s: float, from_s: float, until_s: float) -> Callable[[Chronicle], object]:
    """The address is served again, or a critical page says that it is not."""

    def wanted(told: Chronicle) -> None:
        if told.nobody_for_s(from_s, until_s) > within_s:
            assert told.critical_pages(from_s, from_s + within_s), [str(page) for page in told.pages]

    return wanted


def all_served_until(until_s: float) -> Callable[[Chronicle], object]:
    """Who fences must be able to serve what the other one served: every group has an owner in the cut."""

    def wanted(told: Chronicle) -> None:
        for vip in told.owned:
            assert told.nobody_for_s(12, until_s, vip) <= 9, (vip, told.owned[vip])

    return wanted


def both(*all_wanted: Callable[[Chronicle], object]) -> Callable[[Chronicle], object]:
    def wanted(told: Chronicle) -> None:
        for one in all_wanted:
            one(told)

    return wanted


DEAD_PORT = ("cut eth0 of A at 10s for 35s",)
SHUTDOWN = ("shut down A at 10s for 90s",)
MUTUAL = ("cut everything from A to B at 10s for 45s", "cut everything from B to A at 21500ms for 33500ms")

SLOW_DEVICES = ("device 1 of B acts in 5900ms at 0s", "device 1 of A acts in 5900ms at 0s")
"""As slow as F allows."""
ONLY_ARP = ("drop ethernet at 10s for 45s", "drop unicast at 10s for 45s", "cut serial at 10s for 45s", "drop vrrp at 10s for 45s")
HICCUPS = {
    "disk": "stall disk of A at {at}ms for 6s",
    "management": "cut management of A at {at}ms for 8s",
    "gateway": "silence gateway at {at}ms for 8s",
    "braind": "kill braind of A at {at}ms for 4s",
    "device": "device 1 of B unreachable at {at}ms for 8s",
}

CASES = (
    Case("J1-strict-vrrpd", (STRICT, VRRPD, PATHS, BRIDGED), DEAD_PORT, both(served_again(9), owned_by("B", 30), paged("eth0", 25))),
    Case("J1-strict-keepalived", (STRICT, KEEPALIVED, PATHS), DEAD_PORT, both(served_again(9), owned_by("B", 30), paged("eth0", 25))),
    Case("J1-resolve-vrrpd", (RESOLVE, VRRPD, PATHS, BRIDGED), DEAD_PORT, both(served_again(9), owned_by("B", 30), paged("eth0", 25))),
    Case(
        "J1-quiet-paths",
        (STRICT, VRRPD, "paths=unicast,serial", BRIDGED),
        DEAD_PORT,
        both(served_again(9), owned_by("B", 30), paged("eth0", 25)),
    ),
    Case("J2-vrrpd", (STRICT, VRRPD, PATHS), SHUTDOWN, both(served_or_critical(9, 10, 60), never_two(10, 60)), 70),
    Case("J2-keepalived", (STRICT, KEEPALIVED, PATHS), SHUTDOWN, both(served_or_critical(9, 10, 60), never_two(10, 60)), 70),
    Case("J2-no-fence", (STRICT, VRRPD, PATHS, "fence_enabled=false"), SHUTDOWN, served_or_critical(9, 10, 60), 70),
    Case(
        "J2b",
        (STRICT, VRRPD, PATHS),
        ("maintenance of A at 10s for 20s", "crash A at 14s for 60s"),
        served_or_critical(8, 14, 60),
        70,
    ),
    Case(
        "J3-resolve",
        (RESOLVE, VRRPD, PATHS, LEAST),
        ("crash B at 20s for 250s", "silence gateway at 60s for 30s"),
        both(served_again(3, 58, 120), owned_by("A", 80)),
        125,
    ),
    Case(
        "J3-strict",
        (STRICT, VRRPD, PATHS, LEAST),
        ("crash B at 20s for 250s", "silence gateway at 60s for 30s"),
        both(served_again(3, 58, 120), owned_by("A", 80)),
        125,
    ),
    Case(
        "J4",
        (RESOLVE, VRRPD, PATHS, LEAST, "enrolled=false"),
        ("device 1 of A lies at 0s", "device 1 of B lies at 0s", "cut everything at 10s for 30s"),
        served_again(5, 42, 70),
        75,
    ),
    *(
        Case(
            f"J5-{name}-{at}",
            (STRICT, VRRPD, PATHS, LEAST),
            ("handover of A at 10s", "crash B at 40s for 250s", fault.format(at=at)),
            both(owned_by("A", 98), fenced_at_most_one),
            100,
        )
        for name, fault in HICCUPS.items()
        for at in (40500, 42500, 43200)
    ),
    Case(
        "J5b",
        (STRICT, VRRPD, PATHS, LEAST, "fence_enabled=false"),
        ("crash A at 8s for 250s", "crash B at 8s for 4s"),
        critical(22, 12),
        60,
    ),
    Case(
        "J6",
        (RESOLVE, VRRPD, PATHS),
        ("cut everything from A to B at 12s for 40s", "kill braind of B at 15s for 2s"),
        nobody_fenced,
        60,
    ),
    Case(
        "J7-no-addresses",
        (RESOLVE, VRRPD, PATHS, "node_addresses=false"),
        ("handover of A at 10s", "handover of B at 40s", "kill braind of B at 80s for 25s"),
        both(nobody_fenced, served_again(3, 20, 110)),
        110,
    ),
    Case(
        "J7-arp-ignore",
        (RESOLVE, VRRPD, PATHS, "answers_arp=false"),
        ("handover of A at 10s", "handover of B at 40s", "kill braind of B at 80s for 25s"),
        both(nobody_fenced, served_again(3, 20, 110)),
        110,
    ),
    Case(
        "J8",
        (RESOLVE, VRRPD, PATHS, "mode_b=observe", "bridge_adverts=false"),
        ("drop vrrp at 10s for 20s",),
        both(nobody_fenced, paged("mode", 20)),
    ),
    Case(
        "J9",
        (RESOLVE, VRRPD, PATHS, "advert_interval_ms=10000", "groups=2", "node_addresses=false"),
        ("kill braind of B at 70s for 60s", "kill braind of A at 80s for 2s"),
        nobody_fenced,
        120,
    ),
    *(Case(f"J10-{mode[5:]}", (mode, VRRPD, PATHS, LEAST), (*SLOW_DEVICES, *MUTUAL), fenced_at_most_one, 60) for mode in (STRICT, RESOLVE)),
    *(
        Case(
            f"J11-{at}-{span}",
            (RESOLVE, VRRPD, PATHS, LEAST, "bridge_adverts=false"),
            (*SLOW_DEVICES, *ONLY_ARP, f"kill braind of A at {at}ms for {span}ms"),
            fenced_at_most_one,
            60,
        )
        for at in (9000, 10900, 12400, 13600)
        for span in (1000, 2500, 4000)
    ),
    *(
        Case(
            f"J12-{deadline}-{way}",
            (RESOLVE, VRRPD, PATHS, LEAST, f"yield_deadline_ms={deadline}", "bridge_adverts=false"),
            (*SLOW_DEVICES, f"cut everything from {way[0]} to {way[1]} at 10s for 50s"),
            fenced_at_most_one,
            60,
        )
        for deadline in (5000, 10000)
        for way in ("AB", "BA")
    ),
    Case(
        "J13",
        (RESOLVE, VRRPD, PATHS, LEAST, "device_deadline_ms=20000", "measured_ms=2600"),
        ("device 1 of B acts in 14000ms at 0s", "device 1 of A acts in 1000ms at 0s", "cut everything at 10s for 60s"),
        fenced_at_most_one,
        75,
    ),
    Case(
        "J15",
        (RESOLVE, VRRPD, PATHS, LEAST, "budget_per_hour=1"),
        # Not crashes: a node without power reads OFF, which needs no fence.
        ("cut everything at 12s for 20s", "turn on B at 33s", "clear B at 40s", "cut everything at 70s for 40s"),
        both(lambda told: _latched(told), lambda told: _fenced_once_by_a(told)),
        130,
    ),
    Case(
        "J16",
        (RESOLVE, VRRPD, PATHS, LEAST, "budget_per_hour=1"),
        (
            "cut everything at 12s for 20s",
            "turn on B at 33s",
            "clear B at 40s",
            "step clock of A by 86400s at 45s",
            "kill braind of A at 46s for 1s",
            "cut everything at 70s for 30s",
        ),
        both(lambda told: _latched(told), lambda told: _fenced_once_by_a(told)),
        105,
    ),
    Case(
        "J19-ack",
        (STRICT, VRRPD, PATHS, LEAST, "fence_enabled=false"),
        (*ONLY_ARP, "vouch at B at 16s"),
        never_two(10, 50),
    ),
    *(
        Case(
            f"A1-{what}",
            (RESOLVE, VRRPD, PATHS, LEAST),
            ("kill braind of B at 40s for 60s", f"forge {what} of B at 45s for 8s"),
            nobody_fenced,
            90,
        )
        for what in ("adverts", "arp", "goodbye")
    ),
    *(
        Case(
            f"A5-{what}",
            (STRICT, VRRPD, PATHS, LEAST),
            ("handover of A at 10s", "crash B at 40s for 250s", f"forge {what} of B at 41s for 30s"),
            owned_by("A", 68),
            75,
        )
        for what in ("arp", "adverts")
    ),
    Case(
        "A6",
        (RESOLVE, VRRPD, PATHS, LEAST),
        ("cut eth0 of A at 12s for 40s", "cut eth1 of A at 12s for 40s", "cut serial at 12s for 40s", "forge gateway of A at 12s for 40s"),
        lambda told: _never_fenced(told, "B"),
        60,
    ),
    Case(
        "T9",
        (RESOLVE, VRRPD, PATHS, LEAST, "preempt=false", "bridge_adverts=false"),
        ("handover of A at 10s", "drop vrrp at 80s for 30s"),
        owned_by("B", 105),
        112,
    ),
    Case(
        "O4-maintenance-excuses-no-split",
        (RESOLVE, KEEPALIVED, PATHS, "lans=2"),
        ("maintenance of B at 9s for 200s", "kill braind of A at 12s for 100s", "kill vrrp of A at 20s for 100s"),
        paged("two owners", 15, from_s=20, severity="critical"),
        45,
    ),
    *(
        Case(
            f"O1-gateway-replaced-{cut_s}s-before-a-cut-{mode}",
            (f"mode={mode}", PATHS, "lans=2", "groups=4", daemon),
            ("move gateway at 10s", f"cut everything at {10 + cut_s}s for 20s"),
            both(served_again(9, until_s=28 + cut_s), all_served_until(28 + cut_s)),
            40,
        )
        for cut_s in (3, 10)
        for mode, daemon in (("resolve", VRRPD), ("resolve", KEEPALIVED), ("strict", VRRPD))
    ),
    Case(
        "O1-the-last-possible-owner-takes-back-what-it-gave-up",
        (RESOLVE, VRRPD, "paths=ethernet,unicast", "fence_enabled=false", "preempt=false"),
        ("crash B at 20s for 60s", "silence gateway at 10s for 50s", "vouch at A at 30s"),
        owned_by("A", 40),
        60,
    ),
    Case(
        "strict-address-by-hand",
        (STRICT, VRRPD, "paths=ethernet,serial", LEAST),
        ("address by hand on B at 11365ms for 14300ms",),
        both(never_two(10, 40), owned_by("A", 20)),
    ),
    Case(
        "J17",
        (RESOLVE, VRRPD, PATHS, LEAST, "budget_per_hour=9"),
        ("cut everything at 10s for 200s", "turn on B at 30s"),
        both(fenced_at_most_one, never_two(33, 90, 3), lambda told: _fences_at_most(told, 1)),
        90,
    ),
)


def _never_fenced(told: Chronicle, node: str) -> None:
    assert not [act for act in told.told_off if act[2] == node], told.told_off


def _latched(told: Chronicle) -> None:
    latched = [fields for _, _, _, fields in told.rows if fields.get("key") == "latch" and fields.get("value")]
    assert latched, "the budget was used up and the latch did not shut"


def _fenced_once_by_a(told: Chronicle) -> None:
    """A's budget for B is used up; that B then acts in its own turn is another budget."""
    assert [act[1:] for act in told.told_off].count(("A", "B")) == 1, told.told_off


def _fences_at_most(told: Chronicle, number: int) -> None:
    assert len(told.fenced(200)) <= number, told.lost_power


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_case(case: Case) -> None:
    case.wanted(play(case.seed, (*BASE, *case.settings), case.faults, case.safety_s))


def test_the_address_of_the_cases_is_the_first() -> None:
    assert VIPS[0] == "10.0.0.100"
