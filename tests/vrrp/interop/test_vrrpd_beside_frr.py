"""vrrpd and FRR's vrrpd as a pair, VRRPv3 over IPv4 and IPv6, in both roles at the same time: two VRIDs with opposite priorities.

FRR does not touch addresses: it wants a macvlan with the virtual MAC and the address for each router, and switches that on and off
(``protodown``). So its state is what it says on the wire and to its vtysh.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab import Capture, Daemon, Lab, Node

pytestmark = pytest.mark.system

FRR = "/usr/lib/frr"
FRR_HIGHER, OURS_HIGHER = 61, 62
PRIORITIES = {FRR_HIGHER: (100, 150), OURS_HIGHER: (150, 100)}
"""VRID to (ours, FRR's)."""
ROUTERS = [(vrid, family) for vrid in PRIORITIES for family in (4, 6)]


def service(vrid: int, family: int) -> list[str]:
    return [f"10.77.0.1{vrid}"] if family == 4 else [f"fe80::77:{vrid}", f"fd77::1:{vrid}"]


def our_configuration() -> str:
    blocks = []
    for vrid, family in ROUTERS:
        addresses = "\n".join(f"{address}/{24 if family == 4 else 64}" for address in service(vrid, family))
        blocks.append(
            f"vrrp_instance V{vrid}over{family} {{\nstate BACKUP\ninterface eth0\nversion 3\nvirtual_router_id {vrid}\n"
            f"priority {PRIORITIES[vrid][0]}\nadvert_int 0.2\nvirtual_ipaddress {{\n{addresses}\n}}\n}}"
        )
    return "\n".join([*blocks, ""])


def frr_configuration() -> str:
    lines = ["interface eth0"]
    for vrid, (_ours, priority) in PRIORITIES.items():
        lines += [f" vrrp {vrid} version 3", f" vrrp {vrid} priority {priority}", f" vrrp {vrid} advertisement-interval 200"]
        lines += [f" vrrp {vrid} ip {address}" for address in service(vrid, 4)]
        lines += [f" vrrp {vrid} ipv6 {address}" for address in service(vrid, 6)]
    return "\n".join([*lines, "exit", ""])


def macvlans(node: Node) -> None:
    """What FRR wants to find."""
    for vrid, family in ROUTERS:
        name = f"vrrp{family}-{vrid}"
        node.run("ip", "link", "add", name, "link", "eth0", "type", "macvlan", "mode", "bridge")
        node.run("ip", "link", "set", name, "address", f"00:00:5e:00:0{1 if family == 4 else 2}:{vrid:02x}")
        node.run("sysctl", "-q", "-w", f"net.ipv6.conf.{name}.accept_dad=0")
        for address in service(vrid, family):
            node.run("ip", "addr", "add", f"{address}/{24 if family == 4 else 64}", "dev", name)
        node.run("ip", "link", "set", name, "up")


class Frr:
    """zebra and vrrpd on one node."""

    def __init__(self, lab: Lab, node: str) -> None:
        os.chmod(lab.directory, 0o755)
        self.lab, self.node, self.home = lab, node, lab.home(node)
        for name, text in (("zebra", ""), ("vrrpd", frr_configuration())):
            (self.home / f"{name}.conf").write_text(text)
            shutil.chown(self.home / f"{name}.conf", "frr", "frr")
        shutil.chown(self.home, "frr", "frr")
        self.zebra = self._start("zebra")
        lab.until(lambda: (self.home / "zserv").exists(), what="zebra is up")
        self.vrrpd = self._start("vrrpd")

    def _start(self, name: str) -> Daemon:
        home = self.home
        argv = [f"{FRR}/{name}", "-f", f"{home}/{name}.conf", "-i", f"{home}/{name}.pid", "-z", f"{home}/zserv"]
        return self.lab.start(self.node, [*argv, "--vty_socket", str(home), "-P", "0", "--log", "stdout"], home)

    def states(self) -> dict[tuple[int, int], str]:
        """(VRID, family) to Initialize, Backup or Master."""
        argv = ["vtysh", "--vty_socket", str(self.home), "-d", "vrrpd", "-c", "show vrrp json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        try:
            found: list[dict[str, Any]] = json.loads(done.stdout)
        except ValueError:
            return {}
        return {(router["vrid"], family): router[f"v{family}"]["status"] for router in found for family in (4, 6)}

    def stop(self) -> None:
        """Both; vrrpd first, so that it can say priority 0."""
        self.vrrpd.signal(signal.SIGTERM)
        self.vrrpd.process.wait(10)
        self.zebra.stop()


@contextmanager
def frr(lab: Lab, node: str) -> Iterator[Frr]:
    daemons = Frr(lab, node)
    try:
        yield daemons
    finally:
        daemons.zebra.stop()
        daemons.vrrpd.stop()


def last_words(capture: Capture, port: str) -> dict[tuple[int, int], int]:
    """(VRID, family) to the priority that a port said last."""
    said = {}
    for sender, frame in capture.frames:
        at, family = (54, 6) if frame[12:14] == b"\x86\xdd" and frame[20] == 112 else (34, 4)
        if sender == port and (family == 6 or (frame[12:14] == b"\x08\x00" and frame[23] == 112)):
            said[frame[at + 1], family] = frame[at + 2]
    return said


def test_election_handover_and_return_in_both_roles() -> None:
    with Lab("a", "b") as lab:
        a, b = lab.nodes["a"], lab.nodes["b"]
        macvlans(b)
        capture = lab.capture()

        def ours_has(*vrids: int) -> bool:
            return all(a.holds(address) == (vrid in vrids) for vrid, family in ROUTERS for address in service(vrid, family))

        def frr_has(peer: Frr, *vrids: int) -> bool:
            return peer.states() == {(vrid, family): "Master" if vrid in vrids else "Backup" for vrid, family in ROUTERS}

        with frr(lab, "b") as peer:
            lab.until(lambda: frr_has(peer, FRR_HIGHER, OURS_HIGHER), what=f"FRR alone is MASTER {peer.states()}")
            ours = lab.vrrpd("a", our_configuration())
            lab.until(lambda: ours_has(OURS_HIGHER) and frr_has(peer, FRR_HIGHER), what=f"the higher ones {peer.states()}")
            lab.always(lambda: ours_has(OURS_HIGHER) and frr_has(peer, FRR_HIGHER), 1.5)
            ours.signal(signal.SIGTERM)
            lab.until(lambda: frr_has(peer, FRR_HIGHER, OURS_HIGHER), what="FRR hears our priority 0")
            ours.stop()
            capture.read()
            assert {router: said for router, said in last_words(capture, "p1").items() if router[0] == OURS_HIGHER} == {
                (OURS_HIGHER, 4): 0,
                (OURS_HIGHER, 6): 0,
            }
            ours = lab.vrrpd("a", our_configuration())
            lab.until(lambda: ours_has(OURS_HIGHER) and frr_has(peer, FRR_HIGHER), what="we preempt FRR")
            peer.stop()
            lab.until(lambda: ours_has(FRR_HIGHER, OURS_HIGHER), what="FRR is gone")
        with frr(lab, "b") as peer:
            lab.until(lambda: ours_has(OURS_HIGHER) and frr_has(peer, FRR_HIGHER), what="FRR comes back and preempts us")
        assert ours.stop() == 0
