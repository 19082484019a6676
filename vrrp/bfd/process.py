"""The BFD process: ``python -m vrrp.bfd.process``, a child of vrrpd, one line of JSON per message over the inherited socket.

From the parent:  {"op": "configure", "sessions": [see vrrp.bfd.settings.to_json], "scheduling": …}
                  {"op": "status"}
                  {"op": "stop"}
To the parent:    {"op": "bfd", "name", "up", "state", "diagnostic", "reason"}   at each change; all of them after each configure
                  {"op": "ready"}                                                 after that
                  {"op": "status", "sessions": […]}
                  {"op": "fatal", "reason"}, {"op": "stopped"}

It touches no disk and waits for nobody: sessions of 10 ms intervals live in it.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
from collections import Counter
from dataclasses import dataclass, field

from base.channel import Channel, JsonObject
from base.clock import now_ns
from base.core import NS_PER_MS, NS_PER_S
from base.log import Log, child_log
from base.pump import Pump
from base.signals import run_child
from base.supervise import child_socket, die_with_parent
from vrrp.bfd.packet import DecodeError, RejectReason, SessionState, decode, encode
from vrrp.bfd.session import (
    AdministrativelyDisabled,
    BfdSession,
    PacketReceived,
    ReportState,
    SendPacket,
    SessionCommand,
    SessionEvent,
    SettingsChanged,
    Started,
)
from vrrp.bfd.settings import Peering, from_json
from vrrp.bfd.sockets import Datagram, ReceiveSocket, SendSocket
from vrrp.system.privileges import CAP_NET_ADMIN, CAP_NET_RAW, keep_only, schedule
from vrrp.system.process_name import set_name

REOPEN_NS = NS_PER_S
"""How often a sending socket that could not be opened is tried again."""


@dataclass(slots=True)
class Endpoint:
    """One session with its addresses and its socket."""

    peering: Peering
    session: BfdSession
    sender: SendSocket | None = None
    open_due_ns: int | None = 0
    reason: str = "not started yet"
    up: bool = False
    rejected: Counter[RejectReason] = field(default_factory=Counter)
    send_errors: Counter[int] = field(default_factory=Counter)

    def follow(self, reason: str) -> None:
        """The session changed its state. A neighbor that its administrator switched off says nothing about the path: what was up stays up
        (RFC 5882 section 3.2; keepalived does the same), until a session comes up and fails in another way."""
        self.reason = reason
        if self.session.state is SessionState.UP:
            self.up = True
        elif self.session.state is SessionState.DOWN and self.session.remote_state is not SessionState.ADMIN_DOWN:
            self.up = False


class BfdProcess:
    """The shell; see the module docstring."""

    def __init__(self, parent: socket.socket, log: Log) -> None:
        self.log = log
        self.pump = Pump(next_deadline=self.next_deadline, on_deadline=self.on_deadline, on_stall=self.on_stall)
        self.channel = Channel(self.pump, parent, self.on_parent, self.on_parent_gone)
        self.endpoints: dict[str, Endpoint] = {}
        self.strangers: Counter[RejectReason] = Counter()
        self.stalls = 0
        self._receivers: dict[tuple[int, int], ReceiveSocket] = {}
        self._by_discriminator: dict[int, Endpoint] = {}
        self._rng = random.SystemRandom()
        self._confined = False
        self._stopping = False

    # ---- deadlines --------------------------------------------------------------------------------------------------

    def next_deadline(self) -> int | None:
        """The earliest of all sessions."""
        due = [endpoint.session.next_deadline() for endpoint in self.endpoints.values()]
        due += [endpoint.open_due_ns for endpoint in self.endpoints.values()]
        return min((d for d in due if d is not None), default=None)

    def on_deadline(self, at_ns: int) -> None:
        """Whatever arrived was read before this: a late process does not take its own lateness for the neighbor's silence."""
        for endpoint in self.endpoints.values():
            if endpoint.open_due_ns is not None and endpoint.open_due_ns <= at_ns:
                self._open(at_ns, endpoint)
            due_ns = endpoint.session.next_deadline()
            if due_ns is not None and due_ns <= at_ns:
                self._execute(endpoint, endpoint.session.on_deadline(at_ns))

    def on_stall(self, _at_ns: int, stalled_ns: int) -> None:
        """Told, because neighbors with a shorter detection time have declared us down meanwhile."""
        self.stalls += 1
        self.log.limited("stall", f"this process stood still for {stalled_ns // NS_PER_MS} ms")

    def _open(self, at_ns: int, endpoint: Endpoint) -> None:
        try:
            endpoint.sender = SendSocket(endpoint.peering)
        except OSError as error:
            endpoint.open_due_ns = at_ns + REOPEN_NS
            endpoint.reason = f"cannot send from {endpoint.peering.source or 'this host'}: {error.strerror}"
            self.log.limited(f"open {endpoint.peering.name}", f"({endpoint.peering.name}) {endpoint.reason}")
            return
        endpoint.open_due_ns = None
        self.feed(at_ns, endpoint, Started())

    # ---- the cores --------------------------------------------------------------------------------------------------

    def feed(self, at_ns: int, endpoint: Endpoint, event: SessionEvent) -> None:
        """One event in, its commands out."""
        self._execute(endpoint, endpoint.session.handle(at_ns, event))

    def _execute(self, endpoint: Endpoint, commands: list[SessionCommand]) -> None:
        for command in commands:
            match command:
                case SendPacket(packet):
                    code = endpoint.sender.send(encode(packet)) if endpoint.sender is not None else 0
                    if code:
                        endpoint.send_errors[code] += 1
                        name = endpoint.peering.name
                        self.log.limited(f"send {name} {code}", f"({name}) BFD packet not sent: {os.strerror(code)}")
                case ReportState(state, diagnostic, reason):
                    endpoint.follow(reason)
                    if state is not SessionState.INIT:
                        self.log.info(f"BFD ({endpoint.peering.name}) entering {state.name}: {reason}", diagnostic=diagnostic.name)
                    self._report(endpoint)

    def _report(self, endpoint: Endpoint) -> None:
        session = endpoint.session
        self.channel.send(
            {
                "op": "bfd",
                "name": endpoint.peering.name,
                "up": endpoint.up,
                "state": session.state.name,
                "diagnostic": session.diagnostic.name,
                "reason": endpoint.reason,
                "at_ns": now_ns(),
            }
        )

    # ---- packets ----------------------------------------------------------------------------------------------------

    def on_packets(self, receiver: ReceiveSocket) -> None:
        """Drain one receiving socket."""
        for datagram in receiver.drain():
            endpoint = None
            try:
                packet = decode(datagram.data)
                endpoint = self._endpoint_of(datagram, packet.your_discriminator, receiver.port)
                least = endpoint.peering.min_hop_limit
                if datagram.hop_limit < least:
                    raise DecodeError(RejectReason.HOP_LIMIT, f"{datagram.hop_limit} from {datagram.source}, at least {least} is wanted")
            except DecodeError as error:
                self._rejected(endpoint, datagram, error)
                continue
            self.feed(now_ns(), endpoint, PacketReceived(packet))

    def _endpoint_of(self, datagram: Datagram, discriminator: int, port: int) -> Endpoint:
        """By discriminator if there is one, by addresses otherwise; the sender must be the configured neighbor in both cases."""
        if discriminator:
            endpoint = self._by_discriminator.get(discriminator)
            if endpoint is None:
                raise DecodeError(RejectReason.UNKNOWN_DISCRIMINATOR, f"{discriminator} from {datagram.source}")
            if _belongs(endpoint.peering, datagram, port):
                return endpoint
        for endpoint in self.endpoints.values():
            if not discriminator and _belongs(endpoint.peering, datagram, port):
                return endpoint
        raise DecodeError(RejectReason.UNKNOWN_NEIGHBOR, f"{datagram.source} to {datagram.destination}")

    def _rejected(self, endpoint: Endpoint | None, datagram: Datagram, error: DecodeError) -> None:
        counter, name = (self.strangers, str(datagram.source)) if endpoint is None else (endpoint.rejected, endpoint.peering.name)
        counter[error.reason] += 1
        # One key for all strangers: a forger with many addresses gets no more lines than one.
        key = "stranger" if endpoint is None else name
        self.log.limited(f"reject {key} {error.reason.value}", f"({name}) BFD packet rejected: {error}; {error.reason.remedy}")

    # ---- configuration ----------------------------------------------------------------------------------------------

    def configure(self, peerings: list[Peering], scheduling: JsonObject) -> None:
        """First configuration or reload: sessions whose addresses stay keep their state. Raises OSError (nothing can be heard)."""
        wanted = {peering.name: peering for peering in peerings}
        self._listen({(peering.neighbor.version, peering.port) for peering in peerings})
        at_ns = now_ns()
        for name, endpoint in list(self.endpoints.items()):
            if name not in wanted or wanted[name].path != endpoint.peering.path:
                self._remove(at_ns, name)
        fresh: dict[str, Endpoint] = {}
        for name, peering in wanted.items():
            endpoint = self.endpoints.get(name) or Endpoint(peering, BfdSession(peering.session, self._discriminator(), self._rng.random))
            endpoint.peering = peering
            self._by_discriminator[endpoint.session.local_discriminator] = endpoint
            fresh[name] = endpoint
        self.endpoints = fresh
        for endpoint in fresh.values():
            self.feed(at_ns, endpoint, SettingsChanged(endpoint.peering.session))
        self._settle(scheduling)
        for endpoint in fresh.values():
            self._report(endpoint)
        self.channel.send({"op": "ready"})

    def _settle(self, scheduling: JsonObject) -> None:
        if name := scheduling.get("name"):
            set_name(name)
        if self._confined:
            return
        self._confined = True
        problems = schedule(
            nice=scheduling.get("nice"),
            rt_priority=scheduling.get("rt_priority", 0),
            cpus=scheduling.get("cpus", ()),
            lock_memory=scheduling.get("no_swap", False),
            rttime_us=scheduling.get("rttime_us", 0),
        )
        for problem in problems:
            self.log.warning(f"scheduling of the BFD process: {problem}")
        keep_only((CAP_NET_ADMIN, CAP_NET_RAW))
        gc.collect()
        gc.freeze()

    def _listen(self, wanted: set[tuple[int, int]]) -> None:
        for key in wanted - self._receivers.keys():
            receiver = self._receivers[key] = ReceiveSocket(*key)
            self.pump.add_reader(receiver, lambda receiver=receiver: self.on_packets(receiver))  # type: ignore[misc]
        for key in self._receivers.keys() - wanted:
            receiver = self._receivers.pop(key)
            self.pump.remove_reader(receiver)
            receiver.close()

    def _discriminator(self) -> int:
        while (number := self._rng.randrange(1, 1 << 32)) in self._by_discriminator:
            pass
        return number

    def _remove(self, at_ns: int, name: str) -> None:
        endpoint = self.endpoints.pop(name)
        del self._by_discriminator[endpoint.session.local_discriminator]
        self._execute(endpoint, [c for c in endpoint.session.handle(at_ns, AdministrativelyDisabled()) if isinstance(c, SendPacket)])
        if endpoint.sender is not None:
            endpoint.sender.close()

    # ---- the parent -------------------------------------------------------------------------------------------------

    def on_parent(self, message: JsonObject) -> None:
        """One message from the parent."""
        match message.get("op"):
            case "configure":
                try:
                    self.configure([from_json(value) for value in message["sessions"]], message.get("scheduling", {}))
                except OSError as error:
                    self.channel.send({"op": "fatal", "reason": str(error.strerror or error)})
                    self.stop()
            case "status":
                self.channel.send({"op": "status", "sessions": [_status(endpoint) for endpoint in self.endpoints.values()], **self._own()})
            case "stop":
                self.stop()

    def _own(self) -> JsonObject:
        return {"stalls": self.stalls, "strangers": {reason.value: count for reason, count in self.strangers.items()}}

    def on_parent_gone(self, _reason: str) -> None:
        """Nobody supervises us any more."""
        self.stop()

    def stop(self) -> None:
        """Tell every neighbor AdminDown (RFC 5880 section 6.8.16), so that none of them takes it for a failure of the path."""
        if self._stopping:
            return
        self._stopping = True
        at_ns = now_ns()
        for name in list(self.endpoints):
            self._remove(at_ns, name)
        self._listen(set())
        self.channel.send({"op": "stopped"})
        self.pump.stop()

    def close(self) -> None:
        """Give the parent's messages a moment to leave."""
        deadline_ns = now_ns() + NS_PER_S
        while self.channel.queued_bytes and not self.channel.closed and now_ns() < deadline_ns:
            self.pump.turn(10 * NS_PER_MS)


def _belongs(peering: Peering, datagram: Datagram, port: int) -> bool:
    return (
        peering.neighbor == datagram.source
        and peering.port == port
        and (peering.source is None or datagram.destination is None or peering.source == datagram.destination)
    )


def _status(endpoint: Endpoint) -> JsonObject:
    snapshot = endpoint.session.snapshot()
    assert isinstance(snapshot, dict)
    return {
        **snapshot,
        "neighbor": str(endpoint.peering.neighbor),
        "source": None if endpoint.peering.source is None else str(endpoint.peering.source),
        "multihop": endpoint.peering.multihop,
        "reason": endpoint.reason,
        "rejected": {reason.value: count for reason, count in endpoint.rejected.items()},
        "send_errors": {os.strerror(code): count for code, count in endpoint.send_errors.items()},
    }


def main() -> int:
    """Entry of the child process."""
    die_with_parent(os.getppid())
    os.set_blocking(2, False)
    process = BfdProcess(child_socket(), child_log("vrrpd-bfd"))
    run_child(process.pump, process.stop)
    process.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
