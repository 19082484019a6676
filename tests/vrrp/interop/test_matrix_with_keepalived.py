"""Debian's keepalived × ours: {v2, v3} × {IPv4, IPv6} × {multicast, unicast} × {no auth, PASS, AH} × {VMAC, none} × who is master.

A pair of daemons lives once per role with a virtual router per cell (two: one preempts, one does not), both pairs at the same time:

    election · a cut that nobody's interface notices · heal · SIGTERM · the higher one returns · end

In one pair vrrpd has the higher priorities, in the other keepalived, with the very same two files. So each daemon says on the wire what
the other one said for the same file, and the frames must be equal byte for byte. Every cell of the matrix is a test of its own; those
that VRRP does not have are tests of what both daemons say when they check the file.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

from base.diagnostics import Severity
from tests.lab import Capture, Daemon, Lab, Node, ip
from vrrp.config.load import read_config

pytestmark = [pytest.mark.system, pytest.mark.timeout(240), pytest.mark.xdist_group("matrix")]

ROLES = ("ours master", "ours backup")
HIGHER, LOWER = 150, 100
PASSWORD = "geheimes"
NODE_MAC = "02:00:00:77:00:0{}"


@dataclass(frozen=True)
class Cell:
    """A column of the matrix without the role."""

    version: int
    family: int
    unicast: bool
    auth: str
    vmac: bool

    def __str__(self) -> str:
        words = [f"v{self.version}", f"IPv{self.family}", "unicast" if self.unicast else "multicast", self.auth or "no auth"]
        return " ".join([*words, "VMAC"] if self.vmac else words)

    @property
    def exists(self) -> bool:
        """RFC 5798: IPv6 is version 3, and version 3 has no authentication."""
        return (self.version == 3 and not self.auth) or (self.version == 2 and self.family == 4)

    def ethernet_source(self, vrid: int, port: str) -> bytes:
        """The virtual MAC (RFC 5798 section 7.3); unicast adverts leave by the interface itself."""
        if self.vmac and not self.unicast:
            return bytes((0, 0, 0x5E, 0, 1 if self.family == 4 else 2, vrid))
        return bytes.fromhex(NODE_MAC.format(port.removeprefix("p")).replace(":", ""))

    def block(self, vrid: int, me: Node, peer: Node, priority: int, *, preempt: bool, name: str = "") -> str:
        """The vrrp_instance."""
        lines = ["state BACKUP", "interface eth0", f"virtual_router_id {vrid}", f"priority {priority}", f"version {self.version}"]
        lines.append(f"advert_int {1 if self.version == 2 else 0.25}")
        if self.auth:
            lines.append(f"authentication {{\nauth_type {self.auth}\nauth_pass {PASSWORD}\n}}")
        if self.unicast:
            mine, theirs = (me.address6, peer.address6) if self.family == 6 else (me.address, peer.address)
            lines += [f"unicast_src_ip {mine}", f"unicast_peer {{\n{theirs}\n}}"]
            lines += ["unicast_ttl 255"] if self.family == 6 else []
        if self.vmac:
            lines.append(f"use_vmac vrrp.{vrid}")
        if not preempt:
            lines.append("nopreempt")
        addresses = (
            (f"fe80::1:{vrid:x}/64\nfd77::1:{vrid:x}/64") if self.family == 6 else f"10.77.1.{vrid}/32"
        )  # in one subnet, the first to go would take the others along
        return "\n".join([f"vrrp_instance {name or f'V{vrid}'} {{", *lines, f"virtual_ipaddress {{\n{addresses}\n}}", "}"])


CELLS = [Cell(*axes) for axes in product((2, 3), (4, 6), (False, True), ("", "PASS", "AH"), (False, True))]
LIVING = [cell for cell in CELLS if cell.exists]
ROUTERS = {1 + 2 * number + (not preempt): (cell, preempt) for number, cell in enumerate(LIVING) for preempt in (True, False)}
"""VRID to its cell and whether it preempts."""


def service(vrid: int) -> str:
    return f"fd77::1:{vrid:x}" if ROUTERS[vrid][0].family == 6 else f"10.77.1.{vrid}"


def configuration(me: Node, peer: Node, priority: int) -> str:
    blocks = [cell.block(vrid, me, peer, priority, preempt=preempt) for vrid, (cell, preempt) in ROUTERS.items()]
    return "\n".join(["global_defs {\nrouter_id lab\nvrrp_garp_master_delay 1\n}", *blocks, ""])


# ---- what is seen ---------------------------------------------------------------------------------------------------


@dataclass
class Advert:
    """An advert on the wire: who sent it, for which router, and the frame without what must differ each time."""

    port: str
    vrid: int
    priority: int
    frame: bytes
    at_s: float = field(default_factory=time.monotonic)
    """When it was read, a few hundredths late."""


def parsed(port: str, frame: bytes) -> Advert | None:
    """None for other frames. Blanked: IPv4 id and header checksum, IPv6 flow label, AH's number and ICV."""
    kind = frame[12:14]
    if kind == b"\x86\xdd" and frame[20] == 112:
        return Advert(port, frame[55], frame[56], frame[:15] + bytes([frame[15] & 0xF0]) + b"\0\0" + frame[18:])
    if kind != b"\x08\x00" or frame[23] not in (51, 112):
        return None
    at = 34 if frame[23] == 112 else 58
    bare = frame[:18] + b"\0\0" + frame[20:24] + b"\0\0" + frame[26:]
    if at == 58:
        bare = bare[:42] + bytes(16) + bare[58:]
    return Advert(port, frame[at + 1], frame[at + 2], bare)


