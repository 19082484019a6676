"""Runs in the guest as a program: arms softdog by our class and plays one fault (arguments: fault, file for its notes)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from watchdog.hardware_watchdog import HardwareWatchdog

TIMEOUT_S = 2


def device() -> str:
    """softdog's node: Debian's UML kernel has a driver of its own on /dev/watchdog."""
    before = set(os.listdir("/dev"))
    subprocess.run(["modprobe", "softdog", "nowayout=0"], check=True)
    new = [name for name in set(os.listdir("/dev")) - before if name.startswith("watchdog") and name != "watchdog"]
    return f"/dev/{new[0]}" if new else "/dev/watchdog"


def main() -> None:
    fault, path = sys.argv[1], sys.argv[2]
    watchdog = HardwareWatchdog(device(), TIMEOUT_S)

    def note(text: str) -> None:
        with open(path, "a", encoding="utf-8") as f:
            f.write(f"{time.monotonic():.2f} {text}\n")
            f.flush()
            os.fsync(f.fileno())

    note(f"armed {watchdog.driver.identity} {watchdog.driver.timeout_s}")
    for _ in range(8):
        watchdog.feed()
        time.sleep(0.5)
    note("fed")
    if fault == "disarm":
        watchdog.disarm()
    elif fault == "stop":
        # The feeder itself is frozen, by a child that goes on telling the time.
        parent = os.getpid()
        if os.fork() == 0:
            os.kill(parent, signal.SIGSTOP)
            for _ in range(24):
                note("alive")
                time.sleep(0.25)
            os._exit(0)
    for _ in range(24):
        note("alive")
        time.sleep(0.25)


if __name__ == "__main__":
    main()
