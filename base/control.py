"""Control sockets: AF_UNIX stream, newline JSON, permissions by SO_PEERCRED.

Request ``{"v":1,"id":…,"op":…,…}`` → ``{"id":…,"ok":…}`` or ``{"id":…,"error":{"code","where","remedy"}}``. Root may act, members of group
``brainctl`` may read, nobody else gets in. Clients are bounded in number, and one that does not read is dropped.

Readers take half of the places at most and a few each; who may act (root, braind) finds a place always: if need be, the connection that
was silent for longest goes. One that asks nothing for IDLE_NS and has not subscribed is closed. A socket file that vanished (somebody
cleaned /run) is made again within a second.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from base.channel import Channel, JsonObject, LineDecoder, ProtocolError, encode_line
from base.clock import now_ns
from base.core import NS_PER_S
from base.pump import Pump

PROTOCOL_VERSION = 1
READER_GROUP = "brainctl"
MAX_CLIENTS = 32
MAX_READERS = MAX_CLIENTS // 2
MAX_READERS_OF_A_USER = MAX_READERS // 2
IDLE_NS = 30 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, by SO_PEERCRED."""

    pid: int
    uid: int
    gid: int
    may_act: bool


class RequestError(Exception):
    """A request that is refused: ``code`` for programs, ``where`` and ``remedy`` for the person."""

    def __init__(self, code: str, where: str, remedy: str) -> None:
        super().__init__(f"{code}: {where}; {remedy}")
        self.code, self.where, self.remedy = code, where, remedy

    def to_json(self) -> JsonObject:
        """The error object of an answer."""
        return {"code": self.code, "where": self.where, "remedy": self.remedy}


@dataclass(slots=True)
class Client:
    """One connection; ``push`` sends an unasked line (for ``subscribe``)."""

    peer: Peer
    channel: Channel
    heard_ns: int = 0
    """When it asked something last, or came."""
    subscribed: bool = False
    """It waits for what is pushed: its silence is no idleness."""

    def push(self, message: JsonObject) -> bool:
        """Send a line without an id; False if the client is gone or does not read (it is dropped then)."""
        if self.channel.send(message):
            return True
        self.channel.close("the client does not read")
        return False


Handler = Callable[[Client, JsonObject], Any]
"""Takes a request and returns the value of ``ok``; raises RequestError to refuse."""


class ControlServer:
    """Listens on ``path``; ``handlers`` maps an op to (handler, acts). Ops with ``acts`` need root."""

    def __init__(self, pump: Pump, path: str, handlers: dict[str, tuple[Handler, bool]], *, idle_ns: int = IDLE_NS) -> None:
        self._pump = pump
        self.path = path
        self._handlers = handlers
        self._idle_ns = idle_ns
        self._clients: dict[int, Client] = {}
        self.refused_clients = 0
        self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        _join_readers()
        self._listener = self._listen()
        pump.add_chore(self._tend)

    def _listen(self) -> socket.socket:
        path = self.path
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listener.bind(path)
            gid = _reader_gid()
            if gid is not None and os.geteuid() == 0:
                os.chown(path, 0, gid)
            os.chmod(path, 0o660)
            listener.listen(16)
        except OSError:
            listener.close()
            raise
        self._pump.add_reader(listener, self._accept)
        return listener

    def _tend(self, at_ns: int) -> None:
        """Close who is idle; listen again where the socket file is gone."""
        for client in list(self._clients.values()):
            if not client.subscribed and at_ns - client.heard_ns > self._idle_ns:
                client.channel.close("idle")
        if not os.path.lexists(self.path):
            try:
                fresh = self._listen()
            except OSError:
                return  # no room or no right now: tried again in a second
            self._pump.remove_reader(self._listener)
            self._listener.close()
            self._listener = fresh

    def close(self) -> None:
        """Close every client and remove the socket file."""
        self._pump.remove_chore(self._tend)
        self._pump.remove_reader(self._listener)
        self._listener.close()
        os.close(self._reserve)
        for client in list(self._clients.values()):
            client.channel.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def _accept(self) -> None:
        for _ in range(8):
            try:
                sock, _addr = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away()
                return
            self.admit(sock, _peer_of(sock))

    def _turn_away(self) -> None:
        """No descriptor is left: one is kept in reserve, so that whoever waits is closed and the listener does not stay readable."""
        os.close(self._reserve)
        try:
            sock, _addr = self._listener.accept()
            sock.close()
            self.refused_clients += 1
        except OSError:
            pass
        finally:
            self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def admit(self, sock: socket.socket, peer: Peer | None) -> None:
        """Serve this connection, or close it: nobody that may come in, or no place left for him."""
        if peer is None or not self._has_room(peer):
            self.refused_clients += 1
            sock.close()
        else:
            self._serve(sock, peer)

    def _has_room(self, peer: Peer) -> bool:
        """For who may act room is made."""
        readers = [client for client in self._clients.values() if not client.peer.may_act]
        if not peer.may_act:
            of_user = sum(client.peer.uid == peer.uid for client in readers)
            return len(readers) < MAX_READERS and of_user < MAX_READERS_OF_A_USER and len(self._clients) < MAX_CLIENTS
        if len(self._clients) >= MAX_CLIENTS:
            silent = min(readers or self._clients.values(), key=lambda client: (client.subscribed, client.heard_ns))
            silent.channel.close("its place is needed")
        return len(self._clients) < MAX_CLIENTS

    def _serve(self, sock: socket.socket, peer: Peer) -> None:
        key = sock.fileno()
        channel = Channel(self._pump, sock, lambda request: self._answer(key, request), lambda _why: self._forget(key))
        self._clients[key] = Client(peer, channel, now_ns())

    def _forget(self, key: int) -> None:
        self._clients.pop(key, None)

    def _answer(self, key: int, request: JsonObject) -> None:
        client = self._clients.get(key)
        if client is None:
            return
        client.heard_ns = now_ns()
        answer: JsonObject = {"id": request.get("id")}
        try:
            answer["ok"] = self._dispatch(client, request)
        except RequestError as error:
            answer["error"] = error.to_json()
        try:
            client.push(answer)
        except ProtocolError as error:
            refusal = RequestError("too_large", f"op {request.get('op')}", f"ask for less: {error}")
            client.push({"id": request.get("id"), "error": refusal.to_json()})

    def _dispatch(self, client: Client, request: JsonObject) -> Any:
        if request.get("v") != PROTOCOL_VERSION:
            raise RequestError("version", "field v", f"send v={PROTOCOL_VERSION}")
        op = request.get("op")
        entry = self._handlers.get(op) if isinstance(op, str) else None
        if entry is None:
            raise RequestError("unknown_op", f"op {op!r}", f"one of {', '.join(sorted(self._handlers))}")
        handler, acts = entry
        if acts and not client.peer.may_act:
            raise RequestError("permission", f"op {op}", "run this as root")
        return handler(client, request)


