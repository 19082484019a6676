"""The watcher's end of the witness process: started and supervised, fed with commands, its lines turned into events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from base.channel import JsonObject
from base.core import JsonValue
from base.log import Log
from base.pump import Pump
from base.supervise import Child
from watchdog.config.model import BrainSettings, WitnessKind
from watchdog.judgement.commands import ReleaseLease, RequestLease
from watchdog.judgement.events import LeaseGranted, LeaseLost, LeaseRefused, WatcherEvent, WitnessChanged

_PYTHONPATH = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
_RESTARTS_BITS = 16


def configure_message(brain: BrainSettings, incarnation: int) -> JsonObject:
    """What the process is told first (process.py)."""
    witness = brain.witness
    assert witness is not None
    settings = asdict(witness)
    settings["kind"] = witness.kind.value
    settings["device"] = witness.device.of(brain.self_name) if witness.kind is WitnessKind.DISK else ""
    return {
        "op": "configure",
        "settings": settings,
        "cluster": brain.cluster,
        "node": brain.self_name,
        "nodes": [node.name for node in brain.nodes],
        "first": brain.me.rank < brain.peer.rank,
        "key_file": brain.key_file,
        "incarnation": incarnation,
    }


class WitnessChild:
    """A part of the daemon; does nothing when no witness is configured."""

    def __init__(self, pump: Pump, brain: BrainSettings, feed: Callable[[WatcherEvent], None], log: Log) -> None:
        self._brain, self._feed, self._log = brain, feed, log
        self._incarnation = 0
        self._asked: int | None = None
        self._child: Child | None = None
        if brain.witness is not None:
            self._child = Child(
                pump,
                "witness",
                [sys.executable, "-m", "watchdog.witness.process"],
                self._received,
                on_up=self._up,
                on_down=self._down,
                env=_PYTHONPATH,
            )

    def start(self, incarnation: int) -> None:
        """``incarnation``: of this run of the daemon, durable."""
        self._incarnation = incarnation
        if self._child is not None:
            self._child.start()

    def request(self, command: RequestLease) -> None:
        """Ask for the turn; without the process the answer is no."""
        self._asked = command.request
        message: JsonObject = {"op": "request", "request": command.request, "lease_ms": command.lease_ms}
        if self._child is None or not self._child.send(message):
            self._feed(LeaseRefused(command.request, "", "the witness process is not running"))

    def release(self, command: ReleaseLease) -> None:
        """Give it back; a process that is gone lets it run out."""
        if self._child is not None:
            self._child.send({"op": "release", "request": command.request})

    def next_deadline(self) -> int | None:
        """When a restart is due."""
        return None if self._child is None else self._child.next_deadline()

    def on_deadline(self, at_ns: int) -> None:
        """Restart what is due."""
        if self._child is not None:
            self._child.on_deadline(at_ns)

    def stop(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.stop()

    def snapshot(self) -> JsonValue:
        """Process id and restarts; None without a witness."""
        return None if self._child is None else {"pid": self._child.pid, "restarts": self._child.restarts}

    def _up(self) -> None:
        assert self._child is not None
        # Rises with every process that may write, also when only this child is started again: a disk's slots are ordered by it.
        number = (self._incarnation << _RESTARTS_BITS) + min(self._child.restarts, (1 << _RESTARTS_BITS) - 1)
        self._child.send(configure_message(self._brain, number))

    def _down(self, reason: str) -> None:
        self._log.error(f"the witness process is down: {reason}")
        self._feed(WitnessChanged(False, detail=f"the witness process is down: {reason}"))
        if self._asked is not None:
            self._feed(LeaseRefused(self._asked, "", "the witness process is down"))

    def _received(self, message: JsonObject) -> None:
        (kind, fields) = next(iter(message.items()))
        match kind:
            case "changed":
                self._feed(WitnessChanged(fields["up"], fields["took_ms"], fields["holder"], fields["detail"]))
            case "granted":
                self._feed(LeaseGranted(fields["request"], fields["until_ns"]))
            case "refused":
                self._feed(LeaseRefused(fields["request"], fields["holder"], fields["detail"]))
            case "lost":
                self._feed(LeaseLost(fields["request"], fields["detail"]))