def announced(frames: Iterable[tuple[str, bytes]], port: str) -> set[str]:
    """The addresses in gratuitous ARPs and unsolicited neighbour advertisements of a port, in hexadecimal."""
    found = set()
    for sender, frame in frames:
        if sender != port:
            continue
        if frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42]:
            found.add(frame[28:32].hex())
        elif frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136:
            found.add(frame[62:78].hex())
    return found


def in_hex(vrid: int) -> str:
    return f"fd77{0:020x}0001{vrid:04x}" if ROUTERS[vrid][0].family == 6 else f"0a4d01{vrid:02x}"


@dataclass
class Life:
    """What one pair showed."""

    role: str
    wrong: dict[int, list[str]] = field(default_factory=lambda: {vrid: [] for vrid in ROUTERS})
    adverts: list[Advert] = field(default_factory=list)
    handover_s: float = 0.0
    phases: list[tuple[float, str]] = field(default_factory=list)

    def story(self, vrid: int) -> str:
        """For the message of a failed test: when each phase began, and who said which priority (changes only)."""
        said: list[tuple[float, str]] = []
        for advert in self.adverts:
            word = f"{advert.port} says {advert.priority}"
            if advert.vrid == vrid and (not said or said[-1][1] != word):
                said.append((round(advert.at_s, 2), word))
        return "\n".join(f"{at_s} {what}" for at_s, what in sorted(self.phases + said))

    def frames(self, port: str, vrid: int, *, leaving: bool) -> set[bytes]:
        """Distinct adverts: those with priority 0, or the others."""
        return {a.frame for a in self.adverts if (a.port, a.vrid) == (port, vrid) and (a.priority == 0) == leaving}


