"""The recorder process: ``python -m watchdog.record.recorder --state-dir DIR --node NAME``, a child of braind.

It owns the database. Rows come as JSON lines over the inherited socket (watchdog/record/messages.py), what
has arrived together is committed together, and a barrier is answered only after fsync. The watcher never
waits for it: its channel does not block, and a recorder that is slow, stuck or dead only means that barriers
are not answered (and therefore that nothing is fenced).
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from base.channel import Channel, JsonObject
from base.clock import boot_id, now_ns, wall_ns
from base.core import NS_PER_MS, NS_PER_S
from base.log import Log, stderr_log
from base.pump import Pump
from base.supervise import child_socket
from watchdog.durable import write_durably
from watchdog.judgement.commands import RowKind
from watchdog.record.messages import Restored
from watchdog.record.pruning import Retention, prune_step, used_bytes
from watchdog.record.restore import is_set, node_facts, read_restored
from watchdog.record.rows import BadRow, Stamp, TableRow, field_pairs, spec_row, table_row
from watchdog.record.schema import JOURNALS, MAINTENANCE, PACKETS, SCHEMA_VERSION
from watchdog.record.space import SpaceWatch
from watchdog.record.store import SetAside, Store, StoreDamaged, StoreUnavailable

MAX_QUEUED_ROWS = 20_000
MAX_QUEUED_BYTES = 32 << 20
RETRY_NS = NS_PER_S
COMMIT_GAP_NS = 5 * NS_PER_MS
"""Rows that nobody waits for are collected for this long: fewer fsyncs, and the delivery process gets its turn to write."""
MAINTENANCE_NS = 60 * NS_PER_S
CHECK_NS = 1_800 * NS_PER_S
SPACE_NS = 5 * NS_PER_S
"""How often the file is read through for damage."""
ROWS_A_TRANSACTION = 2_000
MAX_PACKET_BYTES = 64 * 1024
QUIET_NS = 500 * NS_PER_MS
"""After TERM the recorder ends when the watcher has said nothing for so long."""


@dataclass(slots=True)
class Batch:
    """What one message asked to be written together; ``barrier`` is answered when it is on the disk."""

    rows: list[TableRow]
    barrier: int | None = None
    session: str = ""
    seq: int = 0
    received_ns: int = field(default_factory=now_ns)

    @property
    def size(self) -> int:
        """A rough number of bytes that the rows take in memory."""
        return _size(self.rows)


class Recorder:
    """Message handling and the write queue, around one Store."""

    def __init__(self, pump: Pump, state_dir: str, node: str, boot: str, watcher: str, retention: Retention, log: Log) -> None:
        self._pump = pump
        self._state_dir = state_dir
        self._node = node
        self._boot = boot
        self._retention = retention
        self._log = log
        self.store = Store(os.path.join(state_dir, "brain.db"))
        self.channel: Channel | None = None
        self._watcher = watcher
        self._incarnation = 0
        self._queue: deque[Batch] = deque()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._lost: Counter[str] = Counter()
        self._trouble = ""
        self._record_lost = ""
        self._last_error: StoreUnavailable | None = None
        self._flush_scheduled = False
        self._retry_due_ns: int | None = None
        self._committed_ns = 0
        self._maintenance_due_ns = now_ns() + MAINTENANCE_NS
        self._check_due_ns = now_ns() + CHECK_NS
        self._space = SpaceWatch(state_dir)
        self._space_due_ns = now_ns()
        self._last_write_wall_ns = 0
        self._last_message_ns = 0
        self._terminated = False
        self._session = ""
        self._seq = 0
        self._taken_seq = 0
        self._barriers_broken = False

    def begin(self) -> None:
        """Open the database and learn the number of the run that is under way (a recorder may be restarted in the middle of one)."""
        self.flush()
        if self.store.db is not None:
            run = node_facts(self.store.db).get("run")
            number = run.get("incarnation") if isinstance(run, dict) else 0
            self._incarnation = number if isinstance(number, int) else 0
            try:
                self._session, self._seq = self.store.progress()
                self._taken_seq = self._seq
            except (StoreDamaged, StoreUnavailable) as error:
                self._log.error("it cannot be read how far the watcher's messages are recorded", detail=str(error))
        self._say({"ready": {"session": self._session, "seq": self._seq}})

    def terminate(self) -> None:
        """TERM: go on until the watcher closes the socket or says nothing for a while; its last rows must not be cut off."""
        self._terminated = True
        self._last_message_ns = now_ns()

    # ---- pump ---------------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """The next retry or maintenance."""
        due = min(self._maintenance_due_ns, self._space_due_ns)
        due = due if self._retry_due_ns is None else min(self._retry_due_ns, due)
        return min(due, self._last_message_ns + QUIET_NS) if self._terminated else due

    def on_deadline(self, at_ns: int) -> None:
        """Retry what could not be written; prune."""
        if self._retry_due_ns is not None and at_ns >= self._retry_due_ns:
            self._retry_due_ns = None
            self.flush()
        if at_ns >= self._space_due_ns:
            self._space_due_ns = now_ns() + SPACE_NS
            if self._space.look():
                self._say({"space": {"low": self._space.low, "free_bytes": self._space.free_bytes}})
        if at_ns >= self._maintenance_due_ns:
            self._maintenance_due_ns = now_ns() + (MAINTENANCE_NS if not self._prune() else NS_PER_S)
            if at_ns >= self._check_due_ns:
                self.check()
        if self._terminated and at_ns >= self._last_message_ns + QUIET_NS:
            self.end()

    def closed(self, reason: str) -> None:
        """The watcher is gone: write what it sent and end."""
        self._log.info("the watcher is gone, writing what it sent", reason=reason)
        self.end()

    def end(self) -> None:
        """Last flush, then leave the loop."""
        self.flush()
        if self._queue:
            self._log.error("ending with rows that could not be written", rows=self._queued_rows)
        self._pump.stop()

    # ---- messages -----------------------------------------------------------------------------------------------------------

    def on_message(self, message: JsonObject) -> None:
        """Take one message from the watcher; garbage is reported and changes nothing."""
        self._last_message_ns = now_ns()
        op = message.get("op")
        try:
            if op in ("persist", "packets", "journal"):
                self._rows_came(message, str(op))
            elif op == "restore":
                self._restore(message)
            elif op == "check":
                self.check()
            elif op == "health":
                self._say({"health": self.health()})
            elif op == "goodbye":
                self._goodbye()
            else:
                raise BadRow(f"{op!r} is no operation of the recorder")
        except (BadRow, ValueError, TypeError, KeyError) as error:
            why = f"{type(error).__name__}: {error}" if not isinstance(error, BadRow) else str(error)
            self._log.limited("rejected", "a message was rejected", why=why)
            self._say({"rejected": {"why": why, "barrier": message.get("barrier")}})
            detail = {"why": why, "message": str(message)[:4096]}
            row = spec_row(MAINTENANCE, {"what": "rejected", "detail": detail}, self._stamp({}))  # type: ignore[dict-item]
            self._take(Batch([row], None, *_number(message)))

    def _rows_came(self, message: JsonObject, op: str) -> None:
        session, seq = _number(message)
        if seq and session != self._session:
            self._session, self._seq, self._taken_seq = session, 0, 0
        barrier = message.get("barrier")
        if seq and seq <= self._taken_seq:
            # Repeated because the answer got lost: it is on the disk, or waits in this very process.
            if seq <= self._seq and isinstance(barrier, int):
                self._answer(barrier, 0)
            return
        self._taken_seq = max(self._taken_seq, seq)
        try:
            batch = self._batch(message, op)
        except (BadRow, ValueError, TypeError, KeyError):
            # A later answer would vouch for these rows too ("everything up to"): no barrier is answered by this process any more.
            self._barriers_broken = self._barriers_broken or barrier is not None
            raise
        batch.session, batch.seq = session, seq
        self._take(batch)

    def _batch(self, message: JsonObject, op: str) -> Batch:
        if op == "persist":
            return self._persist_batch(message)
        if op == "packets":
            return self._packets_batch(message)
        names = ("op", "wall_ns", "boottime_ns", "session", "seq")
        return Batch([spec_row(JOURNALS, {k: v for k, v in message.items() if k not in names}, self._stamp(message))])

    def _stamp(self, message: JsonObject) -> Stamp:
        wall, boottime = message.get("wall_ns", wall_ns()), message.get("boottime_ns", now_ns())
        if not isinstance(wall, int) or not isinstance(boottime, int) or max(abs(wall), abs(boottime)) >= 1 << 63:
            raise BadRow("wall_ns and boottime_ns must be 64-bit integers")
        return Stamp(self._node, self._boot, self._incarnation, wall, boottime)

    def _persist_batch(self, message: JsonObject) -> Batch:
        barrier = message.get("barrier")
        if barrier is not None and (isinstance(barrier, bool) or not isinstance(barrier, int)):
            raise BadRow("barrier must be an integer")
        stamp = self._stamp(message)
        rows = []
        for item in message["rows"]:
            if not isinstance(item, list) or len(item) != 2:
                raise BadRow("a row is a pair of its kind and its fields")
            fields = field_pairs(item[1])
            rows.append(table_row(str(item[0]), fields, stamp))
            if item[0] == RowKind.NODE.value and fields.get("key") == "quarantine":
                self._mirror_quarantine(is_set(fields.get("value")))
        return Batch(rows, barrier)

    def _packets_batch(self, message: JsonObject) -> Batch:
        stamp = self._stamp(message)
        rows = []
        for packet in message["packets"]:
            data = bytes.fromhex(str(packet["data"]))[:MAX_PACKET_BYTES]
            fields = {"incident": message.get("incident", ""), **{k: v for k, v in packet.items() if k != "data"}}
            row = spec_row(PACKETS, fields, stamp)
            row.columns.pop("extra")
            row.columns["data"] = data
            rows.append(row)
        return Batch(rows)

    def _take(self, batch: Batch) -> None:
        self._queue.append(batch)
        self._queued_rows += len(batch.rows)
        self._queued_bytes += batch.size
        self._bound_queue()
        if self._flush_scheduled or (self._retry_due_ns is not None and self._trouble):
            return
        gap_ends_ns = self._committed_ns + COMMIT_GAP_NS
        if batch.barrier is None and now_ns() < gap_ends_ns:
            self._retry_due_ns = gap_ends_ns
            return
        # Everything that this wake-up reads is committed together.
        self._flush_scheduled = True
        self._pump.call_soon(self.flush)

    def _bound_queue(self) -> None:
        """Give up explaining rows first, then the oldest others; never those with a barrier (they are few: intents to fence)."""
        if self._queued_rows <= MAX_QUEUED_ROWS and self._queued_bytes <= MAX_QUEUED_BYTES:
            return
        for batch in self._queue:
            if batch.barrier is None and any(r.bulk for r in batch.rows):
                gone = [r for r in batch.rows if r.bulk]
                batch.rows = [r for r in batch.rows if not r.bulk]
                self._count_lost(gone)
            if self._queued_rows <= MAX_QUEUED_ROWS * 9 // 10 and self._queued_bytes <= MAX_QUEUED_BYTES * 9 // 10:
                return
        for batch in self._queue:
            if self._queued_rows <= MAX_QUEUED_ROWS and self._queued_bytes <= MAX_QUEUED_BYTES:
                return
            if batch.barrier is None:
                gone, batch.rows = batch.rows, []
                self._count_lost(gone)

    def _count_lost(self, rows: Sequence[TableRow]) -> None:
        for row in rows:
            self._lost[row.table] += 1
        self._queued_rows -= len(rows)
        self._queued_bytes -= _size(rows)

    # ---- writing ------------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Commit what is queued and answer its barriers; on failure keep it and arm the retry."""
        self._flush_scheduled = False
        self._retry_due_ns = None
        try:
            self._ensure_open()
            while self._queue:
                self._write_group()
        except StoreDamaged as error:
            self._replace_damaged(str(error))
        except StoreUnavailable as error:
            self._in_trouble(error)

    def _write_group(self) -> None:
        group: list[Batch] = []
        count = 0
        for batch in self._queue:
            if group and count + len(batch.rows) > ROWS_A_TRANSACTION:
                break
            group.append(batch)
            count += len(batch.rows)
        numbered = [batch for batch in group if batch.seq]
        progress = (numbered[-1].session, numbered[-1].seq) if numbered else None
        self.store.write([row for batch in group for row in batch.rows], progress)
        self._last_write_wall_ns = wall_ns()
        self._committed_ns = now_ns()
        if self._trouble:
            self._recovered()
        for batch in group:
            self._queue.popleft()
            self._queued_rows -= len(batch.rows)
            self._queued_bytes -= batch.size
        done_ns = now_ns()
        for batch in group:
            if batch.barrier is not None:
                self._answer(batch.barrier, (done_ns - batch.received_ns) // NS_PER_MS)
        if progress is not None and progress[0] == self._session:
            self._seq = progress[1]
            self._say({"written": self._seq})

    def _answer(self, barrier: int, took_ms: int) -> None:
        if not self._barriers_broken:
            self._say({"persisted": barrier, "took_ms": took_ms})

    def _ensure_open(self) -> None:
        if self.store.is_open and self.store.file_is_ours():
            return
        removed = self.store.is_open
        if removed and self.store.rescue_removed():
            self._log.error("the database file was removed while in use; its content was written again", path=self.store.path)
            self.store.open()
            self._say(
                {"set_aside": {"path": "", "why": "the file was removed while in use; its content was written again", "salvaged": {}}}
            )
            return
        if removed:
            self._log.error("another file was put in the place of the database", path=self.store.path)
        try:
            created = self.store.open()
        except StoreDamaged as error:
            self._set_aside(str(error))
            return
        if created and removed:
            self._note_loss("the database file was removed while in use and could not be written again")

    def _replace_damaged(self, why: str) -> None:
        try:
            self._set_aside(why)
        except (StoreDamaged, StoreUnavailable) as error:
            self._in_trouble(error if isinstance(error, StoreUnavailable) else StoreUnavailable("damaged", str(error), "check the disk"))
            return
        self._retry_due_ns = now_ns()

    def _set_aside(self, why: str) -> None:
        done: SetAside = self.store.set_aside(why, self._stamp({}))
        self._log.error("DAMAGED DATABASE set aside; a new one is in use", why=why, path=done.path, salvaged=done.salvaged)
        self._say({"set_aside": {"path": done.path, "why": why, "salvaged": done.salvaged}})
        if not done.complete:
            self._note_loss(why)

    def _note_loss(self, why: str) -> None:
        """Facts about fences may be gone: latch the budget, in the record too, until a person has looked."""
        self._record_lost = why
        value = f"the record was lost ({why}): how often the peer was fenced is not known"
        self.store.write([table_row(RowKind.NODE.value, {"key": "latch", "value": value}, self._stamp({}))])

    def _in_trouble(self, error: StoreUnavailable) -> None:
        self._last_error = error
        self._retry_due_ns = now_ns() + RETRY_NS
        if error.code == "read_only" or error.code == "io_error":
            self.store.close()
        if self._trouble != error.code:
            self._trouble = error.code
            self._log.error("the record cannot be written", code=error.code, detail=str(error), remedy=error.remedy)
            body = {"code": error.code, "detail": str(error), "remedy": error.remedy, "queued_rows": self._queued_rows}
            self._say({"trouble": body})

    def _recovered(self) -> None:
        lost, self._lost = dict(self._lost), Counter()
        self._log.warning("the record can be written again", after=self._trouble, lost=lost)
        detail = {"after": self._trouble, "lost_rows": lost}
        self._trouble = ""
        self._last_error = None
        self._say({"recovered": {"lost_rows": lost}})
        try:
            self.store.write([spec_row(MAINTENANCE, {"what": "trouble", "detail": detail}, self._stamp({}))])  # type: ignore[dict-item]
        except (StoreUnavailable, StoreDamaged):
            self._lost.update(lost)

    def _prune(self) -> bool:
        db = self.store.db
        if db is None or self._trouble:
            return False
        try:
            return bool(prune_step(db, self._retention, self._stamp({})))
        except sqlite3.Error as error:
            self._log.limited("prune", "maintenance failed", detail=str(error))
            return False

    def check(self) -> None:
        """Read the whole file through a fresh connection (our own cache hides damage) and set it aside if it is damaged."""
        self._check_due_ns = now_ns() + CHECK_NS
        if self.store.db is None:
            return
        why = self.store.damage_on_disk()
        if why:
            self._replace_damaged(why)

    def _mirror_quarantine(self, on: bool) -> None:
        """The marker beside the record survives the loss of the record."""
        path = os.path.join(self._state_dir, "quarantine")
        try:
            if on:
                write_durably(path, "this node was fenced; `brainctl fence ack` clears it\n")
            elif os.path.exists(path):
                os.unlink(path)
        except OSError as error:
            self._log.error("the quarantine marker could not be changed", path=path, detail=str(error))

    # ---- start, end, health -------------------------------------------------------------------------------------------------

    def _restore(self, message: JsonObject) -> None:
        asked = message.get("incarnation")
        asked = asked if isinstance(asked, int) and not isinstance(asked, bool) else None
        problem = ""
        self.flush()
        try:
            self._ensure_open()
            db = self.store.db
            assert db is not None
            if asked is not None and asked > 1 and "run" not in node_facts(db):
                self._note_loss("the database is missing though this node has run before")
            restored = read_restored(db, asked_incarnation=asked, boot=self._boot, wall_ns=wall_ns(), watcher=self._watcher)
            self._incarnation = restored.incarnation
            run = {"incarnation": restored.incarnation, "boot": self._boot, "watcher": self._watcher}
            self.store.write([table_row(RowKind.NODE.value, {"key": "run", "value": run}, self._stamp({}))])  # type: ignore[dict-item]
        except (StoreUnavailable, StoreDamaged, sqlite3.Error) as error:
            problem = str(error)
            self._incarnation = asked or 1
            # Nothing is known about earlier fences: latched, so that nothing is fenced on a guess.
            restored = Restored(self._incarnation, False, False, False, True, True, (), (), 0, {}, record_lost=problem)
            if isinstance(error, StoreUnavailable):
                self._in_trouble(error)
            else:
                self._replace_damaged(problem)
        restored = replace(
            restored,
            quarantined=restored.quarantined or os.path.exists(os.path.join(self._state_dir, "quarantine")),
            durable=not problem,
            problem=problem,
            record_lost=restored.record_lost or self._record_lost,
        )
        self._say(restored.to_message())

    def _goodbye(self) -> None:
        row = table_row(RowKind.NODE.value, {"key": "clean_stop", "value": self._incarnation}, self._stamp({}))
        self._take(Batch([row]))
        self.flush()
        self._say({"goodbye": not self._queue})
        self.end()

    def health(self) -> dict[str, Any]:
        """How the record is, for ``status``."""
        db = self.store.db
        size = 0
        try:
            size = used_bytes(db) if db is not None else 0
        except sqlite3.Error:
            pass
        return {
            "path": self.store.path,
            "ok": db is not None and not self._trouble,
            "schema_version": SCHEMA_VERSION,
            "bytes": size,
            "queued_rows": self._queued_rows,
            "lost_rows": sum(self._lost.values()),
            "last_write_wall_ns": self._last_write_wall_ns,
            "trouble": self._trouble,
            "detail": str(self._last_error or ""),
            "remedy": self._last_error.remedy if self._last_error else "",
        }

    def _say(self, message: JsonObject) -> None:
        if self.channel is not None and not self.channel.closed and not self.channel.send(message):
            self._log.limited("deaf", "the watcher does not read its answers")


def _process_identity(pid: int) -> str:
    """A process id and its start time: tells the same watcher from another one that got its number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f"{pid}:{f.read().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return ""


def _number(message: JsonObject) -> tuple[str, int]:
    """The watcher's session and the message's number in it; ("", 0) for a message without."""
    session, seq = message.get("session", ""), message.get("seq", 0)
    if not isinstance(session, str) or isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq < 1 << 63:
        return "", 0
    return session, seq


def _size(rows: Sequence[TableRow]) -> int:
    """A rough number of bytes that rows take in memory."""
    return sum(200 + sum(len(v) for v in row.columns.values() if isinstance(v, str | bytes)) for row in rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recorder on the inherited socket until the watcher closes it."""
    parser = argparse.ArgumentParser(prog="brain-recorder")
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--boot", default="", help="boot id (default: the kernel's)")
    parser.add_argument("--watcher", default="", help="identifies the watcher's process (default: the parent's pid and start time)")
    parser.add_argument("--keep-days", type=int, default=90)
    parser.add_argument("--max-mib", type=int, default=256)
    args = parser.parse_args(argv)
    log = stderr_log("recorder")
    pump: Pump
    recorder: Recorder
    pump = Pump(next_deadline=lambda: recorder.next_deadline(), on_deadline=lambda at_ns: recorder.on_deadline(at_ns))
    retention = Retention(days=max(1, args.keep_days), max_bytes=max(1, args.max_mib) << 20)
    recorder = Recorder(
        pump, args.state_dir, args.node, args.boot or boot_id(), args.watcher or _process_identity(os.getppid()), retention, log
    )
    channel = Channel(pump, child_socket(), recorder.on_message, recorder.closed)
    recorder.channel = channel
    recorder.begin()
    # The socket's end is the order to stop: rows that were sent before are still read then.
    signal.signal(signal.SIGTERM, lambda _signum, _frame: recorder.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pump.run()
    channel.close()
    recorder.store.close()
    pump.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
