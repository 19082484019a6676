"""Secrets, journal, TOML positions, packet filters, supervised children."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import signal
import socket
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.clock import now_ns
from base.core import NS_PER_MS, NS_PER_S
from base.journal import Journal, canonical_line, first_difference
from base.packetsocket import filter_ipv4_protocol, open_packet_socket
from base.pump import Pump
from base.secrets import Secret, SecretError, resolve_secret
from base.supervise import Child
from base.toml_positions import locate


def test_a_secret_file_must_be_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("hunter2\n")
    path.chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        resolve_secret(f"file:{path}")
    path.chmod(0o600)
    secret = resolve_secret(str(path))
    assert secret.reveal() == "hunter2"
    assert "hunter2" not in f"{secret!r} {secret}"
    with pytest.raises(SecretError, match="create it"):
        resolve_secret(str(tmp_path / "missing"))
    with pytest.raises(SecretError, match="no kind of secret"):
        resolve_secret("hunter2")
    assert Secret("a") == Secret("a")


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    data: bytes
    names: frozenset[str]
    address: ipaddress.IPv4Address


def test_the_journal_is_a_bounded_ring_in_canonical_form() -> None:
    journal = Journal(2)
    for i in range(3):
        journal.note(i, Sample(b"\x01", frozenset({"b", "a"}), ipaddress.IPv4Address("10.0.0.1")), [])
    lines = journal.lines()
    assert len(lines) == 2
    assert journal.dropped == 1
    assert '"at_ns":2' in lines[1]
    assert canonical_line({"b": {2, 1}, "a": None}) == '{"a":null,"b":[1,2]}'
    assert first_difference(["x", "y"], ["x"]) == (1, "y", "(nothing)")
    assert first_difference(["x"], ["x"]) is None


def test_positions_of_keys_in_every_shape_of_table() -> None:
    text = "\n".join(
        [
            "version = 1",
            "[node.a]",
            "rank = 1",
            "[[path]]",
            'name = "x"',
            "[[path]]",
            'interface = { a = "eth0", b = "eth1" }',
            "list = [",
            '  "not = a key",',
            "]",
            "[[fence.level]]",
            "[[fence.level.device]]",
            'type = "ssh"',
        ]
    )
    tomllib.loads(text)
    places = locate("f", text).places
    assert places["version",] == (1, 1)
    assert places["node", "a", "rank"] == (3, 1)
    assert places["path", 0, "name"] == (5, 1)
    assert places["path", 1, "interface"] == (7, 1)
    assert places["path", 1, "interface", "b"][0] == 7
    assert places["fence", "level", 0, "device", 0, "type"] == (13, 1)
    assert str(locate("f", text).of(("path", 1, "missing"))) == "f:6:1"


@given(st.text(max_size=200))
def test_locating_never_raises(text: str) -> None:
    locate("f", text)


def test_the_vrrp_filter_lets_only_protocol_112_through() -> None:
    receiver = open_packet_socket("lo", filter_ipv4_protocol(112))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sender, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"udp", ("127.0.0.1", 9))
        sender.sendto(b"vrrp?", ("127.0.0.1", 0))
    seen = []
    for _ in range(4):
        try:
            seen.append(receiver.recv(2048))
        except BlockingIOError:
            break
    receiver.close()
    assert seen
    assert all(frame.endswith(b"vrrp?") for frame in seen)


def test_a_child_that_dies_comes_back_and_a_stopped_one_does_not() -> None:
    code = "from base.supervise import child_socket\ns=child_socket()\ns.sendall(b'{\"up\":1}\\n')\nwhile s.recv(100): pass\n"
    messages: list[object] = []
    downs: list[str] = []
    holder: list[Child] = []
    pump = Pump(next_deadline=lambda: holder[0].next_deadline() if holder else None, on_deadline=lambda n: holder[0].on_deadline(n))
    child = Child(pump, "x", [sys.executable, "-c", code], messages.append, on_down=downs.append, env={"PYTHONPATH": os.getcwd()})
    holder.append(child)
    child.start()

    def until(condition: object, seconds: float = 20) -> None:
        end = now_ns() + int(seconds * NS_PER_S)
        while not condition() and now_ns() < end:  # type: ignore[operator]
            pump.turn(50 * NS_PER_MS)

    until(lambda: len(messages) == 1)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: len(messages) == 2)
    assert downs == ["killed by SIGKILL"]
    assert child.restarts == 1
    child.stop()
    assert child.pid is None
    until(lambda: False, 0.3)
    assert len(messages) == 2


def test_big_entries_of_a_journal_push_more_out() -> None:
    """300 reloads of 100 virtual routers kept 300 configurations (F4)."""
    journal = Journal(20_000)
    for number in range(300):
        journal.note(number, "configuration", (), 1000)
    assert len(journal.lines()) == 20
    for number in range(15_000):
        journal.note(number, None, ())
    assert len(journal.lines()) == 15_005
    assert journal.dropped == 295