class Pair:
    """Nodes a (higher) and b (lower) of one role."""

    def __init__(self, lab: Lab, role: str) -> None:
        self.lab = lab
        self.life = Life(role)
        self.a, self.b = lab.nodes["a"], lab.nodes["b"]
        for node in (self.a, self.b):
            _fixed_mac(node, NODE_MAC.format(node.port.removeprefix("p")))
        self.capture: Capture = lab.capture()
        ours_first = role == "ours master"
        self.start_a: Callable[..., Daemon] = lab.vrrpd if ours_first else lab.keepalived
        self.start_b: Callable[..., Daemon] = lab.keepalived if ours_first else lab.vrrpd
        self.conf_a, self.conf_b = configuration(self.a, self.b, HIGHER), configuration(self.b, self.a, LOWER)

    def owners(self) -> dict[int, str]:
        """VRID to the names of the nodes that hold its address."""
        held = {node.name: _addresses(node) for node in (self.a, self.b)}
        return {vrid: "".join(name for name in "ab" if service(vrid) in held[name]) for vrid in ROUTERS}

    def expect(self, phase: str, wanted: Callable[[int], str], within_s: float = 12.0, *, for_s: float = 0.0) -> float:
        """Until every router is held by ``wanted(vrid)``, then for ``for_s`` more; who is not is put down. Returns how long it took."""
        begin = time.monotonic()
        wrong = dict.fromkeys(ROUTERS, "")
        while wrong and time.monotonic() - begin < within_s:
            wrong = {vrid: owner for vrid, owner in self.owners().items() if owner != wanted(vrid)}
            self.read()
        took = time.monotonic() - begin
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            wrong |= {vrid: owner for vrid, owner in self.owners().items() if owner != wanted(vrid)}
            self.read()
            time.sleep(0.05)
        self.life.phases.append((round(begin, 2), phase))
        for vrid, owner in wrong.items():
            self.life.wrong[vrid].append(f"{phase}: held by {owner or 'nobody'!r}, not {wanted(vrid)!r}")
        return took

    def read(self) -> list[tuple[str, bytes]]:
        """Fresh frames."""
        fresh = self.capture.read()
        self.life.adverts += [advert for port, frame in fresh if (advert := parsed(port, frame)) is not None]
        return fresh

    def port(self, *words: str) -> None:
        """Set what the switch does with node a's frames; its link stays up."""
        subprocess.run(["bridge", "-n", self.lab.switch, "link", "set", "dev", self.a.port, *words], check=True, timeout=20)

    def live(self) -> Life:
        """All phases."""
        first = self.start_a("a", self.conf_a)
        self.expect("election: a is alone", lambda vrid: "a", 20)
        second = self.start_b("b", self.conf_b)
        self.expect("election: b joins", lambda vrid: "a", for_s=2.0)
        self.port("state", "disabled")
        self.expect("failover: a is cut off and does not know it", lambda vrid: "ab")
        self.read()
        cut = len(self.capture.frames)
        self.port("state", "forwarding")
        self.read()
        healed = len(self.life.adverts)
        self.expect("heal: the higher priority wins, preempting or not", lambda vrid: "a", for_s=2.0)
        if self.life.role == "ours master":
            # A keepalived that hears us first leaves without a word, and we cannot know that there were two (docs/adr/0104).
            heard = {advert.vrid for advert in self.life.adverts[healed:] if advert.port == self.b.port}
            after = announced(self.capture.frames[cut:], self.a.port)
            for vrid in heard:
                if in_hex(vrid) not in after:
                    self.life.wrong[vrid].append("heal: the winner heard the other one and did not announce its address again")
        first.signal(signal.SIGTERM)
        self.life.handover_s = self.expect("handover: a says priority 0", lambda vrid: "b")
        first.stop()
        self.read()
        third = self.start_a("a", self.conf_a)
        self.expect("a returns: who preempts takes over", lambda vrid: "a" if ROUTERS[vrid][1] else "b", for_s=1.0)
        second.signal(signal.SIGTERM)
        self.expect("b leaves", lambda vrid: "a")
        for daemon in (second, third):
            if daemon.stop() != 0:
                raise AssertionError(f"exit status {daemon.process.returncode}")
        self.expect("the end", lambda vrid: "")
        self.read()
        return self.life


def _fixed_mac(node: Node, mac: str) -> None:
    """The same addresses in both labs; the global IPv6 address goes away with the link."""
    for words in (("down",), ("address", mac), ("up",)):
        ip("-n", node.namespace, "link", "set", "eth0", *words)
    ip("-n", node.namespace, "addr", "replace", f"{node.address6}/64", "dev", "eth0", "nodad")


def _addresses(node: Node) -> set[str]:
    links = json.loads(ip("-n", node.namespace, "-j", "addr", "show"))
    return {info["local"] for link in links for info in link.get("addr_info", ()) if "local" in info}


def _live(role: str) -> Life:
    with Lab("a", "b") as lab:
        return Pair(lab, role).live()


@pytest.fixture(scope="module")
def lives() -> dict[str, Life]:
    """Both pairs, at the same time."""
    with ThreadPoolExecutor(len(ROLES)) as pool:
        return dict(zip(ROLES, pool.map(_live, ROLES)))


