"""The small pairs that are searched: strict and resolve, beside vrrpd and keepalived, with and without a witness.

Two paths, one address, one fence level whose act takes almost all the time that it may. All times are short, so that a schedule is
decided within some ten seconds; d is what ``brainctl check`` asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

from watchdog.config.model import Mode
from watchdog.simulator.faults import parse_fault
from watchdog.simulator.options import Options
from watchdog.simulator.run import options_of

DEADLINE_MS = 1_500
ACT_MS = 1_400
SEED = 13


@dataclass(frozen=True, slots=True)
class Configuration:
    """One of the pairs."""

    mode: Mode
    daemon: str
    witness: bool

    def __str__(self) -> str:
        return f"{self.mode.value}/{self.daemon}/{'witness' if self.witness else 'alone'}"

    @property
    def settings(self) -> tuple[str, ...]:
        """As ``brainctl simulate --set`` takes them."""
        return (
            f"mode={self.mode.value}",
            f"daemon={self.daemon}",
            f"witness={str(self.witness).lower()}",
            "vrrp_version=3",
            "advert_interval_ms=1000",
            "groups=1",
            "preempt=true",
            "paths=ethernet,serial",
            "beat_ms=200",
            "reference=true",
            "fence_levels=1",
            "fence_enabled=true",
            "enrolled=true",
            "budget_per_hour=3",
            "confirm_ms=1000",
            "bridge_adverts=true",
            "use_vmac=false",
            f"device_deadline_ms={DEADLINE_MS}",
            f"measured_ms={DEADLINE_MS}",
        )

    def options(self) -> Options:
        """The run of this pair; the two devices act as slowly as they may."""
        slow = tuple(parse_fault(f"device 1 of {node} acts in {ACT_MS}ms at 0s") for node in ("A", "B"))
        return options_of(SEED, slow, (*self.settings, f"safety_ns={10**12}"))


CONFIGURATIONS = tuple(
    Configuration(mode, daemon, witness)
    for witness in (False, True)
    for mode in (Mode.STRICT, Mode.RESOLVE)
    for daemon in ("vrrpd", "keepalived")
)
