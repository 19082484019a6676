"""The ten findings about keepalived 2.2.7 as faults, each with the goal that vrrpd has to reach."""

from __future__ import annotations

from bench.faults import plays, with_braind
from bench.faults.fault import Fault, Figures


def _ms(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def _black_hole(f: Figures) -> str:
    longest = plays.LONGEST_BLACK_HOLE_S * 1000
    gap = f"over {longest / 1000:.0f} s (then not waited for)" if f["black_hole_ms"] > longest - 1000 else _ms(f["black_hole_ms"])
    return f"client cut off {gap}, winner's announcements {f['winner_announcements']:.0f}"


FAULTS: tuple[Fault, ...] = (
    Fault(
        "heal",
        1,
        "after a heal whose first advert is the winner's, clients know the loser's MAC address",
        "client back within 1 s, the winner announces itself",
        plays.heal,
        _black_hole,
        lambda f: f["black_hole_ms"] <= 1000 and f["winner_announcements"] >= 1,
    ),
    Fault(
        "half_heal",
        1,
        "a heal in one direction: the loser hears the winner, the winner never hears the loser (vrrpd with braind)",
        "client back within 2 s",
        with_braind.half_heal,
        _black_hole,
        lambda f: f["black_hole_ms"] <= 2000,
    ),
    Fault(
        "invalid",
        2,
        "two adverts a second with a bad checksum",
        "no change of owner, at least 90 % of the adverts, no client loses anything",
        plays.invalid,
        lambda f: (
            f"{f['address_moves']:.0f} moves of the address, {f['adverts_percent']:.0f} % of the adverts, "
            f"client loses {f['client_lost_percent']:.0f} %"
        ),
        lambda f: f["address_moves"] == 0 and f["adverts_percent"] >= 90 and f["client_lost_percent"] <= 1,
    ),
    Fault(
        "flood",
        3,
        "20 000 bad adverts a second",
        "no change of owner, at most 20 KiB of log a second for both nodes",
        plays.flood,
        lambda f: f"{f['log_kib_per_s']:.1f} KiB of log a second, {f['address_moves']:.0f} moves of the address",
        lambda f: f["address_moves"] == 0 and f["log_kib_per_s"] <= 20,
    ),
    Fault(
        "stranger",
        4,
        "unicast: well-formed adverts of a stranger (TTL 64, then 255), and in the peer's name with TTL 64",
        "none of them moves the address",
        plays.stranger,
        lambda f: (
            f"moves: stranger with TTL 64 {f['stranger_ttl_64_moves']:.0f}, with 255 {f['stranger_ttl_255_moves']:.0f}, "
            f"peer's name with TTL 64 {f['peer_ttl_64_moves']:.0f}"
        ),
        lambda f: not any(f.values()),
    ),
    Fault(
        "duplicate",
        5,
        "two owners, because adverts pass in neither direction (vrrpd with braind)",
        "named within 1 s",
        with_braind.duplicate,
        lambda f: f"named after {_ms(f['named_after_ms'])}" if f["named"] else f"not named in {_ms(f['named_after_ms'])}",
        lambda f: bool(f["named"]) and f["named_after_ms"] <= 1000,
    ),
    Fault(
        "hang",
        6,
        "SIGSTOP of the owner for 8 s, SIGCONT, ten adverts a second",
        "at most 30 announcements for one address, two owners for at most 0.5 s",
        plays.hang,
        lambda f: f"{f['announcements']:.0f} announcements, two owners for {_ms(f['two_owners_ms'])}",
        lambda f: f["announcements"] <= 30 and f["two_owners_ms"] <= 500,
    ),
    Fault(
        "orphan",
        7,
        "SIGKILL of the owner's daemon and all its children at once (vrrpd's guardian is none of them)",
        "its address is gone within 3 s",
        plays.orphan,
        lambda f: f"address left behind for {'more than ' if f['left_behind_ms'] >= 8000 else ''}{_ms(f['left_behind_ms'])}",
        lambda f: f["left_behind_ms"] <= 3000,
    ),
    Fault(
        "one_way",
        8,
        "adverts from the owner to the other node are lost, the daemons alone",
        "at most 10 announcements and 300 bytes of log a second",
        plays.one_way,
        lambda f: f"{f['announcements_per_s']:.1f} announcements a second, {f['log_bytes_per_s']:.0f} bytes of log a second",
        lambda f: f["announcements_per_s"] <= 10 and f["log_bytes_per_s"] <= 300,
    ),
    Fault(
        "one_owner",
        8,
        "the same, with a second network between the nodes (vrrpd with braind)",
        "never two owners",
        with_braind.one_owner,
        lambda f: f"two owners for {_ms(f['two_owners_ms'])}" if f["two_owners_ms"] else "one owner all the time",
        lambda f: f["two_owners_ms"] == 0,
    ),
    Fault(
        "child_kill",
        9,
        "SIGKILL of the VRRP process only",
        "no owner for at most the protocol's Skew_Time and 0.3 s, two owners for at most 50 ms",
        plays.child_kill,
        lambda f: f"no owner for {_ms(f['no_owner_ms'])} (Skew_Time {_ms(f['protocol_ms'])}), two for {_ms(f['two_owners_ms'])}",
        lambda f: f["no_owner_ms"] <= f["protocol_ms"] + 300 and f["two_owners_ms"] <= 50,
    ),
    Fault(
        "stop",
        10,
        "SIGTERM without and with a stop script of 0.4 s",
        "over 0.3 s after the address is gone and the script has run",
        plays.stop,
        lambda f: (
            f"exit {_ms(f['exit_after_address_ms'])} after the address is gone, {_ms(f['exit_after_script_ms'])} after the script's end"
            + ("" if f["script_ran"] else " (the script did not run)")
        ),
        lambda f: f["script_ran"] == 1 and 0 <= f["exit_after_script_ms"] <= 300 and f["exit_after_address_ms"] <= 300,
    ),
    Fault(
        "cadence",
        10,
        "ten adverts a second: how late is each, on average",
        "at most 50 µs",
        plays.cadence,
        lambda f: f"{f['late_us_per_advert']:.0f} µs per advert",
        lambda f: abs(f["late_us_per_advert"]) <= 50,
    ),
    Fault(
        "start",
        10,
        "from the start of the program with no other master to the address, above Master_Down_Interval",
        "at most 2 s",
        plays.start,
        lambda f: _ms(f["above_protocol_ms"]),
        lambda f: f["above_protocol_ms"] <= 2000,
    ),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
