"""Case A7: no descriptor is left, and somebody connects: he is closed, the loop does not spin, and the daemon goes on."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

from base.control import ControlServer
from base.core import NS_PER_MS
from base.pump import Pump


def test_who_cannot_be_served_is_closed_and_the_listener_falls_quiet(tmp_path: Path) -> None:
    pump = Pump(next_deadline=lambda: None, on_deadline=lambda _n: None)
    server = ControlServer(pump, str(tmp_path / "x.sock"), {})
    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spent = os.open("/dev/null", os.O_RDONLY)
    os.close(spent)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spent, hard))
    try:
        for client in clients:
            client.connect(server.path)
        for _ in range(len(clients)):
            pump.turn(50 * NS_PER_MS)
        for client in clients:
            client.settimeout(5)
            assert client.recv(1) == b"", "closed, not left waiting"
        assert server.refused_clients == len(clients)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for client in clients:
        client.close()
    server.close()
    pump.close()
