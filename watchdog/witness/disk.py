"""The turn on a shared block device or file, for sites with a SAN: slots of one node each, read and written with O_DIRECT.

Who has the turn is decided by lease/taking.py (pure); here are the reads and writes. All of them run in one thread, one after the other:
no write is begun while another one, or its failure, is under way. A write that stalls blocks this thread and nothing else; meanwhile the
witness is silent.
"""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from watchdog.witness.engine import TurnLostError, TurnTakenError, WitnessSilentError
from watchdog.witness.lease.slots import DISK_BYTES, NODE_BYTES, SLOT_BYTES, Record, SlotCodec, SlotError, node_offset, slot_offset
from watchdog.witness.lease.taking import DiskTurn, ReadOther, Step, Wait, Won, WriteOwn, Yielded

IO_MS = 2_000
"""An operation that takes longer is silence; it is still waited for, beside everything else."""
T = TypeVar("T")


class DiskFile:
    """Blocking access to the device; raises WitnessSilentError with the remedy."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._buffer = mmap.mmap(-1, DISK_BYTES)  # page-aligned, as O_DIRECT wants it

    def read(self) -> bytes:
        """The header and all slots."""
        try:
            count = os.preadv(self._open(), [self._buffer], 0)
        except OSError as error:
            raise self._failed(error, "read") from None
        if count != DISK_BYTES:
            raise WitnessSilentError(f"{self.path} holds {count} bytes, a witness needs {DISK_BYTES}")
        return self._buffer[:]

    def write(self, offset: int, slot: bytes) -> None:
        """One slot, durable when it returns."""
        self._buffer[:SLOT_BYTES] = slot
        try:
            count = os.pwritev(self._open(), [memoryview(self._buffer)[:SLOT_BYTES]], offset)
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._failed(error, "written") from None
        if count != SLOT_BYTES:
            raise WitnessSilentError(f"{self.path}: only {count} of {SLOT_BYTES} bytes were written")

    def close(self) -> None:
        """Close the device."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        if self._fd < 0:
            kind = os.stat(self.path).st_mode
            if not (stat.S_ISBLK(kind) or stat.S_ISREG(kind)):
                raise OSError(errno.ENOTBLK, "it is neither a block device nor a file")
            self._fd = os.open(self.path, os.O_RDWR | os.O_DIRECT | os.O_DSYNC | os.O_CLOEXEC)
        return self._fd

    def _failed(self, error: OSError, what: str) -> WitnessSilentError:
        self.close()
        if error.errno == errno.EINVAL:
            return WitnessSilentError(f"{self.path} cannot be {what} past the page cache (O_DIRECT): put the witness on a block device")
        return WitnessSilentError(f"{self.path} cannot be {what}: {error.strerror}")


def format_disk(path: str, codec: SlotCodec) -> None:
    """Write the header and empty slots; a file outside /dev that is not there is made. Raises WitnessSilentError.
    Nobody may be using it."""
    disk = DiskFile(path)
    try:
        if not path.startswith("/dev/") and not os.path.exists(path):
            _make_file(path)
        for offset in range(SLOT_BYTES, DISK_BYTES, SLOT_BYTES):
            disk.write(offset, bytes(SLOT_BYTES))
        disk.write(0, codec.header())
    finally:
        disk.close()


def _make_file(path: str) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as f:
            f.truncate(DISK_BYTES)
    except OSError as error:
        raise WitnessSilentError(f"{path} cannot be made: {error.strerror}") from None


