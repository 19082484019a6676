"""The peer over several paths: frames overtake each other."""

from __future__ import annotations

from dataclasses import replace

from base.core import NS_PER_MS
from tests.watchdog.judgement.lab import GROUP, KEY, make_settings
from watchdog.config.model import PathKind, PathSettings
from watchdog.frames.heartbeat import GroupReport, GroupState, Heartbeat, NodeFlags
from watchdog.judgement.contact import SERIAL_LAG_MS, PeerContact

MS = NS_PER_MS
PATHS = (
    PathSettings("eth1", PathKind.ETHERNET, "hb"),
    PathSettings("udp", PathKind.UNICAST, "lan"),
    PathSettings("tty", PathKind.SERIAL, "serial", interval_ms=250, silent_after_ms=1_250),
)


def contact(node: str, nonce: bytes) -> PeerContact:
    return PeerContact(replace(make_settings(node), paths=PATHS), KEY, nonce, 0)


MINE, THEIRS = b"a" * 8, b"b" * 8


def frame(path: str, sent_ns: int, held: bool) -> bytes:
    sender = contact("b", THEIRS)
    report = GroupReport(GROUP, GroupState.MASTER if held else GroupState.HELD, held, 100)
    beat = Heartbeat("b", b"B" * 8, 1, sent_ns // MS + 1, THEIRS, MINE, 7, 255, NodeFlags.NONE, (report,), sent_ns=sent_ns)
    return sender.encode(path, beat)


def test_a_frame_that_another_path_has_overtaken_says_nothing_but_that_the_path_works() -> None:
    mine = contact("a", MINE)
    receipt, beat = mine.receive(10 * MS, "eth1", frame("eth1", 5 * MS, held=False))
    assert beat is not None and receipt is not None
    receipt, beat = mine.receive(11 * MS, "udp", frame("udp", 4 * MS, held=True))
    assert receipt is not None and receipt.proven and beat is None
    assert mine.heard_paths() == ["eth1", "udp"]
    assert [r.held for r in mine.reports().values()] == [False]


def test_a_serial_frame_is_believed_only_when_no_fast_path_speaks() -> None:
    mine = contact("a", MINE)
    hello = contact("b", THEIRS)
    session = Heartbeat("b", b"B" * 8, 1, 1, THEIRS, MINE, 7, 255, NodeFlags.NONE, ())
    mine.encode("tty", replace(session, node="a", nonce=MINE, receiver_nonce=THEIRS))  # the codec learns our session from what we send
    for _ in range(4):  # the serial codec tells its session now and then
        session = replace(session, sequence=session.sequence + 1)
        mine.receive(0, "tty", hello.encode("tty", session))
    mine.receive(10 * MS, "eth1", frame("eth1", 5 * MS, held=False))
    stale = replace(session, sequence=90, groups=(GroupReport(GROUP, GroupState.MASTER, True, 100),))
    assert mine.receive(60 * MS, "tty", hello.encode("tty", stale))[1] is None
    alone = replace(stale, sequence=91)
    later_ns = (10 + SERIAL_LAG_MS) * MS
    taken = [mine.receive(later_ns, "tty", hello.encode("tty", replace(alone, sequence=91 + n)))[1] for n in range(2)]
    assert any(beat is not None and beat.groups and beat.groups[0].held for beat in taken)


def test_one_frame_is_a_sign_of_life_until_the_paths_silence() -> None:
    mine = contact("a", MINE)
    mine.receive(0, "eth1", frame("eth1", 1 * MS, held=False))
    for ns in range(0, 5_000 * MS, 100 * MS):
        mine.on_deadline(ns)
    assert not mine.on_a_path(5_000 * MS)
    mine.receive(6_000 * MS, "eth1", frame("eth1", 6_000 * MS, held=False))
    assert not mine.paths["eth1"].hears, "it was silent: one frame does not make it work again"
    assert mine.on_a_path(6_000 * MS) and mine.on_a_path(7_000 * MS) and not mine.on_a_path(7_001 * MS)
    due = mine.next_deadline()
    assert due is not None and due <= 7_000 * MS + 1
    assert mine.on_deadline(6_001 * MS) or mine.on_deadline(7_001 * MS)
