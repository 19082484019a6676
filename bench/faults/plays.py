"""The plays: what is done to a pair of daemons, and what observers measured meanwhile. Every period is in CLOCK_REALTIME ns."""

from __future__ import annotations

import os
import signal
import time
from statistics import linear_regression

from bench.faults.fault import Figures, Pace
from bench.faults.scene import PRIORITY, Scene
from bench.lab import HOST

LONGEST_BLACK_HOLE_S = 15.0
"""How long a client is waited for after a heal; keepalived's stays away for up to 48 s."""


def skew_s(pace: Pace, role: str = "b") -> float:
    """Skew_Time of a node."""
    return (256 - PRIORITY[role]) / 256 * (1 if pace.version == 2 else pace.interval_s)


def master_down_s(pace: Pace, role: str = "b") -> float:
    """Master_Down_Interval of a node."""
    return 3 * pace.interval_s + skew_s(pace, role)


def heal(daemon: str, pace: Pace) -> Figures:
    """Two masters, the client's cache points to the loser, and the first advert that gets through is the winner's."""
    gaps, announced = [], []
    with Scene(daemon, version=pace.version, interval_s=pace.interval_s) as scene:
        for _ in range(pace.rounds):
            scene.lab.block_adverts()
            if not scene.watch(master_down_s(pace) + 5, lambda: scene.holds("b")):
                raise RuntimeError(f"{daemon}: b did not take over while adverts were blocked")
            scene.watch(2.5 * pace.interval_s)
            _await_phase(scene)
            healed_ns = time.time_ns()
            scene.lab.unblock()

            def reached(healed_ns: int = healed_ns) -> bool:
                return time.time_ns() > healed_ns + 3 * pace.interval_s * 1e9 and scene.client.reached_now()

            scene.watch(LONGEST_BLACK_HOLE_S, reached)
            scene.watch(0.6)  # answers that are on their way
            gaps.append(scene.client.longest_gap_ms(healed_ns, time.time_ns() - 600_000_000))
            announced.append(scene.claims("a", healed_ns))
    return {"black_hole_ms": max(gaps), "winner_announcements": float(min(announced))}


def _await_phase(scene: Scene) -> None:
    """Until a's next advert is due shortly, and b's is not before it: then the loser hears first."""
    interval_ns = int(scene.interval_s * 1e9)
    before_ns = min(int(0.3 * interval_ns), 150_000_000)
    for _ in range(400):
        scene.watch(0.005)
        now_ns = time.time_ns()
        left = {r: (scene.observer.adverts[r][-1][0] - now_ns) % interval_ns for r in "ab"}
        if before_ns // 2 < left["a"] < before_ns and left["b"] > left["a"]:
            return
    raise RuntimeError("the two masters' adverts fall together: no phase in which a's comes first")


def invalid(daemon: str, pace: Pace) -> Figures:
    """Two adverts a second with a bad checksum (three per interval where the interval is shorter)."""
    with Scene(daemon, version=pace.version, interval_s=pace.interval_s) as scene:
        start_ns = time.time_ns()
        scene.forge("bad_checksum", max(2, int(3 / pace.interval_s) if pace.interval_s < 1 else 2), pace.hold_s, pace.version)
        scene.watch(pace.hold_s)
        end_ns = time.time_ns()
        scene.watch(0.6)
        wanted = (end_ns - start_ns) / 1e9 / pace.interval_s
        return {
            "address_moves": float(scene.ownership(start_ns, end_ns).changes),
            "client_lost_percent": scene.client.lost_percent(start_ns, end_ns),
            "adverts_percent": 100 * scene.adverts("a", start_ns, end_ns) / wanted,
        }


