"""What the kernel tells about processes: the proc connector (NETLINK_CONNECTOR, CN_IDX_PROC), and /proc itself.

``TrackedProcesses`` lists /proc once and then follows events. Where the kernel tells none (another user or process namespace,
no CAP_NET_ADMIN, no connector) it looks at /proc again and again; after an overrun of the socket it lists anew, so that nothing is
missed for good.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from base.clock import now_ns
from base.core import NS_PER_MS, NS_PER_S
from base.log import Log
from base.pump import Pump
from vrrp.config.model.daemon import ReceiveBuffer
from vrrp.config.model.tracking import TrackProcess
from vrrp.protocol.process_tracker import (
    ParameterRule,
    ProcessEnded,
    ProcessesListed,
    ProcessForked,
    ProcessSeen,
    ProcessTracker,
    ReportProcess,
    TrackedChanged,
    TrackedProcess,
)
from vrrp.system.namespaces import FIRST, inside
from vrrp.system.timers import Timers

POLL_NS = 250 * NS_PER_MS
"""How often /proc is read where the kernel tells no events."""
RELIST_NS = 30 * NS_PER_S
"""How often the truth is compared with what the events made of it."""
ANSWER_S = 0.5
"""The kernel answers the subscription at once, or (in a foreign user or process namespace) never."""
MAX_BATCH = 500
MAX_BATCHES = 20
OWN_BUFFER = ReceiveBuffer(2 << 20, force=True)
"""Where the file has no process_monitor_rcv_bufs."""
MAX_BUFFER_BYTES = (1 << 31) - 1

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC, _CN_VAL_PROC = 1, 1
_LISTEN, _IGNORE = 1, 2
_NLMSG_DONE = 3
_NLMSGHDR = struct.Struct("=IHHII")
_CN_MSG = struct.Struct("=IIIIHH")
_EVENT = struct.Struct("=IIQ")
_EVENT_AT = _NLMSGHDR.size + _CN_MSG.size
_DATA_AT = _EVENT_AT + _EVENT.size
_NONE, _FORK, _EXEC, _COMM, _EXIT = 0, 1, 2, 0x200, 0x80000000
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33


class NoEvents(Exception):
    """The kernel does not tell this process about others; the text says why."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A new process (not a thread)."""

    parent: int
    child: int


@dataclass(frozen=True, slots=True)
class Executed:
    """A process runs another program now."""

    pid: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """A process changed its name."""

    pid: int


@dataclass(frozen=True, slots=True)
class Exited:
    """A process ended."""

    pid: int


KernelEvent: TypeAlias = Forked | Executed | Renamed | Exited


def decode_event(data: bytes) -> KernelEvent | None:
    """One message of the connector; None if it is of no interest (threads, users, ptrace, short or foreign ones)."""
    if len(data) < _DATA_AT + 8:
        return None
    what = _EVENT.unpack_from(data, _EVENT_AT)[0]
    pid, tgid = struct.unpack_from("=ii", data, _DATA_AT)
    if what == _FORK and len(data) >= _DATA_AT + 16:
        child, child_tgid = struct.unpack_from("=ii", data, _DATA_AT + 8)
        return Forked(tgid, child_tgid) if child == child_tgid else None
    if what == _EXEC:
        return Executed(tgid)
    if pid != tgid:
        return None
    if what == _COMM:
        return Renamed(tgid)
    return Exited(tgid) if what == _EXIT else None


def _filter_program() -> bytes:
    """Classic BPF: only fork, exec, comm, exit (and the answer to the subscription) of whole processes wake us; threads do not."""

    def host(value: int) -> int:  # BPF loads big-endian what the kernel wrote in host order
        return int.from_bytes(value.to_bytes(4, "little" if struct.pack("=I", 1) == struct.pack("<I", 1) else "big"), "big")

    load, jump, jump_equal, jump_equal_x, copy_to_x = 0x20, 0x05, 0x15, 0x1D, 0x07
    program = (
        (load, 0, 0, _EVENT_AT),  # 0
        (jump_equal, 12, 0, host(_NONE)),  # 1 → 14
        (jump_equal, 11, 0, host(_EXEC)),  # 2 → 14
        (jump_equal, 2, 0, host(_FORK)),  # 3 → 6
        (jump_equal, 5, 0, host(_COMM)),  # 4 → 10
        (jump_equal, 4, 9, host(_EXIT)),  # 5 → 10 or 15
        (load, 0, 0, _DATA_AT + 8),  # 6: of a fork the child's pid and tgid
        (copy_to_x, 0, 0, 0),  # 7
        (load, 0, 0, _DATA_AT + 12),  # 8
        (jump, 0, 0, 3),  # 9 → 13
        (load, 0, 0, _DATA_AT),  # 10: of the others pid and tgid
        (copy_to_x, 0, 0, 0),  # 11
        (load, 0, 0, _DATA_AT + 4),  # 12
        (jump_equal_x, 0, 1, 0),  # 13
        (0x06, 0, 0, 0xFFFFFFFF),  # 14: take it
        (0x06, 0, 0, 0),  # 15: drop it
    )
    return b"".join(struct.pack("=HBBI", *step) for step in program)