class DiskWitness:
    """An Engine. ``nodes`` are both names in their sorted order; ``first``: this node has rank 1; ``watching``: it never writes."""

    def __init__(
        self,
        disk: DiskFile,
        codec: SlotCodec,
        nodes: tuple[str, str],
        node: str,
        *,
        first: bool,
        incarnation: int,
        clock_ns: Callable[[], int],
        watching: bool = False,
    ) -> None:
        self._disk, self._codec, self._nodes, self._clock_ns = disk, codec, nodes, clock_ns
        self._turn = DiskTurn(nodes.index(node), first, incarnation)
        self._watching = watching
        self._request: int | None = None
        self._thread = ThreadPoolExecutor(1, "witness-disk")
        self._running: asyncio.Future[Any] | None = None
        self._lock = asyncio.Lock()

    async def look(self) -> str:
        """See Engine."""
        if self._lock.locked():
            return self._holder()  # a take is under way: its own reads are as good
        async with self._lock:
            await self._read()
            if not self._watching:
                await self._meet()
        return self._holder()

    async def _meet(self) -> None:
        """Two nodes that use two different disks would both win: each must have seen a record of the other one on its own."""
        step = self._turn.introduce(self._clock_ns())
        if step is not None:
            await self._drive(step)
        if self._turn.other.record is None:
            peer = self._nodes[1 - self._turn.node]
            raise WitnessSilentError(
                f"{self._disk.path}: {peer} has never written here; has braind been started there, with the same disk?"
            )

    async def take(self, request: int, lease_ms: int) -> int:
        """See Engine."""
        async with self._lock:
            if self._request is None:
                await self._read()
                await self._meet()
            if self._request is not None and self._request != request:
                await self._drive(self._turn.give_back(self._clock_ns()))
            renewing, self._request = self._request == request, None
            end = await self._drive(self._turn.take(self._clock_ns(), lease_ms))
            if isinstance(end, Won):
                self._request = request
                return end.until_ns
            if renewing and self._turn.until_ns is not None and self._clock_ns() <= self._turn.until_ns:
                self._request = request  # not renewed, but not over either
                raise WitnessSilentError("the turn could not be renewed now: the other node claims it")
            if renewing:
                raise TurnLostError("it ran out before it was renewed")
        raise TurnTakenError(self._nodes[self._turn.node] if end.own else self._nodes[1 - self._turn.node])

    async def give_back(self, request: int) -> None:
        """See Engine."""
        async with self._lock:
            if self._request == request:
                self._request = None
                await self._drive(self._turn.give_back(self._clock_ns()))

    async def close(self) -> None:
        """See Engine."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _holder(self) -> str:
        now_ns, turn = self._clock_ns(), self._turn
        if turn.until_ns is not None and now_ns <= turn.until_ns:
            return self._nodes[turn.node]
        if turn.other.known and turn.other.claims(now_ns):
            return self._nodes[1 - turn.node]
        return self._nodes[turn.node] if not turn.counter and turn.earlier.known and turn.earlier.claims(now_ns) else ""

    async def _drive(self, step: Step) -> Won | Yielded:
        while True:
            match step:
                case ReadOther():
                    await self._read()
                    step = self._turn.read(self._clock_ns())
                case WriteOwn(record):
                    await self._write(record)
                    step = self._turn.wrote(self._clock_ns())
                case Wait(wait_ms):
                    await asyncio.sleep(wait_ms / 1000)
                    step = self._turn.waited(self._clock_ns())
                case Won() | Yielded():
                    return step

    async def _read(self) -> None:
        data = await self._beside(self._disk.read)
        now_ns, turn = self._clock_ns(), self._turn
        try:
            self._codec.check_header(data[:SLOT_BYTES])
        except SlotError as error:
            raise WitnessSilentError(f"{self._disk.path}: {error}") from None
        areas = [data[node_offset(n) : node_offset(n) + NODE_BYTES] for n in (0, 1)]
        own = self._codec.newest(areas[turn.node], turn.node)
        if own is not None and (own.stamp.incarnation, own.stamp.counter) > (turn.incarnation, turn.counter):
            who = self._nodes[turn.node]
            raise WitnessSilentError(f"{self._disk.path}: somebody else writes as {who}: a second braind, or a snapshot was brought back")
        turn.other.see(now_ns, self._codec.newest(areas[1 - turn.node], 1 - turn.node), areas[1 - turn.node])
        if not turn.counter:
            turn.earlier.see(now_ns, own, areas[turn.node])

    async def _write(self, record: Record) -> None:
        slot = self._codec.encode(record)
        await self._beside(lambda: self._disk.write(slot_offset(record.node, record.stamp), slot))

    async def _beside(self, work: Callable[[], T]) -> T:
        """In the thread. One that did not end in time is still waited for before the next one begins."""
        if self._running is not None and not self._running.done():
            raise WitnessSilentError(f"{self._disk.path}: an operation has been stalled for over {IO_MS} ms")
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        future.add_done_callback(_taken_note_of)
        self._running = future
        done, _ = await asyncio.wait([future], timeout=IO_MS / 1000)
        if not done:
            raise WitnessSilentError(f"{self._disk.path}: no answer in {IO_MS} ms")
        return future.result()


def _taken_note_of(future: asyncio.Future[T]) -> None:
    """An operation that ends after it was given up must not end in a complaint of asyncio."""
    if not future.cancelled():
        future.exception()