def flood(daemon: str, pace: Pace) -> Figures:
    """20 000 bad adverts of five kinds a second for five seconds."""
    seconds = min(5.0, pace.hold_s)
    with Scene(daemon, version=pace.version, interval_s=pace.interval_s) as scene:
        start_ns, before = time.time_ns(), scene.log_bytes()
        forger = scene.forge("mix", 20_000, seconds, pace.version)
        scene.watch(seconds + 10, lambda: forger.poll() is not None)
        end_ns = time.time_ns()
        scene.watch(0.5)
        return {
            "log_kib_per_s": (scene.log_bytes() - before) / 1024 / ((end_ns - start_ns) / 1e9),
            "address_moves": float(scene.ownership(start_ns, end_ns).changes),
        }


def stranger(daemon: str, pace: Pace) -> Figures:
    """Unicast: well-formed adverts of priority 200 from a host that is no peer (TTL 64, then 255), and in the peer's name with TTL 64."""
    seconds = min(5.0, pace.hold_s)
    figures: Figures = {}
    address = {r: f"10.66.0.{HOST[r]}" for r in "ab"}
    extra = {
        r: f"    unicast_src_ip {address[r]}\n    unicast_peer {{\n        {address[other]}\n    }}\n"
        for r, other in (("a", "b"), ("b", "a"))
    }
    with Scene(daemon, version=pace.version, interval_s=pace.interval_s, extra=extra) as scene:
        for key, kind, source in (
            ("stranger_ttl_64_moves", "unicast_64", f"10.66.0.{HOST['g']}"),
            ("stranger_ttl_255_moves", "unicast_255", f"10.66.0.{HOST['g']}"),
            ("peer_ttl_64_moves", "unicast_64", address["b"]),
        ):
            start_ns = time.time_ns()
            scene.forge(kind, 4, seconds, pace.version, source, address["a"])
            scene.watch(seconds)
            figures[key] = float(scene.ownership(start_ns, time.time_ns()).changes)
            scene.watch(30, lambda: scene.holds("a") and not scene.holds("b"))
            scene.watch(1 + pace.interval_s)
    return figures


def hang(daemon: str, pace: Pace) -> Figures:
    """SIGSTOP for eight seconds, then SIGCONT, at ten adverts a second."""
    with Scene(daemon, version=3, interval_s=0.1) as scene:
        scene.signal_all("a", signal.SIGSTOP)
        scene.watch(min(8.0, pace.hold_s))
        resumed_ns = time.time_ns()
        scene.signal_all("a", signal.SIGCONT)
        scene.watch(7.0)  # the second set of announcements comes after 5 s
        end_ns = time.time_ns()
        return {
            "announcements": float(scene.claims("a", resumed_ns) + scene.claims("b", resumed_ns)),
            "two_owners_ms": scene.ownership(resumed_ns, end_ns).two_ms,
        }


def orphan(daemon: str, pace: Pace) -> Figures:
    """SIGKILL of every process of the owner at once: how long its address stays behind."""
    with Scene(daemon, version=pace.version, interval_s=pace.interval_s) as scene:
        killed_ns = time.time_ns()
        scene.nodes["a"].kill()
        scene.watch(8.0, lambda: not scene.holds("a"))
        removed = [t for t in scene.observer.address_removed["a"] if t > killed_ns]
        return {"left_behind_ms": ((removed[-1] if removed else time.time_ns()) - killed_ns) / 1e6}


def one_way(daemon: str, pace: Pace) -> Figures:
    """Adverts from a to b are lost, the others pass. The daemons alone: how much the owner says against the second master."""
    with Scene(daemon, version=pace.version, interval_s=pace.interval_s) as scene:
        scene.lab.block_one_way("a")
        if not scene.watch(master_down_s(pace) + 5, lambda: scene.holds("b")):
            raise RuntimeError(f"{daemon}: b did not take over while a's adverts were lost")
        scene.watch(1.0)
        start_ns, before = time.time_ns(), scene.log_bytes()
        scene.watch(8.0)
        seconds = (time.time_ns() - start_ns) / 1e9
        return {
            "announcements_per_s": scene.claims("a", start_ns) / seconds,
            "log_bytes_per_s": (scene.log_bytes() - before) / seconds,
        }


