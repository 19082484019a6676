"""The connection to vrrpd.sock: status documents and events, reconnected for as long as this process lives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from base.channel import JsonObject, LineDecoder, ProtocolError, encode_line
from base.control import PROTOCOL_VERSION
from base.log import Log

RECONNECT_S = 0.3
CALL_TIMEOUT_S = 5.0
_READ_BYTES = 65536


class VrrpdGoneError(Exception):
    """The vrrp process cannot be asked now."""


class VrrpdClient:
    """``on_up(status)`` after each (re)connection, ``on_event(line)`` for each event after it, ``on_down()`` when it broke."""

    def __init__(
        self,
        path: str,
        log: Log,
        *,
        on_up: Callable[[JsonObject], None],
        on_event: Callable[[JsonObject], None],
        on_down: Callable[[], None],
    ) -> None:
        self._path = path
        self._log = log
        self._on_up = on_up
        self._on_event = on_event
        self._on_down = on_down
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._too_large = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            self._writer = writer
            try:
                await self._converse(reader)
            except (OSError, ProtocolError, VrrpdGoneError) as error:
                self._log.limited("vrrpd.sock", f"the connection to {self._path} broke: {error}")
            finally:
                self._writer = None
                for future in self._waiting.values():
                    if not future.done():
                        future.set_exception(VrrpdGoneError("the vrrp process went away"))
                        future.exception()  # nobody may be waiting for it any more
                self._waiting.clear()
                writer.close()
                self._on_down()
            await asyncio.sleep(RECONNECT_S)

    async def _converse(self, reader: asyncio.StreamReader) -> None:
        """Subscribe before the status is asked: an event in between is seen twice rather than never."""
        self._too_large = False
        decoder = LineDecoder()
        held: list[JsonObject] = []
        self._send({"op": "subscribe"}, next(self._ids))
        first = next(self._ids)
        self._send({"op": "status"}, first)
        up = False
        while data := await reader.read(_READ_BYTES):
            for message in decoder.feed(data):
                if "event" in message:
                    if up:
                        self._on_event(message)
                    else:
                        held.append(message)
                elif message.get("id") == first and "ok" in message:
                    up = True
                    self._on_up(message["ok"])
                    for event in held:
                        self._on_event(event)
                elif message.get("id") == first and message["error"].get("code") == "too_large":
                    up = self._too_large = True
                    self._log.error(
                        "more virtual routers than a status document can hold: SNMP shows none; changes are told as they happen"
                    )
                    self._on_up({"instances": [], "groups": []})
                    for event in held:
                        self._on_event(event)
                elif "error" in message and message.get("id") not in self._waiting:
                    raise VrrpdGoneError(f"refused: {message['error']}")
                else:
                    self._answered(message)
        if not up:
            raise VrrpdGoneError("closed before it answered")

    def _answered(self, message: JsonObject) -> None:
        future = self._waiting.pop(message.get("id", 0), None)
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(VrrpdGoneError(str(message["error"])))
        else:
            future.set_result(message.get("ok"))

    def _send(self, fields: JsonObject, number: int) -> None:
        if self._writer is None:
            raise VrrpdGoneError("not connected to the vrrp process")
        self._writer.write(encode_line({"v": PROTOCOL_VERSION, "id": number, **fields}))

    async def status(self) -> JsonObject:
        """A fresh status document; raises VrrpdGoneError. One that is too large is not asked for a second time."""
        if self._too_large:
            raise VrrpdGoneError("the status document is too large")
        document: JsonObject = await self.call("status")
        return document

    async def call(self, op: str, **fields: Any) -> Any:
        """One request; raises VrrpdGoneError."""
        number = next(self._ids)
        self._send({"op": op, **fields}, number)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(future, CALL_TIMEOUT_S)
        except TimeoutError:
            raise VrrpdGoneError("no answer from the vrrp process") from None
        finally:
            with contextlib.suppress(KeyError):
                del self._waiting[number]
