"""The fence runner: a process of its own that is armed before it is needed (``python -m fencing.runner``).

The main thread only reads orders and writes reports; every device has one worker thread, so that a device that hangs
delays nobody else and never gets two orders at once. Everything slow is done when armed: imports, secrets, name
look-ups, agents' metadata, keys; memory is locked.

An order is refused as STALE_ORDER when it is too old at the device command, and also when this process was stalled
after the order was issued: whatever was true at the second look is then old news. An order that was seen before is
never run again.
"""

from __future__ import annotations

import ctypes
import gc
import os
import queue
import socket
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable

from base.channel import Channel, JsonObject
from base.clock import now_ns
from base.core import NS_PER_MS
from base.log import Log, stderr_log
from base.pump import Pump
from base.secrets import SecretError
from base.supervise import child_socket, die_with_parent
from fencing.devices.build import build_device
from fencing.devices.child import become_reaper
from fencing.devices.device import Device, DeviceConfigError, DeviceResult
from fencing.devices.parameters import validate_device
from fencing.orders import Order, OrderError, Report, devices_from_message
from fencing.plan.events import DeviceOutcome
from fencing.plan.settings import FenceDevice

STALL_NS = 500 * NS_PER_MS
_MAX_QUEUED_ORDERS = 8
_REMEMBERED_ORDERS = 1_024
_MCL_CURRENT_FUTURE_ONFAULT = 7
"""Without ONFAULT the whole stack of every new thread would be read in."""


class Worker:
    """One device and the thread that runs its orders, one at a time."""

    def __init__(self, device: Device, report: Callable[[Report], None], stalled_until_ns: Callable[[], int]) -> None:
        self.device = device
        self._report = report
        self._stalled_until_ns = stalled_until_ns
        self._orders: queue.Queue[Order | None] = queue.Queue(_MAX_QUEUED_ORDERS)
        self._thread = threading.Thread(target=self._work, name=f"fence {device.settings.name}", daemon=True)
        self._thread.start()

    def submit(self, order: Order) -> bool:
        """Queue an order; False if too many wait already."""
        try:
            self._orders.put_nowait(order)
        except queue.Full:
            return False
        return True

    def stop(self) -> None:
        """End after the orders that wait (they are refused by age)."""
        try:
            self._orders.put_nowait(None)
        except queue.Full:
            pass

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            self._report(Report.of(order, self._run(order)))

    def _run(self, order: Order) -> DeviceResult:
        if order.action != "status" and self._stalled_until_ns() >= order.issued_ns:
            return DeviceResult(DeviceOutcome.STALE_ORDER, detail="the fence runner itself was stalled after this order was issued")
        deadline_ns = now_ns() + self.device.settings.deadline_ms * NS_PER_MS
        try:
            return self.device.perform(order.action, deadline_ns, order.valid_until_ns)
        except Exception as error:  # noqa: BLE001 (a fault of ours must not end the thread; the act's state is then unknown)
            return DeviceResult(DeviceOutcome.CRASHED, detail=f"{type(error).__name__} in the device code")


class Runner:
    """The process behind a socket to its owner. ``serve`` returns when the owner closes it."""

    def __init__(self, sock: socket.socket, log: Log) -> None:
        self._log = log
        self._workers: dict[str, Worker] = {}
        self._seen: OrderedDict[tuple[str, int, str, str, int], None] = OrderedDict()
        self._stalled_until_ns = 0
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        self._pump = Pump(next_deadline=lambda: None, on_deadline=lambda _now: None, on_stall=self._stalled, stall_ns=STALL_NS)
        self._channel = Channel(self._pump, sock, self._received, self._closed)
        self._pump.add_reader(self._wake_read, self._send_reports)

    def serve(self) -> None:
        """Run until the owner is gone."""
        if not self._channel.closed:
            self._pump.run()

    def _stalled(self, at_ns: int, stalled_ns: int) -> None:
        self._stalled_until_ns = at_ns
        self._log.warning("the fence runner was stalled", stalled_ms=stalled_ns // NS_PER_MS)

    def _closed(self, _reason: str) -> None:
        for worker in self._workers.values():
            worker.stop()
        self._pump.stop()

    def _received(self, message: JsonObject) -> None:
        try:
            match message.get("op"):
                case "arm":
                    self._arm(devices_from_message(message))
                case "run":
                    self._take(Order.from_json(message))
                case other:
                    raise OrderError(f"op {other!r} is unknown")
        except OrderError as error:
            self._channel.send({"op": "refused", "detail": str(error)})

    def _arm(self, settings: list[FenceDevice]) -> None:
        for worker in self._workers.values():
            worker.stop()
        self._workers = {}
        answers = []
        for entry in settings:
            error = self._arm_one(entry)
            answers.append({"name": entry.name, "error": error})
        gc.collect()
        gc.freeze()
        # Arming may take seconds; orders that were issued meanwhile are judged by their own age.
        self._channel.send({"op": "armed", "devices": answers, "locked": lock_memory()})

    def _arm_one(self, settings: FenceDevice) -> str:
        problems = validate_device(settings)
        if problems:
            return "; ".join(problems)
        try:
            device = build_device(settings)
        except (DeviceConfigError, SecretError) as error:
            return str(error)
        self._workers[settings.name] = Worker(device, self._from_worker, lambda: self._stalled_until_ns)
        return ""

    def _take(self, order: Order) -> None:
        refusal = self._refusal(order)
        if refusal is not None:
            self._channel.send(Report.of(order, refusal).to_json())

    def _refusal(self, order: Order) -> DeviceResult | None:
        """Hand the order to its worker, or say why not."""
        key = (order.order_id, order.level, order.device, order.action, order.attempt)
        worker = self._workers.get(order.device)
        if key in self._seen:
            return DeviceResult(DeviceOutcome.STALE_ORDER, detail="this order was given before; it is not repeated")
        self._seen[key] = None
        while len(self._seen) > _REMEMBERED_ORDERS:
            self._seen.popitem(last=False)
        if order.action not in ("off", "on", "status"):
            return DeviceResult(DeviceOutcome.UNKNOWN_TARGET, detail=f"action {order.action!r} is unknown; nothing was done")
        if worker is None:
            return DeviceResult(DeviceOutcome.UNREACHABLE, detail=f"device {order.device!r} is not armed; nothing was done")
        if worker.device.settings.target != order.target:
            return DeviceResult(
                DeviceOutcome.UNKNOWN_TARGET, detail=f"{order.device} fences {worker.device.settings.target}, not {order.target}"
            )
        if not worker.submit(order):
            return DeviceResult(DeviceOutcome.STALE_ORDER, detail="too many orders wait for this device; nothing was done")
        return None

    def _from_worker(self, report: Report) -> None:
        """Called in a worker's thread."""
        self._reports.put(report)
        try:
            self._wake_write.send(b".")
        except BlockingIOError:
            pass  # the pipe is full of wake-ups already
        except OSError:
            pass  # the process is ending

    def _send_reports(self) -> None:
        try:
            self._wake_read.recv(4096)
        except BlockingIOError:
            pass
        while not self._reports.empty():
            self._channel.send(self._reports.get_nowait().to_json())


def lock_memory() -> bool:
    """Keep every page in memory, so that fencing waits for no disk. False if not permitted."""
    return bool(ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT_FUTURE_ONFAULT) == 0)


def main() -> int:
    """Entry point of the process."""
    die_with_parent(os.getppid())
    become_reaper()
    Runner(child_socket(), stderr_log("fence-runner")).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
