"""The faults that a VRRP daemon alone cannot see: vrrpd is measured together with braind, keepalived as it is, alone."""

from __future__ import annotations

import time

from bench.daemons import Program
from bench.faults.fault import Figures, Pace
from bench.faults.plays import LONGEST_BLACK_HOLE_S, master_down_s
from bench.faults.scene import Scene
from bench.watcher import suspected_after, watcher


def _named_by_log(scene: Scene, start: dict[str, int]) -> bool:
    """Did a daemon write anything after b's takeover that is not about its own announcements and its own takeover?"""
    for role in "ab":
        for line in scene.log(role)[start[role] :].splitlines():
            if not any(word in line for word in (b"ratuitous", b"Entering MASTER", b"Receive advertisement timeout", b"setting VIPs")):
                return True
    return False


class Watched:
    """A scene with braind (mode resolve) on both nodes, if the daemon is vrrpd; a context manager."""

    def __init__(self, daemon: str, pace: Pace, *, bridge: bool) -> None:
        self.scene = Scene(daemon, version=pace.version, interval_s=pace.interval_s)
        self._bridge = bridge
        self._brains: list[Program] = []

    def __enter__(self) -> Scene:
        scene = self.scene.__enter__()
        if scene.daemon == "vrrpd":
            for role in "ab":
                self._brains.append(watcher(scene.lab, role, scene.directory / role, "vrrpd", "resolve", self._bridge))
            for brain in self._brains:
                brain.start()
            scene.watch(6)
        return scene

    def __exit__(self, *exc: object) -> None:
        for brain in self._brains:
            brain.kill()
        self.scene.__exit__(*exc)


def duplicate(daemon: str, pace: Pace) -> Figures:
    """Adverts pass in neither direction and no other path carries them: two owners. When is that named, by anybody?"""
    with Watched(daemon, pace, bridge=False) as scene:
        start_ns = time.time_ns()
        scene.lab.block_adverts()
        if not scene.watch(master_down_s(pace) + 5, lambda: scene.claims("b", start_ns) > 0):
            raise RuntimeError(f"{daemon}: b did not take over while adverts were blocked")
        claim_ns = next(t for t in scene.observer.claims["b"] if t > start_ns)
        written = {role: len(scene.log(role)) for role in "ab"}
        scene.watch(4.0)
        times = [t for role in "ab" if (t := suspected_after(scene.directory / role, start_ns)) is not None]
        named = bool(times) or _named_by_log(scene, written)
        return {"named": float(named), "named_after_ms": (min(times) - claim_ns) / 1e6 if times else 4000.0}


def one_owner(daemon: str, pace: Pace) -> Figures:
    """Adverts from a to b are lost, a second network between the nodes is not."""
    with Watched(daemon, pace, bridge=True) as scene:
        start_ns = time.time_ns()
        scene.lab.block_one_way("a")
        scene.watch(master_down_s(pace) + 5)
        return {"two_owners_ms": scene.ownership(start_ns, time.time_ns()).two_ms}


def half_heal(daemon: str, pace: Pace) -> Figures:
    """Of two masters the loser hears the winner again, the winner does not hear the loser: it never learns that there were two."""
    with Watched(daemon, pace, bridge=False) as scene:
        scene.lab.block_adverts()
        if not scene.watch(master_down_s(pace) + 5, lambda: scene.holds("b")):
            raise RuntimeError(f"{daemon}: b did not take over while adverts were blocked")
        scene.watch(0.3)
        healed_ns = time.time_ns()
        scene.lab.unblock()
        scene.lab.block_one_way("b")
        scene.watch(LONGEST_BLACK_HOLE_S, lambda: time.time_ns() > healed_ns + 3e9 * pace.interval_s and scene.client.reached_now())
        scene.watch(0.6)
        gap_ms = scene.client.longest_gap_ms(healed_ns, time.time_ns() - 600_000_000)
        return {"black_hole_ms": gap_ms, "winner_announcements": float(scene.claims("a", healed_ns))}
