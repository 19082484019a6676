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
        """In the order of the table's columns."""
        return self.verdict, self.reason, self.paths, self.gate, self.action


def ask_status(node: Node) -> NodeStatus:
    """The node's own opinion, or that it has none."""
    if not node.on:
        return NodeStatus(reason="no power")
    answer = _ask(str(node.root / "run/brainctl/braind.sock"))
    if answer is None:
        return NodeStatus(reason="braind does not answer")
    return summarise(answer)


def summarise(answer: dict[str, Any]) -> NodeStatus:
    """The cells of a status document."""
    paths = answer.get("paths") or []
    return NodeStatus(
        verdict=str(answer.get("verdict", "–")),
        reason=str(answer.get("reason", "")),
        paths=" ".join(f"{path.get('name')}{'✓' if path.get('alive') else '✗'}" for path in paths if isinstance(path, dict)),
        gate=str(answer.get("gate", "")),
        action=str(answer.get("action", "")),
    )


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
        return answer if isinstance(answer, dict) else None
    return None
