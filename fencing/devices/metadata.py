"""What a fence agent says about itself (``action=metadata``): its parameters and actions."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

from base.clock import now_ns
from base.core import NS_PER_S
from fencing.devices.child import run_child
from fencing.devices.device import DeviceConfigError

_AGENT_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
_METADATA_NS = 15 * NS_PER_S


@dataclass(frozen=True, slots=True)
class AgentMetadata:
    """Names of the parameters that the agent accepts, those it requires, its actions, the other names of a parameter
    (``obsoletes``), both ways, and those that have a default. Names have underscores."""

    parameters: frozenset[str]
    required: frozenset[str]
    actions: frozenset[str]
    aliases: Mapping[str, tuple[str, ...]]
    defaulted: frozenset[str]


def find_agent(name: str) -> str:
    """The absolute path of an agent ("fence_ipmilan" or a path). Raises DeviceConfigError."""
    path = name if name.startswith("/") else shutil.which(name, path=_AGENT_PATH)
    if not path or not os.access(path, os.X_OK):
        raise DeviceConfigError(f"agent {name!r} is not installed; apt-get install fence-agents, or give its absolute path")
    return path


def read_metadata(path: str) -> AgentMetadata:
    """Ask the agent for its metadata. Raises DeviceConfigError if it has none that can be read."""
    result = run_child([path], b"action=metadata\n", now_ns() + _METADATA_NS)
    if result.exit_code != 0:
        raise DeviceConfigError(f"{path} gave no metadata (exit code {result.exit_code}); is it a fence agent?")
    if "<!DOCTYPE" in result.stdout or "<!ENTITY" in result.stdout:
        raise DeviceConfigError(f"{path}: metadata with a document type is refused")
    try:
        root = ET.fromstring(result.stdout)  # noqa: S314 (no DOCTYPE, 64 KiB, from a program that runs as root anyway)
    except ET.ParseError as error:
        raise DeviceConfigError(f"{path}: metadata is not XML: {error}") from None
    parameters = [(element.get("name", "").replace("-", "_"), element) for element in root.iter("parameter") if element.get("name")]
    aliases: dict[str, tuple[str, ...]] = {}
    for name, element in parameters:
        other = element.get("obsoletes", "").replace("-", "_")
        if other:
            aliases[name] = (*aliases.get(name, ()), other)
            aliases[other] = (*aliases.get(other, ()), name)
    return AgentMetadata(
        frozenset(name for name, _ in parameters),
        frozenset(name for name, element in parameters if element.get("required") == "1"),
        frozenset(element.get("name", "") for element in root.iter("action")),
        aliases,
        frozenset(name for name, element in parameters if any("default" in content.attrib for content in element.iter("content"))),
    )
