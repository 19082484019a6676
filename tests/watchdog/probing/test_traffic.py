"""The counters of an interface, read from files that stay open."""

from __future__ import annotations

from pathlib import Path

from watchdog.judgement.events import TrafficCounted
from watchdog.probing.traffic import INTERVAL_NS, TrafficCounter


def counter_file(root: Path, interface: str) -> Path:
    path = root / interface / "statistics" / "rx_packets"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_it_counts_what_is_there_and_comes_back_to_what_was_not(tmp_path: Path) -> None:
    seen: list[TrafficCounted] = []
    counter = TrafficCounter(seen.append, str(tmp_path))
    assert counter.next_deadline() is None
    counter.watch(["eth0", "eth1"])
    counter_file(tmp_path, "eth0").write_text("17\n")
    at_ns = counter.next_deadline()
    assert at_ns is not None
    counter.on_deadline(at_ns)
    assert seen == [TrafficCounted("eth0", 17)]
    assert counter.next_deadline() == at_ns + INTERVAL_NS
    counter_file(tmp_path, "eth0").write_text("18\n")
    counter_file(tmp_path, "eth1").write_text("not a number")
    counter.on_deadline(at_ns + INTERVAL_NS)
    assert seen[1:] == [TrafficCounted("eth0", 18)]
    counter_file(tmp_path, "eth1").write_text("5\n")
    counter.watch(["eth1"])
    counter.on_deadline(at_ns + 2 * INTERVAL_NS)
    assert seen[2:] == [TrafficCounted("eth1", 5)]
    counter.close()
    assert counter.next_deadline() is None


def test_a_real_interface_is_counted() -> None:
    seen: list[TrafficCounted] = []
    counter = TrafficCounter(seen.append)
    counter.watch(["lo"])
    counter.on_deadline(1)
    counter.close()
    assert [event.interface for event in seen] == ["lo"]
