"""The peer as the local braind hears it while ``brainctl fence check --really`` switches it off and on: a wrong outlet is found by it.

The trial is planned work: braind is put into maintenance for its time, so that it neither fences nor pages, and out of it afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from base.control import ControlClient, RequestError

POLL_S = 0.2


class Braind:
    """One connection to the local braind for the time of a trial; see ``fencing.check.PeerObserver``. Raises OSError, RequestError,
    and ValueError while braind is only starting."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = self._client.call("status")["status"]
        if not status.get("started"):
            raise ValueError("braind has not finished starting; try again in a moment")
        return status

    def peer(self) -> str:
        """Name of the node that braind watches."""
        name: str = self._status()["peer"]["name"]
        return name

    def heard_on(self) -> frozenset[str]:
        """The paths on which the peer is heard now."""
        return frozenset(self._status()["peer"]["heard_on"])

    def wait_for_silence(self, before: frozenset[str], seconds: float) -> frozenset[str]:
        """Of the paths in ``before``, those that still hear the peer after so long; comes back as soon as there is none."""
        end = time.monotonic() + seconds
        while (still := self.heard_on() & before) and time.monotonic() < end:
            time.sleep(POLL_S)
        return still


@contextmanager
def observed(socket_path: str, target: str, minutes: int) -> Iterator[Braind]:
    """braind, in maintenance until the block ends. Raises OSError when it does not answer, RequestError when it refuses, ValueError when
    it watches another node."""
    with ControlClient(socket_path) as client:
        braind = Braind(client)
        if braind.peer() != target:
            raise ValueError(f"this node's braind watches {braind.peer()}, not {target}: run the trial on the other node")
        client.call("operate", action="maintenance_on", until_ms=minutes * 60_000, note="fence check --really")
        try:
            yield braind
        finally:
            try:
                client.call("operate", action="maintenance_off", note="fence check --really is over")
            except (OSError, RequestError):
                pass  # it ends by its own time