def child_kill(daemon: str, pace: Pace) -> Figures:
    """SIGKILL of the VRRP process only; its parent lives."""
    gaps, twice = [], []
    with Scene(daemon, version=pace.version, interval_s=pace.interval_s) as scene:
        for _ in range(pace.rounds):
            start_ns = time.time_ns()
            os.kill(scene.child("a"), signal.SIGKILL)
            scene.watch(0.3)
            scene.watch(20, lambda: scene.holds("a") or scene.holds("b"))
            scene.watch(20, lambda: scene.holds("a") and not scene.holds("b"))
            scene.watch(2 * pace.interval_s + 0.6)
            seen = scene.ownership(start_ns, time.time_ns())
            gaps.append(seen.none_ms)
            twice.append(seen.two_ms)
    return {"no_owner_ms": max(gaps), "two_owners_ms": max(twice), "protocol_ms": skew_s(pace) * 1000}


def stop(daemon: str, pace: Pace) -> Figures:
    """SIGTERM: from the removal of the address, or the end of the stop script, to the end of the last process."""
    figures: Figures = {}
    for key, script_s in (("exit_after_address_ms", 0.0), ("exit_after_script_ms", 0.4)):
        with Scene(daemon, version=pace.version, interval_s=pace.interval_s) as scene:
            mark = scene.directory / "done"
            if script_s:
                _reload_with_stop_script(scene, f"sleep {script_s}; date +%s%N > {mark}")
            process = scene.nodes["a"].process
            assert process is not None
            ended: list[int] = []

            def over(ended: list[int] = ended, process: object = process) -> bool:
                if not ended and process.poll() is not None:  # type: ignore[attr-defined]
                    ended.append(time.time_ns())
                return bool(ended)

            term_ns = time.time_ns()
            process.terminate()
            scene.observer.run_dense(term_ns, term_ns + 15_000_000_000, 5_000_000, over)
            scene.watch(0.6)
            removed_ns = scene.observer.address_removed["a"][-1]
            done_ns = int(mark.read_text()) if mark.exists() else 0
            figures[key] = (ended[0] - max(removed_ns, done_ns)) / 1e6 if ended else 15_000.0
            if script_s:
                figures["script_ran"] = float(bool(done_ns))
    return figures


def _reload_with_stop_script(scene: Scene, command: str) -> None:
    script = scene.directory / "stopped.sh"
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o755)
    conf = scene.directory / "a" / "keepalived.conf"
    conf.write_text(conf.read_text().replace("    state BACKUP\n", f"    state BACKUP\n    notify_stop {script} root\n"))
    process = scene.nodes["a"].process
    assert process is not None
    process.send_signal(signal.SIGHUP)
    scene.watch(2.0)


def cadence(daemon: str, pace: Pace) -> Figures:
    """The mean distance of adverts at ten a second: keepalived counts from when it woke, which adds up."""
    with Scene(daemon, version=3, interval_s=0.1) as scene:
        start_ns = time.time_ns()
        scene.watch(min(10.0, pace.hold_s))
        times = [t for t, _priority in scene.observer.adverts["a"] if t > start_ns]
        # The slope of a line through the times: how late one advert or its capture was says nothing about the pace.
        per_advert_ns, _at_ns = linear_regression(range(len(times)), [t - start_ns for t in times])
        return {"late_us_per_advert": per_advert_ns / 1000 - 100_000}


def start(daemon: str, pace: Pace) -> Figures:
    """From the start of the program with ``state MASTER`` to its address, above the Master_Down_Interval that the protocol asks for."""
    floor_ms = 1000 * master_down_s(pace, "a")
    with Scene(daemon, version=pace.version, interval_s=pace.interval_s) as scene:
        return {"above_protocol_ms": (scene.owned_ns - scene.started_ns) / 1e6 - floor_ms}
