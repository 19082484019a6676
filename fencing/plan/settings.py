"""PURE: what an operator configured to fence a node with, as the plan and the devices read it."""

from __future__ import annotations

from dataclasses import dataclass

from fencing.plan.worth import Judgement, Worth, judge

DEVICE_TYPES = ("redfish", "ipmi", "snmp_pdu", "snmp_port", "libvirt", "ssh", "wake_on_lan", "agent", "exec")


@dataclass(frozen=True, slots=True)
class FenceDevice:
    """One device that can fence one target.

    ``parameters`` are the device's own keys (agent parameters such as ip, plug, username; ssh: host, port, user,
    host_key, command …; exec: command …); values of keys ending in ``_secret`` are secret references
    (base.secrets), never values. ``identity`` is what enrolment found at the device for this outlet (serial number,
    GUID), empty while not enrolled: an unenrolled device cannot give proof (a).
    """

    name: str
    type: str
    target: str
    parameters: tuple[tuple[str, str], ...]
    deadline_ms: int = 20_000
    identity: str = ""

    @property
    def judgement(self) -> Judgement:
        """What this device's word is worth, and why (fencing/plan/worth.py)."""
        parameters = dict(self.parameters)
        return judge(self.type, parameters.get("agent", ""), parameters.get("worth", ""))

    @property
    def worth(self) -> Worth:
        """Power, fabric or bookkeeping."""
        return self.judgement.worth


@dataclass(frozen=True, slots=True)
class FenceLevel:
    """Devices that must all succeed together; levels are tried in order."""

    name: str
    devices: tuple[FenceDevice, ...]


@dataclass(frozen=True, slots=True)
class FenceSettings:
    """``[fence]`` of brain.toml for both targets.

    ``levels`` maps a target node to its levels by order. ``measured_ms`` is F: start of the act → effect or
    definite failure, as ``brainctl fence check`` measured it (0 = never measured). ``delay_ms`` is d, the wait of
    the lower-ranked node: it must be ≥ Δ + F + margin. ``monitor_interval_ms``: how often each device is read when all is well (0 = never).
    ``require_authenticated``: no fence of a hung peer, and no refutation, rests on
    answers from its MAC, which a stranger on the switch could forge (docs/SECURITY.md).
    """

    enabled: bool = False
    levels: tuple[tuple[str, tuple[FenceLevel, ...]], ...] = ()
    delay_ms: int = 0
    measured_ms: int = 0
    budget_per_hour: int = 3
    proof_silence_ms: int = 2_000
    monitor_interval_ms: int = 300_000
    require_authenticated: bool = False

    def levels_for(self, target: str) -> tuple[FenceLevel, ...]:
        """The levels that fence ``target``, in order; empty if none."""
        return dict(self.levels).get(target, ())