def _join_readers() -> None:
    """A socket that is made again belongs to the readers' group, too; without capabilities only a member of it can see to that."""
    gid = _reader_gid()
    if gid is not None and os.geteuid() == 0:
        with contextlib.suppress(PermissionError):
            os.setgroups(sorted({*os.getgroups(), gid}))


def _reader_gid() -> int | None:
    try:
        return grp.getgrnam(READER_GROUP).gr_gid
    except KeyError:
        return None


def _peer_of(sock: socket.socket) -> Peer | None:
    """The peer, or None if it may not even read."""
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid == 0 or uid == os.geteuid():
        return Peer(pid, uid, gid, True)
    reader = _reader_gid()
    if reader is None:
        return None
    try:
        groups = {gid, *os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)}
    except KeyError:
        groups = {gid}
    return Peer(pid, uid, gid, False) if reader in groups else None


def _remove_stale(path: str) -> None:
    """Remove a socket file nobody listens on; raise FileExistsError if somebody does, or if it is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(f"{path} exists and is not a socket; move it away")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise FileExistsError(f"another daemon listens on {path}; stop it first or use another --run-dir")


class ControlClient:
    """A blocking client for commands; ``timeout_s`` bounds each call."""

    def __init__(self, path: str, timeout_s: float = 5.0) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._sock.settimeout(timeout_s)
        self._sock.connect(path)
        self._decoder = LineDecoder()
        self._next_id = 0
        self._pending: list[JsonObject] = []

    def call(self, op: str, **fields: Any) -> Any:
        """Send a request and return ``ok``; raises RequestError (refused) or OSError (daemon gone, timeout)."""
        self._next_id += 1
        self._sock.sendall(encode_line({"v": PROTOCOL_VERSION, "id": self._next_id, "op": op, **fields}))
        while True:
            message = next((m for m in self._pending if m.get("id") == self._next_id), None)
            if message is None:
                self._receive()
                continue
            self._pending.remove(message)
            if "error" in message:
                error = message["error"]
                raise RequestError(str(error.get("code")), str(error.get("where")), str(error.get("remedy")))
            return message.get("ok")

    def next_push(self) -> JsonObject:
        """The next unasked line; raises TimeoutError."""
        while not self._pending:
            self._receive()
        return self._pending.pop(0)

    def _receive(self) -> None:
        """Wait for at least some bytes; whole lines go to ``_pending`` in order."""
        self._pending += self._decoder.feed(self._read())

    def _read(self) -> bytes:
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionResetError("the daemon closed the control socket")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
