"""The turn on a shared disk: real files, O_DIRECT, two engines; the process before both engines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from tests.children import ChildProcess
from watchdog.witness.disk import DiskFile, DiskWitness, format_disk
from watchdog.witness.engine import TurnTakenError, WitnessSilentError
from watchdog.witness.lease.slots import SLOT_BYTES, Record, SlotCodec, Stamp, node_offset, slot_offset

KEY = b"k" * 32
CODEC = SlotCodec(KEY, "lab", ("a", "b"))
LEASE_MS = 1_000


def witness(path: Path, node: str, incarnation: int = 1, disk: DiskFile | None = None, codec: SlotCodec = CODEC) -> DiskWitness:
    return DiskWitness(disk or DiskFile(str(path)), codec, ("a", "b"), node, first=node == "a", incarnation=incarnation, clock_ns=now_ns)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Formatted, and both nodes have been there before."""
    path = tmp_path / "witness"
    format_disk(str(path), CODEC)
    with open(path, "r+b") as f:
        for node in (0, 1):
            f.seek(slot_offset(node, Stamp(0, 0)))
            f.write(CODEC.encode(Record(node, Stamp(0, 0), False, 0)))
    return path


def test_two_disks_are_no_witness(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        format_disk(str(path), CODEC)

    async def work() -> None:
        a, b = witness(paths[0], "a"), witness(paths[1], "b")
        for engine in (a, b):
            with pytest.raises(WitnessSilentError, match="the same disk"):
                await engine.look()
            with pytest.raises(WitnessSilentError, match="the same disk"):
                await engine.take(1, LEASE_MS)
        c = witness(paths[0], "b")
        assert await c.look() == ""  # a has been here
        assert await a.look() == ""
        await a.take(1, LEASE_MS)

    run(work)


async def taken(engine: DiskWitness) -> str:
    with pytest.raises(TurnTakenError) as error:
        await engine.take(1, LEASE_MS)
    return error.value.holder


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def inner() -> None:
        await work()

    asyncio.run(inner())


def test_won_refused_renewed_given_back(disk: Path) -> None:
    async def work() -> None:
        a, b = witness(disk, "a"), witness(disk, "b")
        assert await a.look() == ""
        until_ns = await a.take(1, 60_000)
        assert now_ns() + 59_000 * NS_PER_MS < until_ns < now_ns() + 60_000 * NS_PER_MS
        assert await taken(b) == "a"
        assert (await a.look(), await b.look()) == ("a", "a")
        assert await a.take(1, 60_000) > until_ns
        await a.give_back(1)
        assert await b.look() == ""
        await b.take(1, 60_000)
        assert await taken(a) == "b"

    run(work)


def test_of_two_that_ask_at_the_same_moment_one_wins(disk: Path) -> None:
    async def work() -> None:
        a, b = witness(disk, "a"), witness(disk, "b")
        for request in range(1, 8):
            results = await asyncio.gather(a.take(request, 60_000), b.take(request, 60_000), return_exceptions=True)
            won = [r for r in results if isinstance(r, int)]
            assert len(won) == 1, results
            await a.give_back(request)
            await b.give_back(request)

    run(work)


def test_a_turn_runs_out_by_itself_and_never_two_have_it(disk: Path) -> None:
    async def work() -> None:
        a, b = witness(disk, "a"), witness(disk, "b")
        until_ns = await a.take(1, LEASE_MS)
        for request in range(1, 200):
            try:
                await b.take(request, LEASE_MS)
            except TurnTakenError:
                await asyncio.sleep(0.02)
                continue
            assert until_ns < now_ns() < until_ns + 1_000 * NS_PER_MS
            return
        raise AssertionError("it never ran out")

    run(work)


def test_an_earlier_run_of_the_same_node_keeps_its_turn(disk: Path) -> None:
    async def work() -> None:
        await witness(disk, "a").take(1, 60_000)
        assert await taken(witness(disk, "a", incarnation=2)) == "a"
        with pytest.raises(WitnessSilentError, match="snapshot"):  # this one believes that nothing was ever written
            await witness(disk, "a", incarnation=0).take(1, LEASE_MS)

    run(work)


def test_a_torn_record_counts_for_nothing_and_is_a_change(disk: Path) -> None:
    stamp = Stamp(1, 1)
    slot = bytearray(CODEC.encode(Record(1, stamp, True, 60_000)))
    slot[40:60] = bytes(20)
    assert CODEC.newest(bytes(slot).ljust(16 * SLOT_BYTES, b"\0"), 1) is None

    async def work() -> None:
        a = witness(disk, "a")
        await a.look()
        since_ns = a._turn.other.since_ns
        with open(disk, "r+b") as f:
            f.seek(slot_offset(1, stamp))
            f.write(slot)
        await a.look()
        assert a._turn.other.since_ns > since_ns
        await a.take(1, LEASE_MS)

    run(work)


def test_a_late_write_of_a_dead_run_does_not_cover_a_newer_record() -> None:
    old, new = Record(0, Stamp(1, 7), True, LEASE_MS), Record(0, Stamp(2, 3), False, LEASE_MS)
    assert slot_offset(0, old.stamp) != slot_offset(0, new.stamp)
    area = bytearray(16 * SLOT_BYTES)
    for record in (new, old):
        at = slot_offset(0, record.stamp) - node_offset(0)
        area[at : at + SLOT_BYTES] = CODEC.encode(record)
    assert CODEC.newest(bytes(area), 0) == new


@pytest.mark.parametrize(
    ("codec", "words"),
    [(SlotCodec(KEY, "other", ("a", "b")), "another cluster"), (SlotCodec(b"x" * 32, "lab", ("a", "b")), "another cluster")],
)
def test_a_disk_of_somebody_else_is_refused_and_left_alone(disk: Path, codec: SlotCodec, words: str) -> None:
    async def work() -> None:
        before = disk.read_bytes()
        with pytest.raises(WitnessSilentError, match=words):
            await witness(disk, "a", codec=codec).take(1, LEASE_MS)
        assert disk.read_bytes() == before

    run(work)


def test_what_is_no_witness_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"precious" * 100_000)

    async def work() -> None:
        for name, words in (("data", "brainctl witness format"), ("nothing", "No such file")):
            with pytest.raises(WitnessSilentError, match=words):
                await witness(tmp_path / name, "a").look()
        with pytest.raises(WitnessSilentError, match="neither a block device nor a file"):
            await witness(Path("/dev/null"), "a").look()
        (tmp_path / "short").write_bytes(CODEC.header())
        with pytest.raises(WitnessSilentError, match="a witness needs"):
            await witness(tmp_path / "short", "a").look()

    run(work)
    assert (tmp_path / "data").read_bytes() == b"precious" * 100_000


