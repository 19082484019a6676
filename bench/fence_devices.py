"""``--only fence``: one BMC (OpenIPMI's ipmi_sim), fenced by our device and by Debian's fence_ipmilan, interleaved.

Faults: ok, dead (nobody on the port), hung (the BMC is frozen), lying (it accepts the off and does nothing), refusing (it answers with an
error), wrong password. The *right word*: the device's own outcome, or for a liar the first reading of ON after the off.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from base.clock import now_ns
from base.core import NS_PER_MS
from fencing.devices.build import build_device
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice

FAULTS = ("ok", "dead", "hung", "lying", "refusing", "wrong-password")
DEADLINE_MS = 30_000
PASSWORD = "bench-password"


@dataclass
class Bmc:
    """The emulator with a file that says whether its node is on, and one that says what it does wrong."""

    port: int
    directory: Path
    process: subprocess.Popen[bytes]


@contextmanager
def emulator() -> Iterator[Bmc]:
    """ipmi_sim on loopback, ended and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-bmc-") as name, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        directory = Path(name)
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        free.close()
        (directory / "state").mkdir()
        chassis = directory / "chassis.sh"
        chassis.write_text(
            f"#!/bin/sh\ncd {directory}\ncase $2 in\n get) echo power:$(cat power) ;;\n"
            " set) case $(cat fault) in lying) exit 0 ;; refusing) exit 1 ;; esac; [ $3 = power ] && echo $4 > power ;;\nesac\nexit 0\n"
        )
        chassis.chmod(0o755)
        (directory / "power").write_text("1")
        (directory / "fault").write_text("")
        (directory / "password").write_text(PASSWORD)
        (directory / "wrong").write_text("not-it")
        for secret in ("password", "wrong"):
            (directory / secret).chmod(0o600)
        (directory / "lan.conf").write_text(
            f'name "n"\nset_working_mc 0x20\n startlan 1\n  addr 127.0.0.1 {port}\n  priv_limit admin\n'
            f"  allowed_auths_admin none md2 md5 straight\n  guid a123456789abcdefa123456789abcdef\n endlan\n"
            f' chassis_control "{chassis} 0x20"\n user 2 true "fence" "{PASSWORD}" admin 10 none md2 md5 straight\n'
        )
        (directory / "node.emu").write_text(
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n"
        )
        argv = ["ipmi_sim", "-c", str(directory / "lan.conf"), "-f", str(directory / "node.emu"), "-s", str(directory / "state"), "-n"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Bmc(port, directory, process)
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def devices(bmc: Bmc, fault: str) -> dict[str, FenceDevice]:
    """The same BMC for both."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1]) if fault == "dead" else str(bmc.port)
    secret = f"file:{bmc.directory / ('wrong' if fault == 'wrong-password' else 'password')}"
    native = {"host": "127.0.0.1", "port": port, "user": "fence", "cipher": "3", "password_secret": secret}
    agent = {
        "agent": "fence_ipmilan",
        "ip": "127.0.0.1",
        "ipport": port,
        "username": "fence",
        "lanplus": "1",
        "cipher": "3",
        "power_wait": "0",
        "password_secret": secret,
    }
    return {
        "ours": FenceDevice("native", "ipmi", "b", tuple(native.items()), DEADLINE_MS),
        # Enrolled, as a device in use is: then our layer reads nothing before the act, and the agent's own time is measured.
        "agent": FenceDevice("agent", "agent", "b", tuple(agent.items()), DEADLINE_MS, "guid of the bench"),
    }


def right_word(settings: FenceDevice, fault: str) -> tuple[float, str]:
    """Milliseconds until it is known what the off came to, and the word."""
    device = build_device(settings)
    started = time.monotonic()

    def took() -> float:
        return (time.monotonic() - started) * 1_000

    outcome = device.perform("off", now_ns() + DEADLINE_MS * NS_PER_MS).outcome
    if fault != "lying" or outcome is not DeviceOutcome.SUCCESS:
        return took(), outcome.value
    while device.perform("status", now_ns() + DEADLINE_MS * NS_PER_MS).power is not PowerState.ON:
        if took() > 2 * DEADLINE_MS:
            return took(), "believed"
    return took(), "reads on"


def measure_fence_devices(runs: int) -> dict[str, dict[str, dict[str, object]]]:
    """Fault → who → times in ms and the word. Interleaved; the emulator is new for each fault."""
    table: dict[str, dict[str, dict[str, object]]] = {}
    for fault in FAULTS:
        rows: dict[str, list[tuple[float, str]]] = {"ours": [], "agent": []}
        with emulator() as bmc:
            _wait_for(bmc)
            for number in range(runs):
                for who, settings in devices(bmc, fault).items():
                    (bmc.directory / "power").write_text("1")
                    (bmc.directory / "fault").write_text(fault if fault in ("lying", "refusing") else "")
                    if fault == "hung":
                        os.kill(bmc.process.pid, signal.SIGSTOP)
                    rows[who].append(right_word(settings, fault))
                    bmc.process.send_signal(signal.SIGCONT)
                print(f"\rfence {fault} {number + 1}/{runs}   ", end="", file=sys.stderr, flush=True)
        table[fault] = {
            who: {"median_ms": round(statistics.median(t for t, _ in values), 1), "word": values[-1][1], "runs": runs}
            for who, values in rows.items()
        }
    print(file=sys.stderr)
    return table


def _wait_for(bmc: Bmc) -> None:
    device = build_device(devices(bmc, "ok")["ours"])
    for _ in range(50):
        if device.perform("status", now_ns() + 2_000 * NS_PER_MS).outcome is DeviceOutcome.SUCCESS:
            return
    raise RuntimeError("the BMC emulator does not answer")


def print_table(table: dict[str, dict[str, dict[str, object]]]) -> None:
    """For people."""
    print("\nthe same BMC, off ordered → the right word (median ms)")
    print(f"  {'fault':16}{'ours':>10}  {'word':16}{'fence_ipmilan':>14}  word")
    for fault, row in table.items():
        ours, agent = row["ours"], row["agent"]
        print(f"  {fault:16}{ours['median_ms']:>10}  {ours['word']!s:16}{agent['median_ms']:>14}  {agent['word']}")