class ProcessEvents:
    """The kernel's events about processes. Raises NoEvents where there are none; ``drain`` raises OSError(ENOBUFS) after an overrun."""

    def __init__(self, buffer: ReceiveBuffer = OWN_BUFFER) -> None:
        try:
            try:
                self._sock = _connector_socket()
                self._subscribe(buffer)
            except ConnectionRefusedError:
                self._sock = _socket_in_first_namespace()
                self._subscribe(buffer)
        except OSError as error:
            raise NoEvents(f"the proc connector is not available here: {error.strerror}") from None

    def _subscribe(self, buffer: ReceiveBuffer) -> None:
        try:
            program = _filter_program()
            steps = ctypes.create_string_buffer(program)
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program) // 8, ctypes.addressof(steps)))
            self._sock.setsockopt(
                socket.SOL_SOCKET, _SO_RCVBUFFORCE if buffer.force else socket.SO_RCVBUF, min(buffer.size, MAX_BUFFER_BYTES)
            )
            self._sock.bind((0, _CN_IDX_PROC))
            token = int.from_bytes(os.urandom(4), "little") >> 1
            self._control(_LISTEN, token)
            self._sock.settimeout(ANSWER_S)
            self._answer(token)
        except BaseException:
            self._sock.close()
            raise
        self._sock.setblocking(False)

    def _answer(self, token: int) -> None:
        """Wait for the acknowledgement: without it there are no events, and the kernel gives no error. Every listener hears the
        acknowledgements of all others: ours carries our token."""
        until_ns = now_ns() + int(ANSWER_S * NS_PER_S)
        while now_ns() < until_ns:
            try:
                data = self._sock.recv(4096)
            except TimeoutError:
                break
            if len(data) < _DATA_AT + 4 or _EVENT.unpack_from(data, _EVENT_AT)[0] != _NONE:
                continue
            if _CN_MSG.unpack_from(data, _NLMSGHDR.size)[3] == token + 1:
                code = struct.unpack_from("=I", data, _DATA_AT)[0]
                if code:
                    raise OSError(code, os.strerror(code))
                return
        raise OSError(errno.EPERM, "the kernel does not answer (another user or process namespace?)")

    def _control(self, operation: int, token: int = 0) -> None:
        body = _CN_MSG.pack(_CN_IDX_PROC, _CN_VAL_PROC, token, token, 4, 0) + struct.pack("=I", operation)
        header = _NLMSGHDR.pack(_NLMSGHDR.size + len(body), _NLMSG_DONE, 0, 0, 0)
        self._sock.sendto(header + body, (0, 0))

    def fileno(self) -> int:
        """The descriptor."""
        return self._sock.fileno()

    def drain(self) -> tuple[list[KernelEvent], bool]:
        """What is there, at most MAX_BATCH messages, and whether that was all. Raises OSError(ENOBUFS) once after an overrun."""
        events: list[KernelEvent] = []
        for _ in range(MAX_BATCH):
            try:
                data, sender = self._sock.recvfrom(4096)
            except BlockingIOError:
                return events, True
            event = decode_event(data) if sender[0] == 0 else None  # only the kernel has port id 0
            if event is not None:
                events.append(event)
        return events, False

    def close(self) -> None:
        """Stop listening."""
        try:
            self._control(_IGNORE)
        except OSError:
            pass  # the kernel forgets us with the socket anyway
        self._sock.close()


def _connector_socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)


def _socket_in_first_namespace() -> socket.socket:
    """The connector only exists in the first network namespace; a daemon that runs in another one looks back for a moment, if it may."""
    with inside(FIRST):
        return _connector_socket()


def look_at(pid: int, command_line: bool) -> ProcessSeen | None:
    """One process as /proc shows it; None if it is gone, a zombie, or a thread of the kernel has no command line to compare."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            stat = f.read(512)
        words: tuple[str, ...] = ()
        if command_line:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                text = f.read(1 << 17).decode("utf-8", "surrogateescape")
            words = tuple(text.removesuffix("\0").split("\0")) if text else ()
    except OSError:
        return None
    # "PID (COMM) STATE …": the name may itself contain parentheses and blanks.
    begin, end = stat.find(b"("), stat.rfind(b")")
    if stat[end + 2 : end + 3] in (b"Z", b"X", b""):
        return None
    return ProcessSeen(pid, stat[begin + 1 : end].decode("utf-8", "surrogateescape"), words)


def list_processes(command_line: bool) -> tuple[ProcessSeen, ...]:
    """Every running process that we may see."""
    seen = (look_at(int(name), command_line) for name in os.listdir("/proc") if name.isdigit())
    return tuple(process for process in seen if process is not None)


def tracked_process(model: TrackProcess) -> TrackedProcess:
    """The core's view of a vrrp_track_process."""
    return TrackedProcess(
        name=model.name,
        process=model.process,
        parameters=model.parameters,
        rule=ParameterRule(model.match.value),
        full_command=model.full_command,
        quorum=model.quorum,
        quorum_max=model.quorum_max,
        fork_delay_ns=model.fork_delay_ns,
        terminate_delay_ns=model.terminate_delay_ns,
    )


