"""braind as of the release before: it sends and understands heartbeat frames of version 1 only.

A stand-in for the first half of a rolling upgrade: the core of this release, between ears and a mouth for the older frames.
Run as ``python -m brainctl.demo.older [braind's options]``.
"""

from __future__ import annotations

import sys

from watchdog import daemon
from watchdog.config.model import PathKind
from watchdog.frames.cobs import DELIMITER, unstuff
from watchdog.frames.heartbeat import OLDEST_VERSION
from watchdog.judgement.commands import SendFrame, WatcherCommand
from watchdog.judgement.events import BytesReceived, WatcherEvent
from watchdog.judgement.watcher import WatcherCore

_DATAGRAM_VERSION_AT = 2
"""Behind the two bytes of the magic (watchdog/frames/codec.py)."""


class OlderRelease(WatcherCore):
    """Newer frames are as good as none."""

    def handle(self, now_ns: int, event: WatcherEvent) -> list[WatcherCommand]:
        """Deaf to them."""
        if isinstance(event, BytesReceived) and not self._is_old(event.path, event.data):
            return self._old_frames(super().on_deadline(now_ns))
        return self._old_frames(super().handle(now_ns, event))

    def on_deadline(self, now_ns: int) -> list[WatcherCommand]:
        """Sends none of them."""
        return self._old_frames(super().on_deadline(now_ns))

    def _old_frames(self, commands: list[WatcherCommand]) -> list[WatcherCommand]:
        return [command for command in commands if not isinstance(command, SendFrame) or self._is_old(command.path, command.data)]

    def _is_old(self, path: str, data: bytes) -> bool:
        kinds = {settings.name: settings.kind for settings in self.settings.paths}
        if kinds.get(path) is PathKind.SERIAL:
            frame = unstuff(data.removesuffix(DELIMITER))
            return frame is not None and frame[:1] != b"" and frame[0] >> 4 == OLDEST_VERSION
        return data[_DATAGRAM_VERSION_AT : _DATAGRAM_VERSION_AT + 1] == bytes((OLDEST_VERSION,))


if __name__ == "__main__":
    sys.exit(daemon.main(core_factory=OlderRelease))