# ---- the matrix -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("cell", LIVING, ids=str)
def test_cell(lives: dict[str, Life], cell: Cell, role: str) -> None:
    vrids = [vrid for vrid, (of, _preempt) in ROUTERS.items() if of == cell]
    assert len(vrids) == 2
    for vrid in vrids:
        word = "preempt" if ROUTERS[vrid][1] else "nopreempt"
        assert lives[role].wrong[vrid] == [], f"{cell}, {word}, {role}\n{lives[role].story(vrid)}"
        for port in ("p1", "p2"):
            ours, theirs = (lives[r].frames(port, vrid, leaving=False) for r in ROLES)
            assert len(ours) == 1, "one and the same advert all the time"
            assert ours == theirs, "the same file, the same bytes"
            assert ours.pop()[6:12] == cell.ethernet_source(vrid, port)
        ours, theirs = (lives[r].frames("p1", vrid, leaving=True) for r in ROLES)
        assert len(ours) == 1 and ours == theirs, "the last word, priority 0"


@pytest.mark.parametrize("role", ROLES)
def test_a_handover_needs_no_master_down_interval(lives: dict[str, Life], role: str) -> None:
    assert lives[role].handover_s < 3.0, "3.6 s is the interval of a v2 router"


@pytest.fixture(scope="module")
def checking() -> Iterable[Lab]:
    """A place with an eth0 for keepalived -t."""
    with Lab("a", "b") as lab:
        yield lab


THEIR_WORDS = {
    (2, 6, ""): "",
    (2, 6, "PASS"): "",
    (2, 6, "AH"): "Cannot use AH authentication with IPv6. ignoring",
    (3, 4, "PASS"): "VRRP version 3 does not support authentication. Ignoring.",
    (3, 4, "AH"): "VRRP version 3 does not support authentication. Ignoring.",
    (3, 6, "PASS"): "VRRP version 3 does not support authentication. Ignoring.",
    (3, 6, "AH"): "VRRP version 3 does not support authentication. Ignoring.",
}
"""What keepalived 2.2.7 says when it checks a file with something that VRRP does not have; it goes on all the same. It says nothing
about version 2 over IPv6 (it uses version 3) nor about a password there (it drops it)."""


@pytest.mark.parametrize("cell", [cell for cell in CELLS if not cell.exists], ids=str)
def test_what_does_not_exist_is_corrected_alike(checking: Lab, cell: Cell, tmp_path: Path) -> None:
    """Both go on with version 3 and without authentication. Ours always says so, where it stands: a note about the version, a warning about
    the authentication."""
    path = tmp_path / "keepalived.conf"
    path.write_text(cell.block(7, checking.nodes["a"], checking.nodes["b"], 100, preempt=True, name="V") + "\n")
    argv = ["ip", "netns", "exec", checking.nodes["a"].namespace, "keepalived", "-t", "-f", str(path)]
    theirs = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    words = THEIR_WORDS[cell.version, cell.family, cell.auth]
    lines = [line for line in theirs.stderr.splitlines() if "use_vmac" not in line]
    assert lines == ([f"(V) {words}"] if words else [])
    assert theirs.returncode == (5 if theirs.stderr else 0), "a complaint is status 5, and it runs all the same"
    loaded = read_config(str(path), config_id="a", interface_exists=lambda name: name == "eth0")
    assert not loaded.errors
    (ours,) = loaded.config.instances
    assert (ours.version, ours.authentication.kind.value) == (3, "none")
    said = {(d.severity, path.read_text().splitlines()[d.position.line - 1].split()[0]) for d in loaded.diagnostics}
    assert ((Severity.WARNING, "authentication") in said) == bool(cell.auth)
    assert ((Severity.NOTE, "version") in said) == (cell.version == 2)


def test_the_matrix_is_complete() -> None:
    living, others = [c for c in CELLS if c.exists], [c for c in CELLS if not c.exists]
    assert (len(CELLS) * len(ROLES), len(living) * len(ROLES), len(others) * len(ROLES)) == (96, 40, 56)
