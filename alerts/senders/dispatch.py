"""From a receiver's type to its sender, with a deadline that holds whatever the sender does."""

from __future__ import annotations

import threading
from collections.abc import Callable

from alerts.routing.settings import Receiver
from alerts.senders import email
from alerts.senders.message import OutgoingAlert, SendResult

DEADLINE_S = 20.0


def send(message: OutgoingAlert, receiver: Receiver, deadline_s: float = DEADLINE_S) -> SendResult:
    """Send one alert to one receiver; never raises. Blocks: call it in a thread of its own."""
    try:
        if receiver.type == "email":
            return email.send(message, receiver, deadline_s)
        if receiver.type in ("webhook", "pagerduty", "apprise"):
            from alerts.senders import apprise_sender

            return apprise_sender.send(message, receiver, deadline_s)
    except Exception as error:  # noqa: BLE001  whatever a plugin raises: the next alert must still go out
        return SendResult(False, True, f"the sender failed: {type(error).__name__}")
    return SendResult(False, False, f"{receiver.type!r} is no type of receiver")


def start(
    message: OutgoingAlert, receiver: Receiver, finished: Callable[[SendResult], None], deadline_s: float = DEADLINE_S
) -> threading.Thread:
    """Send in a thread; ``finished`` is called exactly once, from a thread, at the latest 1 s after the deadline.

    A sender that is still stuck then (a name server, a server that sends a byte a minute) is abandoned; what
    becomes of its message is unknown and it will be repeated with the same id. The returned thread is alive
    as long as the sender is.
    """
    lock = threading.Lock()
    done = False

    def report(result: SendResult) -> None:
        nonlocal done
        with lock:
            if done:
                return
            done = True
        finished(result)

    def work() -> None:
        report(send(message, receiver, deadline_s))
        timer.cancel()

    late = SendResult(False, True, f"no end after {deadline_s:.0f} s; it may or may not have arrived")
    timer = threading.Timer(deadline_s + 1.0, report, [late])
    timer.daemon = True
    thread = threading.Thread(target=work, name=f"send-{receiver.name}", daemon=True)
    timer.start()
    thread.start()
    return thread
