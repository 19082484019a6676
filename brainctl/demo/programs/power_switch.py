"""A power switch: one outlet that feeds one node, with an HTTP interface on the management network. It can be told to lie.

One JSON argument: ``{"node", "address", "port", "plug", "serial", "user", "password", "control_fd", "links"}``; ``control_fd`` is a
socket in the switch's namespace by which the node's links lose their carrier at the instant its power goes.

GET /outlets → ``[{"plug", "serial", "node"}]`` · GET /outlets/N → ``{"plug", "serial", "node", "power": "on"|"off"}`` ·
PUT /outlets/N ``{"power": "off"|"on"}``. Basic authentication.

Orders on standard input: ``{"pid": init's host pid or 0}`` (what is plugged in) and ``{"behave": {…}}`` with the keys ``deaf`` (says done,
does nothing),
``pretends`` (its status tells what was ordered, not what is), ``pretends_reads`` (so many times after an order), ``delay_s`` (before it
switches), ``hangs`` (accepts and never answers), ``refuses``.
Events on standard output: ``{"event": "off"|"on"|"asked", …, "t": CLOCK_REALTIME ns}``.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hmac
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def say(**fields: object) -> None:
    """One event."""
    sys.stdout.write(json.dumps({"t": time.time_ns(), **fields}) + "\n")
    sys.stdout.flush()


class Outlet:
    """The outlet: what is really on, what was last ordered, and how it misbehaves."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.control = socket.socket(fileno=plan["control_fd"])
        self.pid = 0
        self.ordered = "on"
        self.reads_since_order = 1
        self.behaviour: dict[str, Any] = {}
        self.lock = threading.Lock()

    def power(self) -> str:
        """What the status page says."""
        if self.behaviour.get("pretends") or self.reads_since_order <= self.behaviour.get("pretends_reads", 0):
            return self.ordered
        return "on" if self.pid else "off"

    def describe(self) -> dict[str, object]:
        """The outlet as JSON, without its power."""
        return {"plug": self.plan["plug"], "serial": self.plan["serial"], "node": self.plan["node"]}

    def switch(self, power: str) -> None:
        """Do what was ordered, if it behaves."""
        with self.lock:
            self.ordered = power
            self.reads_since_order = 0
            if self.behaviour.get("deaf"):
                say(event="ignored", node=self.plan["node"], power=power)
                return
            if power == "off" and self.pid:
                pid, self.pid = self.pid, 0
                for link in self.plan["links"]:
                    with contextlib.suppress(OSError):
                        self.lower(link)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                say(event="off", node=self.plan["node"])
            elif power == "on" and not self.pid:
                say(event="on", node=self.plan["node"])

    def lower(self, link: str) -> None:
        """No more current, no more carrier."""
        request = struct.pack("16sH14x", link.encode(), 0)
        flags = struct.unpack_from("H", fcntl.ioctl(self.control, SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(self.control, SIOCSIFFLAGS, struct.pack("16sH14x", link.encode(), flags & ~IFF_UP))


class Page(BaseHTTPRequestHandler):
    """The outlet's HTTP interface."""

    outlet: Outlet
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Events are said by `say`."""

    def do_GET(self) -> None:
        """Status."""
        if not self.admitted():
            return
        if self.path == "/outlets":
            self.answer(200, [self.outlet.describe()])
        elif self.path == f"/outlets/{self.outlet.plan['plug']}":
            self.outlet.reads_since_order += 1
            self.answer(200, {**self.outlet.describe(), "power": self.outlet.power()})
        else:
            self.answer(404, {"error": "no such outlet"})

    def do_PUT(self) -> None:
        """Switch."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.admitted():
            return
        power = json.loads(body or b"{}").get("power")
        if self.path != f"/outlets/{self.outlet.plan['plug']}":
            self.answer(404, {"error": "no such outlet"})
        elif power not in ("on", "off"):
            self.answer(400, {"error": "power must be on or off"})
        elif self.outlet.behaviour.get("refuses"):
            self.answer(503, {"error": "relay fault"})
        else:
            time.sleep(float(self.outlet.behaviour.get("delay_s") or 0))
            self.outlet.switch(power)
            self.answer(200, {"done": power})

    def admitted(self) -> bool:
        """Check the password, and misbehave where told to."""
        plan = self.outlet.plan
        expected = "Basic " + base64.b64encode(f"{plan['user']}:{plan['password']}".encode()).decode()
        say(event="asked", node=plan["node"], method=self.command)
        if self.outlet.behaviour.get("hangs"):
            time.sleep(3600)
        if hmac.compare_digest(self.headers.get("Authorization") or "", expected):
            return True
        self.answer(401, {"error": "wrong user or password"})
        return False

    def answer(self, code: int, body: object) -> None:
        """Send JSON and close."""
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True


def main() -> int:
    """Serve until standard input ends."""
    plan = json.loads(sys.argv[1])
    outlet = Page.outlet = Outlet(plan)
    server = ThreadingHTTPServer((plan["address"], plan["port"]), Page)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(event="ready", node=plan["node"])
    for line in sys.stdin:
        order = json.loads(line)
        if "pid" in order:
            outlet.pid = order["pid"]
        if "behave" in order:
            outlet.behaviour = order["behave"]
    return 0


if __name__ == "__main__":
    sys.exit(main())
