"""What the observers' events are turned into."""

from __future__ import annotations

import struct
from pathlib import Path

from brainctl.demo import measure

MS = 1_000_000


def answers(node: str, begin_ms: int, end_ms: int, step_ms: int = 20) -> list[measure.Event]:
    return [{"t": t * MS, "kind": "answer", "node": node, "mac": "02:00:00:00:00:01"} for t in range(begin_ms, end_ms, step_ms)]


def claim(node: str, at_ms: int) -> measure.Event:
    return {"t": at_ms * MS, "kind": "claim", "how": "announce", "node": node, "mac": "02:00:00:00:00:01"}


def by_time(*parts: list[measure.Event]) -> list[measure.Event]:
    return sorted((event for part in parts for event in part), key=lambda event: event["t"])


def test_a_handover_is_no_split() -> None:
    owned = measure.ownerships(by_time(answers("A", 0, 1000), [claim("B", 1005)], answers("B", 1010, 2000)))
    assert [(o.node, o.began_ns // MS, o.ended_ns // MS) for o in owned] == [("A", 0, 980), ("B", 1005, 1990)]
    assert measure.splits(owned) == []


def test_a_split_begins_with_the_second_owners_first_claim_and_ends_with_the_last_answer_of_the_one_that_left() -> None:
    owned = measure.ownerships(by_time(answers("A", 0, 3000), [claim("B", 995)], answers("B", 1000, 2000)))
    (split,) = measure.splits(owned)
    assert (split.first, split.second, split.began_ns // MS, split.ended_ns // MS) == ("A", "B", 995, 1980)
    assert split.length_ms == 985


def test_a_late_probe_does_not_end_an_ownership() -> None:
    owned = measure.ownerships(by_time(answers("A", 0, 500), answers("A", 700, 1000)))
    assert [(o.began_ns // MS, o.ended_ns // MS) for o in owned] == [(0, 980)]


def test_owners_at_an_instant() -> None:
    owned = measure.ownerships(by_time(answers("A", 0, 3000), answers("B", 1000, 2000)))
    assert measure.owners_at(owned, 500 * MS) == ["A"]
    assert measure.owners_at(owned, 1500 * MS) == ["A", "B"]
    assert measure.owners_at(owned, 2900 * MS) == ["A"]


def test_outage_is_the_longest_time_without_an_answered_question() -> None:
    events: list[measure.Event] = [{"t": 0, "seq": i, "asked": i * 10 * MS, "node": "A"} for i in (*range(100), *range(180, 200))]
    events.append({"lost": 150, "asked": 1500 * MS})
    assert measure.client_outage_ms(events, 0, 2000 * MS) == 810
    assert measure.client_outage_ms([], 0, 2000 * MS) == 2000


def test_the_client_is_served_by_nobody_after_a_silence() -> None:
    events: list[measure.Event] = [{"t": 1000 * MS, "seq": 1, "asked": 999 * MS, "node": "A"}]
    assert measure.client_owner(events, 1200 * MS) == "A"
    assert measure.client_owner(events, 1400 * MS) == ""


def test_events_are_told_apart_by_address() -> None:
    events: list[measure.Event] = [{"kind": "answer", "vip": vip, "node": node, "t": 5} for vip, node in (("a", "A"), ("b", "B"))]
    assert [event["node"] for event in measure.about(events, "b")] == ["B"]
    assert measure.recent_owners(events, 10, "a") == ["A"]


def test_the_longest_silence_of_a_sender_in_a_capture(tmp_path: Path) -> None:
    capture = tmp_path / "capture.pcap"
    mac, other = "02:00:00:00:00:01", "02:00:00:00:00:02"
    data = bytes(24)
    for at_ms, sender in ((100, mac), (300, mac), (500, other), (900, mac)):
        frame = b"\xff" * 6 + bytes.fromhex(sender.replace(":", "")) + b"\x88\xb5" + bytes(20)
        data += struct.pack("<IIII", 0, at_ms * MS, len(frame), len(frame)) + frame
    capture.write_bytes(data + b"\1" * 20)  # a frame that is still being written
    assert measure.silence_ms(capture, mac, 0, 1000 * MS) == 600
    assert measure.silence_ms(capture, other, 0, 1000 * MS) == 500