class TrackedProcesses:
    """Tells ``report(name, up, running)`` at once, and then at every change that lasted long enough."""

    def __init__(self, pump: Pump, timers: Timers, log: Log, report: Callable[[str, bool, int], None]) -> None:
        self.events: ProcessEvents | None = None
        self.overruns = 0
        self._lost = False
        self._pump = pump
        self._timers = timers
        self._log = log
        self._report = report
        self._buffer = OWN_BUFFER
        self._tracker = ProcessTracker()
        self._tracked: tuple[TrackedProcess, ...] = ()
        self._list_token: int | None = None
        self._due_token: int | None = None
        self._due_ns: int | None = None

    def configure(self, processes: Sequence[TrackProcess], buffer: ReceiveBuffer = OWN_BUFFER) -> None:
        """Track these from now on. ``buffer``: process_monitor_rcv_bufs, size 0 = our own; it counts when the socket is opened."""
        self._buffer = buffer if buffer.size else OWN_BUFFER
        self._tracked = tuple(tracked_process(model) for model in processes)
        self._tell(self._tracker.handle(now_ns(), TrackedChanged(self._tracked)))
        if not self._tracked:
            self.close()
            return
        if self.events is None:
            self._listen()
        self._relist()

    def _listen(self) -> None:
        """First the events, then the list: what happens in between is in both."""
        try:
            self.events = ProcessEvents(self._buffer)
        except NoEvents as error:
            self._log.warning(f"{error}; tracked processes are looked for every {POLL_NS // NS_PER_MS} ms")
            return
        self._pump.add_reader(self.events, self._on_events)

    def repeat(self) -> None:
        """Report everything again (a new vrrp process knows nothing)."""
        self._tell(self._tracker.current())

    def running(self) -> dict[str, int]:
        """How many processes of each there are."""
        return {report.name: report.running for report in self._tracker.current()}

    def snapshot(self) -> object:
        """For status and dumps."""
        return {"events": self.events is not None, "overruns": self.overruns, "processes": self._tracker.snapshot()}

    def close(self) -> None:
        """Stop watching."""
        for token in (self._list_token, self._due_token):
            if token is not None:
                self._timers.cancel(token)
        self._list_token = self._due_token = self._due_ns = None
        if self.events is not None:
            self._pump.remove_reader(self.events)
            self.events.close()
            self.events = None

    def _relist(self) -> None:
        if self._list_token is not None:
            self._timers.cancel(self._list_token)
        self._list_token = self._timers.call_at(now_ns() + (POLL_NS if self.events is None else RELIST_NS), self._on_list_due)
        listed = list_processes(self._tracker.needs_command_line)
        self._tell(self._tracker.handle(now_ns(), ProcessesListed(listed)))

    def _on_list_due(self) -> None:
        self._list_token = None
        self._relist()

    def _on_events(self) -> None:
        assert self.events is not None
        for _ in range(MAX_BATCHES):
            try:
                events, emptied = self.events.drain()
            except OSError as error:
                self._lost = True
                if error.errno == errno.ENOBUFS:
                    self.overruns += 1
                    continue
                self._log.error(f"the proc connector failed ({error.strerror}); looking at /proc instead")
                self._pump.remove_reader(self.events)
                self.events.close()
                self.events = None
                break
            if not self._lost:
                for event in events:
                    self._on_event(event)
            if emptied:
                break
        else:
            return  # the next turn goes on
        if self._lost:
            # Only now: until the queue was empty the kernel drops events without another error.
            self._lost = False
            self._relist()

    def _on_event(self, event: KernelEvent) -> None:
        match event:
            case Forked(parent, child):
                self._tell(self._tracker.handle(now_ns(), ProcessForked(parent, child)))
            case Exited(pid):
                self._tell(self._tracker.handle(now_ns(), ProcessEnded(pid)))
            case Executed(pid) | Renamed(pid):
                seen = look_at(pid, self._tracker.needs_command_line)
                # Gone already: whatever it was, it is not there now.
                self._tell(self._tracker.handle(now_ns(), ProcessEnded(pid) if seen is None else seen))

    def _tell(self, reports: list[ReportProcess]) -> None:
        for report in reports:
            self._report(report.name, report.up, report.running)
        due_ns = self._tracker.next_deadline()
        if due_ns == self._due_ns:
            return
        if self._due_token is not None:
            self._timers.cancel(self._due_token)
        self._due_ns = due_ns
        self._due_token = None if due_ns is None else self._timers.call_at(due_ns, self._on_due)

    def _on_due(self) -> None:
        self._due_token = self._due_ns = None
        self._tell(self._tracker.on_deadline(now_ns()))
