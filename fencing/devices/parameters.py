"""What may stand in the configuration of a fence device, and what is wrong with one before anybody arms it. Imports no device."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from fencing.devices.device import SECRET_SUFFIX
from fencing.plan.settings import DEVICE_TYPES, FenceDevice
from fencing.plan.worth import AGENTS, Worth


@dataclass(frozen=True, slots=True)
class KnownParameters:
    """Parameters of a device type. ``open_ended``: other keys belong to the agent or command and are passed on."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    open_ended: bool


_SNMP = ("port", "version", "community_secret", "user", "auth", "auth_password_secret", "privacy", "privacy_password_secret")
KNOWN = {
    "ssh": KnownParameters(
        ("host", "host_key"),
        (
            "port",
            "user",
            "key_secret",
            "key_passphrase_secret",
            "password_secret",
            "off_command",
            "on_command",
            "status_command",
            "identity_command",
            "settle_ms",
        ),
        open_ended=False,
    ),
    "agent": KnownParameters(("agent",), ("worth", "effect_ms", "identity_from", "identity_command", "settle_ms"), open_ended=True),
    "redfish": KnownParameters(
        ("host", "system", "password_secret"),
        ("port", "user", "ca_file", "fingerprint", "settle_ms", "effect_ms"),
        open_ended=False,
    ),
    "snmp_pdu": KnownParameters(("host", "make", "outlet"), (*_SNMP, "settle_ms", "effect_ms"), open_ended=False),
    "snmp_port": KnownParameters(("host", "switch_port"), (*_SNMP, "mac", "settle_ms", "effect_ms"), open_ended=False),
    "libvirt": KnownParameters(("uri", "domain"), ("settle_ms", "effect_ms"), open_ended=False),
    "wake_on_lan": KnownParameters(("mac", "interface"), (), open_ended=False),
    "ipmi": KnownParameters(
        ("host", "password_secret"), ("port", "user", "kg_secret", "cipher", "settle_ms", "effect_ms"), open_ended=False
    ),
    "exec": KnownParameters(("command",), ("worth", "effect_ms", "settle_ms"), open_ended=True),
}
_WORTHS = tuple(worth.value for worth in Worth)
_IDENTITY_SOURCES = ("list", "ipmi", "command", "none")
_SECRET_WORDS = ("password", "passwd", "passphrase", "snmp_priv_passwd", "token", "api_key")
_SECRET_KINDS = ("file:", "env:", "credential:", "/")
MIN_DEADLINE_MS = 500
MAX_DEADLINE_MS = 300_000


def validate_device(device: FenceDevice) -> list[str]:
    """Everything that is wrong with a device's configuration, each with its remedy; empty = fit to be armed. Reads nothing."""
    if device.type not in DEVICE_TYPES:
        return [f"type {device.type!r} is unknown; {nearest(device.type, DEVICE_TYPES)}"]
    known = KNOWN[device.type]
    keys = [key for key, _ in device.parameters]
    problems = [f"{key!r} is given twice; keep one" for key in sorted({key for key in keys if keys.count(key) > 1})]
    problems += [
        f"{key!r} is missing; a device of type {device.type} needs it" for key in known.required if not dict(device.parameters).get(key)
    ]
    if not known.open_ended:
        allowed = (*known.required, *known.optional)
        problems += [f"{key!r} is unknown; {nearest(key, allowed)}" for key in keys if key not in allowed]
    for key, value in device.parameters:
        problems += _value_problems(device.type, key, value)
    if device.type == "ssh" and not {"key_secret", "password_secret"} & set(keys):
        problems.append("neither 'key_secret' nor 'password_secret' is given; write one, so that brainctl can log in without a person")
    if _agent_name(device) == "fence_redfish" and not {
        "systems_uri",
        "systems-uri",
    } & set(keys):
        problems.append("fence_redfish without 'systems_uri' acts on the service's last system, whose ever it is; name the target's URI")
    judgement = device.judgement
    if judgement.refused:
        problems.append(f"{_agent_name(device)} is refused: {judgement.refused}")
    if "worth" in keys and _agent_name(device) in AGENTS:
        problems.append(f"'worth' of {_agent_name(device)} is known ({judgement.worth.value}: {judgement.why}); remove it")
    if not MIN_DEADLINE_MS <= device.deadline_ms <= MAX_DEADLINE_MS:
        problems.append(f"deadline_ms = {device.deadline_ms} is outside {MIN_DEADLINE_MS}…{MAX_DEADLINE_MS}")
    return problems


def _agent_name(device: FenceDevice) -> str:
    return dict(device.parameters).get("agent", "").rsplit("/", 1)[-1] if device.type == "agent" else ""


def _value_problems(kind: str, key: str, value: str) -> list[str]:
    problems = []
    if "\n" in value or "\r" in value or "\0" in value:
        problems.append(f"{key!r} holds a line break; write it on one line")
    if key in ("action", "option"):
        problems.append(f"{key!r} is decided by brainctl; remove it")
    if key.endswith(SECRET_SUFFIX) and not value.startswith(_SECRET_KINDS):
        problems.append(f"{key!r} must name a secret, not be one; write file:/path, env:NAME or credential:NAME")
    if key in _SECRET_WORDS:
        problems.append(f'{key!r} is a secret in brain.toml; write {key}{SECRET_SUFFIX} = "file:/path"')
    if key == "method" and value != "onoff":
        problems.append("'method' other than onoff reports success without a verified off; remove it")
    if key in ("settle_ms", "effect_ms") and not value.isdigit():
        problems.append(f"{key!r} must be a whole number of milliseconds")
    if key == "port" and kind == "ssh" and not (value.isdigit() and 0 < int(value) < 65536):
        problems.append(f"'port' {value!r} is no TCP port")
    if key == "worth" and value not in _WORTHS:
        problems.append(f"'worth' {value!r} is unknown; {nearest(value, _WORTHS)}")
    if key == "identity_from" and value not in _IDENTITY_SOURCES:
        problems.append(f"'identity_from' {value!r} is unknown; {nearest(value, _IDENTITY_SOURCES)}")
    return problems


def nearest(word: str, known: tuple[str, ...]) -> str:
    """For an error: the known word that is most like this one, or all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
