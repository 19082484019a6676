"""Following a fence that braind was ordered to do, until it is known what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from base.control import ControlClient

FOLLOW_S = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended, in the words of docs/FENCING.md; ``state`` is "" when braind does not tell."""

    order_id: str
    state: str
    level: int
    detail: str

    @property
    def proved(self) -> bool:
        """The only end on which anybody may take over."""
        return self.state == "proved"


def follow_fence(client: ControlClient, answer: dict[str, Any], say: Callable[[str], None], *, power_on: bool = False) -> Outcome:
    """Ask braind again and again; ``say`` hears each new step. ``answer``: braind's to the order. Raises OSError and RequestError."""
    order_id, said = answer["order_id"], ""
    fence = _of(answer["status"], power_on)
    while (running := fence["running"]) is not None and running["order_id"] == order_id:
        now = f"level {running['level']}: {running['phase']}, {running['state']} {running['detail']}".rstrip()
        if now != said:
            say(now)
        said = now
        time.sleep(FOLLOW_S)
        fence = _of(client.call("status")["status"], power_on)
    last = fence["last"] or {}
    if last.get("order_id") != order_id:
        return Outcome(order_id, "", 0, "braind does not tell its outcome")
    return Outcome(order_id, last["state"], last["level"], last["detail"])


def _of(status: dict[str, Any], power_on: bool) -> dict[str, Any]:
    """The part of status that tells the order. A braind that was restarted meanwhile knows nothing of it."""
    fence: dict[str, Any] = status.get("fence") or {"running": None, "last": None}
    if power_on:
        fence = fence.get("power_on") or {"running": None, "last": None}
    return fence