class StalledDisk(DiskFile):
    """A storage path that hangs in its next write, as a SAN whose controller fails over."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.stalls = False
        self.release = threading.Event()

    def write(self, offset: int, slot: bytes) -> None:
        if self.stalls:
            self.release.wait(10)
        super().write(offset, slot)


def test_a_stalled_write_is_silence_and_no_turn_is_won_by_it_later(disk: Path) -> None:
    async def work() -> None:
        stalled = StalledDisk(str(disk))
        a, b = witness(disk, "a", disk=stalled), witness(disk, "b")
        stalled.stalls = True
        start = time.monotonic()
        with pytest.raises(WitnessSilentError, match="no answer"):
            await a.take(1, LEASE_MS)
        with pytest.raises(WitnessSilentError, match="stalled"):
            await a.look()
        assert time.monotonic() - start < 4
        await b.take(1, 60_000)
        stalled.stalls = False
        stalled.release.set()
        await asyncio.sleep(0.2)
        assert await taken(a) == "b"
        assert await b.look() == "b"

    run(work)


def test_the_process_answers_as_its_docstring_says(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    children = {}
    for node in "ab":
        child = children[node] = ChildProcess("watchdog.witness.process")
        settings = {"kind": "disk", "device": str(disk), "poll_ms": 100}
        child.send(
            {
                "op": "configure",
                "settings": settings,
                "cluster": "lab",
                "node": node,
                "nodes": ["b", "a"],
                "first": node == "a",
                "key_file": str(tmp_path / "key"),
                "incarnation": 1,
            }
        )
    a, b = children["a"], children["b"]
    try:
        for child in (a, b):
            child.wait_for("changed", lambda c: c["up"] and c["holder"] == "")
        a.send({"op": "request", "request": 1, "lease_ms": 60_000})
        assert a.wait_for("granted")["request"] == 1
        b.send({"op": "request", "request": 4, "lease_ms": 60_000})
        assert b.wait_for("refused") == {"request": 4, "holder": "a", "detail": "a holds the turn"}
        b.wait_for("changed", lambda c: c["holder"] == "a")
        a.send({"op": "release", "request": 1})
        b.wait_for("changed", lambda c: c["holder"] == "")
        disk.unlink()
        disk.write_bytes(bytes(1 << 20))
        b.send({"op": "request", "request": 5, "lease_ms": 60_000})
        assert b.wait_for("granted")["request"] == 5  # the device that is open stays the one that was named
        assert a.end() == 0
        assert b.end() == 0
    finally:
        for child in (a, b):
            if child.process.poll() is None:
                child.kill()


def test_the_process_says_what_is_missing_until_it_is_there(disk: Path, tmp_path: Path) -> None:
    child = ChildProcess("watchdog.witness.process")
    key = tmp_path / "key"
    message = {"op": "configure", "cluster": "lab", "node": "a", "nodes": ["a", "b"], "first": True, "key_file": str(key), "incarnation": 1}
    child.send({**message, "settings": {"kind": "disk", "device": str(disk), "poll_ms": 100}})
    try:
        assert "create it with mode 0600" in child.wait_for("changed", lambda c: not c["up"])["detail"]
        key.write_bytes(KEY)
        key.chmod(0o600)
        child.wait_for("changed", lambda c: c["up"])
    finally:
        child.kill()
