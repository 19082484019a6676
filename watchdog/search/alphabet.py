"""What may happen at every point of a schedule: faults of the simulator's language, each with its length."""

from __future__ import annotations

from watchdog.simulator.faults import Fault, parse_fault

LETTERS: dict[str, str] = {
    "cut-ab": "cut everything from A to B",
    "cut-ba": "cut everything from B to A",
    "cut": "cut everything",
    "cut-brief": "cut everything for 1500ms",
    "heal-briefly": "heal everything for 300ms",
    "no-adverts": "drop vrrp",
    "no-ethernet": "drop ethernet",
    "no-serial": "cut serial",
    "no-arp": "drop arp from B to A",
    "port-a": "cut eth0 of A",
    "port-b": "cut eth0 of B",
    "carrier-a": "pull eth0 of A for 3s",
    "crash-a": "crash A",
    "crash-b": "crash B for 3s",
    "watcher-a": "kill braind of A for 2s",
    "watcher-b": "kill braind of B for 2s",
    "watcher-b-gone": "kill braind of B for 9s",
    "reload-a": "reload braind of A",
    "pause-a": "pause all of A for 2s",
    "pause-b": "pause braind of B for 1200ms",
    "hang-a": "pause all of A",
    "orphan-a": "kill vrrp of A for 4s",
    "shutdown-a": "shut down A",
    "handover-a": "handover of A",
    "maintenance-a": "maintenance of A for 5s",
    "rank": "set rank of B to 1",
    "delay": "set delay of B to 1000",
    "observe-b": "set mode of B to observe",
    "forge-adverts": "forge adverts of B for 3s",
    "forge-arp": "forge arp of B for 3s",
    "forge-gateway": "forge gateway of A for 5s",
    "gateway": "silence gateway for 4s",
    "lying": "device 1 of B lies",
    "unreachable": "cut management of A for 4s",
    "disk": "stall disk of A for 3s",
    "vouch-b": "vouch at B",
    "witness-a": "lose witness of A",
    "witness": "lose witness",
}
"""Name -> fault without its time; those of the witness count only where there is one."""

OF_WITNESS = ("witness-a", "witness")
OF_MODE = ("observe-b",)
"""Not in strict: the gate files belong to the mode."""


ONCE = frozenset(
    [
        "cut-brief",
        "no-arp",
        "carrier-a",
        "watcher-b-gone",
        "pause-b",
        "maintenance-a",
        "forge-adverts",
        "forge-gateway",
        "lying",
        "port-b",
        "orphan-a",
    ]
)
"""Only in schedules of one letter: longer ones of these add little and would cost as much as the others."""


def letters(*, witness: bool, strict: bool, deep: bool) -> tuple[str, ...]:
    """The letters that mean something in one configuration; ``deep``: in schedules of more than one."""
    allowed = [name for name in LETTERS if (witness or name not in OF_WITNESS) and not (strict and name in OF_MODE)]
    return tuple(name for name in allowed if not (deep and name in ONCE))


def fault_at(letter: str, at_ns: int) -> Fault:
    """The fault of a letter, now."""
    text = LETTERS[letter]
    what, found, span = text.partition(" for ")
    return parse_fault(f"{what} at {at_ns / 1_000_000:.6f}ms{f' for {span}' if found else ''}")
