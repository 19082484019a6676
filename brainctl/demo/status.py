"""Asks a node's braind what it thinks, as ``brainctl status`` does: only for display, never for a measurement."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any

from brainctl.demo.node import Node

_TIMEOUT_S = 0.1


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What the table shows about one node."""

    verdict: str = "–"
    reason: str = ""
    paths: str = ""
    gate: str = ""
    action: str = ""

    def cells(self) -> tuple[str, str, str, str, str]:
        """In the order of the table's columns, in rich's markup."""
        colour = "" if self.verdict == "–" else "green" if self.verdict.startswith("HEALTHY") else "bold red"
        verdict = f"[{colour}]{self.verdict}[/]" if colour else self.verdict
        paths = self.paths.replace("✓", "[green]✓[/]").replace("✗", "[red]✗[/]")
        return verdict, self.reason.replace("[", "\\["), paths, self.gate, self.action.replace("[", "\\[")


def ask_document(node: Node) -> dict[str, Any] | None:
    """The whole status document of a node's braind, None if it does not answer."""
    return _ask(str(node.root / "run/brainctl/braind.sock")) if node.on else None


def ask_status(node: Node) -> NodeStatus:
    """The node's own opinion, or that it has none."""
    if not node.on:
        return NodeStatus(reason="no power")
    document = ask_document(node)
    return NodeStatus(reason="braind does not answer") if document is None else summarise(document)


def summarise(status: dict[str, Any]) -> NodeStatus:
    """The cells of a status document (watchdog/judgement/status.py); what is missing stays empty."""
    pair, fence = status.get("pair") or {}, status.get("fence") or {}
    groups = [group for group in status.get("groups") or [] if isinstance(group, dict)]
    worst = next((group for group in groups if group.get("verdict") != "HEALTHY"), pair)
    return NodeStatus(
        verdict=f"{worst.get('verdict', '–')} {worst.get('stage', '')}".strip(),
        reason=str(worst.get("reason", "")),
        paths=_paths(status.get("paths")),
        gate=", ".join(str((group.get("gate") or {}).get("state", "")) for group in groups),
        action=_action(fence),
    )


def _paths(paths: object) -> str:
    entries = paths if isinstance(paths, list) else list(paths.values()) if isinstance(paths, dict) else []
    if isinstance(paths, dict):
        entries = [{"name": name, **entry} for name, entry in paths.items() if isinstance(entry, dict)]
    return " ".join(f"{entry.get('name')}{'✓' if entry.get('hears') else '✗'}" for entry in entries if isinstance(entry, dict))


def _action(fence: dict[str, Any]) -> str:
    running, last = fence.get("running"), fence.get("last")
    if isinstance(running, dict):
        return f"fencing {running.get('target', '')}: {running.get('phase', '')}"
    return f"fence {last.get('state', '')}" if isinstance(last, dict) else str(fence.get("refused") or "")


def _ask(path: str) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.connect(path)
        sock.sendall(b'{"v": 1, "id": 1, "op": "status"}\n')
        data = b""
        while not data.endswith(b"\n"):
            chunk = sock.recv(65536)
            if not chunk:
                return None
            data += chunk
        answer = json.loads(data).get("ok")
        status = answer.get("status") if isinstance(answer, dict) else None
        return status if isinstance(status, dict) else None
    return None
