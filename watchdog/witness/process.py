"""The witness process: ``python -m watchdog.witness.process``, a child of braind: nothing that is slow or heavy runs in the watcher.

From the parent, one JSON object a line:

- ``{"op":"configure","settings":{…WitnessSettings},"cluster","node","nodes":[…],"first":bool,"key_file","incarnation"}``: first
- ``{"op":"request","request":n,"lease_ms":m}``: take the turn, or renew it
- ``{"op":"release","request":n}``: give it back

To the parent:

- ``{"changed":{"up","took_ms","holder","detail"}}``: after every poll
- ``{"granted":{"request","until_ns"}}``, ``{"refused":{"request","holder","detail"}}``, ``{"lost":{"request","detail"}}``

A turn is renewed only when asked for: a parent that hangs lets it run out. One that ends closes the socket; the turn then runs out too, for
what was ordered under it may still take effect.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from typing import Any

from base.channel import JsonObject, LineDecoder, ProtocolError, encode_line
from base.clock import now_ns
from base.core import NS_PER_MS
from base.secrets import SecretError, read_secret_file, resolve_secret
from base.supervise import child_socket, die_with_parent
from watchdog.witness.disk import DiskFile, DiskWitness
from watchdog.witness.engine import Engine, TurnLostError, TurnTakenError, WitnessSilentError
from watchdog.witness.etcd import EtcdWitness
from watchdog.witness.etcd_client import EtcdClient, EtcdLogin, tls_context
from watchdog.witness.lease.slots import SlotCodec

UNWRITTEN = 1 << 63
"""The incarnation of one who only looks: above every one that ever writes."""
REOPEN_S = 1.0
"""Pause before an engine that could not be made (a file that is missing) is tried again."""


def open_engine(message: JsonObject, *, watching: bool = False) -> Engine:
    """The engine that a ``configure`` message names; raises WitnessSilentError. ``watching``: it will only look."""
    settings: dict[str, Any] = message["settings"]
    cluster, node = message["cluster"], message["node"]
    try:
        if settings["kind"] == "disk":
            nodes = tuple(sorted(message["nodes"]))
            codec = SlotCodec(read_secret_file(message["key_file"]).strip(), cluster, (nodes[0], nodes[1]))
            disk = DiskFile(settings["device"])
            incarnation = UNWRITTEN if watching else message["incarnation"]
            return DiskWitness(
                disk, codec, (nodes[0], nodes[1]), node, first=message["first"], incarnation=incarnation, clock_ns=now_ns, watching=watching
            )
        login = EtcdLogin(settings["user"], resolve_secret(settings["password_secret"])) if settings["user"] else None
    except SecretError as error:
        raise WitnessSilentError(str(error)) from None
    encrypted = settings["endpoints"][0].startswith("https:")
    tls = tls_context(settings["ca_file"], settings["certificate_file"], settings["private_key_file"]) if encrypted else None
    return EtcdWitness(EtcdClient(settings["endpoints"], tls, login), cluster, node, now_ns)


class WitnessProcess:
    """Serves one parent."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decoder = LineDecoder()
        self._engine: Engine | None = None
        self._why = "not configured yet"
        self._orders: asyncio.Queue[JsonObject] = asyncio.Queue()
        self._configured: asyncio.Queue[JsonObject] = asyncio.Queue()
        self._poll_s = 1.0

    async def serve(self) -> None:
        """Until the parent closes the socket."""
        work = [asyncio.create_task(part) for part in (self._poll(), self._obey())]
        reading = asyncio.create_task(self._read())
        done, _ = await asyncio.wait([reading, *work], return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, *work):
            task.cancel()
        for task in done:
            try:
                task.result()  # a fault of ours ends the process: the parent says so and starts it again
            except (BrokenPipeError, ConnectionResetError):
                return  # the parent is gone

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._sock, 65_536):
            try:
                messages = self._decoder.feed(data)
            except ProtocolError:
                return
            for message in messages:
                if message.get("op") == "configure":
                    self._poll_s = message["settings"]["poll_ms"] / 1_000
                    await self._configured.put(message)
                else:
                    await self._orders.put(message)

    async def _send(self, message: JsonObject) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, encode_line(message))

    async def _poll(self) -> None:
        message = await self._configured.get()
        while self._engine is None:
            try:
                self._engine = open_engine(message)
            except WitnessSilentError as error:
                self._why = str(error)
                await self._send({"changed": {"up": False, "took_ms": 0, "holder": "", "detail": self._why}})
                await asyncio.sleep(REOPEN_S)
        gc.collect()
        gc.freeze()
        while True:
            start_ns = now_ns()
            changed: JsonObject = {"up": True, "took_ms": 0, "holder": "", "detail": ""}
            try:
                changed["holder"] = await self._engine.look()
            except WitnessSilentError as error:
                changed["up"], changed["detail"] = False, str(error)
            took_ms = changed["took_ms"] = (now_ns() - start_ns) // NS_PER_MS
            await self._send({"changed": changed})
            await asyncio.sleep(max(0.02, self._poll_s - took_ms / 1_000))

    async def _obey(self) -> None:
        while True:
            order = await self._orders.get()
            request = order["request"]
            if self._engine is None:
                if order["op"] == "request":
                    await self._send({"refused": {"request": request, "holder": "", "detail": self._why}})
            elif order["op"] == "request":
                await self._send(await self._take(self._engine, request, order["lease_ms"]))
            else:
                try:
                    await self._engine.give_back(request)
                except WitnessSilentError:
                    pass  # it runs out by itself

    @staticmethod
    async def _take(engine: Engine, request: int, lease_ms: int) -> JsonObject:
        try:
            return {"granted": {"request": request, "until_ns": await engine.take(request, lease_ms)}}
        except TurnTakenError as error:
            return {"refused": {"request": request, "holder": error.holder, "detail": str(error)}}
        except TurnLostError as error:
            return {"lost": {"request": request, "detail": str(error)}}
        except WitnessSilentError as error:
            return {"refused": {"request": request, "holder": "", "detail": str(error)}}


def main() -> int:
    """Entry point of the process."""
    die_with_parent(os.getppid())
    asyncio.run(WitnessProcess(child_socket()).serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
