"""What every fence device can do, whatever it is made of."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from base.clock import now_ns
from base.core import NS_PER_MS, NS_PER_S
from base.secrets import Secret, resolve_secret
from fencing.plan.events import DeviceOutcome, PowerState
from fencing.plan.settings import FenceDevice

ACTIONS = ("off", "on", "status")
NEVER_NS = 1 << 62
MAX_DETAIL_CHARS = 300
_LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z]+: ")
_NOISE = re.compile(r"Please use '-h' for usage")
SECRET_SUFFIX = "_secret"  # noqa: S105 (the end of a parameter's name)


@dataclass(frozen=True, slots=True)
class DeviceResult:
    """What one ``perform`` came to. ``power`` and ``identity`` are only meaningful after ``status``."""

    outcome: DeviceOutcome
    power: PowerState = PowerState.UNKNOWN
    identity: str = ""
    detail: str = ""
    took_ms: int = 0


class Device(Protocol):
    """One armed device: secrets read, imports done, nothing left to prepare."""

    settings: FenceDevice

    def perform(self, action: str, deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
        """Do "off", "on" or "status" and be back by ``deadline_ns`` (CLOCK_BOOTTIME), whatever the device does.

        Blocks; call it in a thread. ``off`` and ``on`` are not sent to the device after ``valid_until_ns``: STALE_ORDER.
        Never raises for anything the device or network does.
        """
        ...


BUSY_PAUSE_S = 0.25
"""How long we wait before a device that was busy is asked again."""


def retry_while_busy(call: Callable[[], DeviceResult], deadline_ns: int, valid_until_ns: int = NEVER_NS) -> DeviceResult:
    """Ask again while the device says BUSY and there is time: a BMC whose sessions are taken has one free a moment later. The last answer
    is the result."""
    while True:
        result = call()
        left_ns = min(deadline_ns, valid_until_ns) - now_ns()
        if result.outcome is not DeviceOutcome.BUSY or left_ns < 2 * BUSY_PAUSE_S * NS_PER_S:
            return result
        time.sleep(BUSY_PAUSE_S)


class DeviceConfigError(Exception):
    """A device cannot be armed; the message names the parameter and the remedy."""


def resolve_parameters(settings: FenceDevice) -> tuple[dict[str, str], dict[str, Secret]]:
    """Split parameters into plain ones and secrets (``password_secret`` → ``password``). Raises SecretError."""
    plain: dict[str, str] = {}
    secrets: dict[str, Secret] = {}
    for key, value in settings.parameters:
        if key.endswith(SECRET_SUFFIX):
            secrets[key.removesuffix(SECRET_SUFFIX)] = resolve_secret(value)
        else:
            plain[key] = value
    return plain, secrets


def clean_detail(text: str, secrets: Mapping[str, Secret]) -> str:
    """What a device said, on one line: printable, the end of it if it is long, and without any secret."""
    lines = [_LOG_PREFIX.sub("", line.strip()) for line in text.splitlines()]
    said = "; ".join(line for line in lines if line and not _NOISE.match(line))
    for secret in secrets.values():
        if value := secret.reveal():
            said = said.replace(value, "***")
    return "".join(c if c.isprintable() else "?" for c in said)[-MAX_DETAIL_CHARS:]


def last_line(text: str, secrets: Mapping[str, Secret]) -> str:
    """The last line that is not empty, cleaned like a detail: what an identity command answered."""
    lines = [line for line in text.splitlines() if line.strip()]
    return clean_detail(lines[-1], secrets) if lines else ""


def elapsed_ms(started_ns: int) -> int:
    """Milliseconds since ``started_ns``."""
    return (now_ns() - started_ns) // NS_PER_MS


def is_stale(action: str, valid_until_ns: int) -> bool:
    """Whether the moment to send ``action`` has passed; reading is never stale."""
    return action != "status" and now_ns() > valid_until_ns


def stale_result(started_ns: int) -> DeviceResult:
    """The refusal of an order that is too old."""
    return DeviceResult(
        DeviceOutcome.STALE_ORDER, detail="the order was too old at the device; nothing was sent", took_ms=elapsed_ms(started_ns)
    )
