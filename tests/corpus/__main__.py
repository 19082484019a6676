"""``make corpus DIR=…``: every configuration file of a folder under vrrpd and Debian's keepalived, and a table of what differs.

    python -m tests.corpus [DIR] [--only check,dump,live,reload,stop,pair] [--seconds 15]

check   the exit status of ``-t``
dump    the instances, VRIDs, priorities and addresses of keepalived.data (SIGUSR1)
live    after some seconds: addresses, routes, rules and nftables of the node, and the bytes of the advert
reload  the same after a SIGHUP
stop    what is left behind
pair    one of each on a switch, in both orders: every virtual address has one owner

Without DIR: the files of tests/corpus/variations.py. A comment ``# differs: STEP: reason`` in a file explains a difference. Needs
root; makes its own namespaces. A file that keepalived does not start with is only checked. Ends with 1 if a difference is unexplained.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.corpus.variations import write
from tests.lab import ROOT, Capture, Daemon, Lab, Node

STEPS = ("check", "dump", "live", "reload", "stop", "pair")
PROGRAMS = ("keepalived", "vrrpd")
ADVERT_AT = 23
"""Of the protocol in an Ethernet frame with IPv4."""


def prepare(lab: Lab, node: Node) -> None:
    """eth0 with an address of the variations' network, eth1 beside it, as /etc would have made them."""
    node.run("ip", "addr", "add", "192.168.200.1/24" if node.name == "a" else "192.168.200.2/24", "dev", "eth0")
    node.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far1")
    node.run("ip", "addr", "add", "192.168.201.1/24", "dev", "eth1")
    for name in ("eth1", "far1"):
        node.run("ip", "link", "set", name, "up")
    assert lab


def start(lab: Lab, node: str, program: str, text: str) -> Daemon:
    """One of the two daemons with this file."""
    return lab.vrrpd(node, text) if program == "vrrpd" else lab.keepalived(node, text)


def check(path: Path, program: str, node: Node) -> int:
    """The status of ``-t``."""
    argv = [sys.executable, "-m", "vrrp.daemon"] if program == "vrrpd" else ["keepalived"]
    whole = ["ip", "netns", "exec", node.namespace, "env", f"PYTHONPATH={ROOT}", *argv, "-t", "-f", str(path)]
    return subprocess.run(whole, capture_output=True, check=False, timeout=60).returncode


def kernel(node: Node) -> list[str]:
    """Everything that a VRRP daemon may have put there, in words that are the same for both."""
    found = []
    for link in json.loads(node.run("ip", "-j", "addr")):
        for info in link["addr_info"]:
            if info.get("scope") != "link" or info["family"] == "inet":
                words = (info["local"], info["prefixlen"], info.get("label", ""), info.get("broadcast", ""), info["scope"])
                found.append(f"address {link['ifname']} {words} {'deprecated' if info.get('deprecated') else ''}".strip())
    for family in ("-4", "-6"):
        routes = node.run("ip", family, "route", "show", "table", "all").replace("\n\t", " ").splitlines()
        found += [f"route {line.strip()}" for line in routes if "proto kernel" not in line and "fe80::/64" not in line]
        found += [f"rule {line.strip()}" for line in node.run("ip", family, "rule").splitlines()]
    text = re.sub(r"table (\S+) \S+", r"table \1 NAME", node.run("nft", "list", "ruleset", check=False))
    found += [f"nft {line.strip()}" for line in text.splitlines() if line.strip() and "counter" not in line]
    return sorted(re.sub(r" +", " ", line) for line in found)


def advert(capture: Capture) -> str:
    """The payload of the last advert, without what counts up."""
    capture.read()
    frames = [f for _, f in capture.frames if f[12:14] == b"\x08\x00" and f[ADVERT_AT] == 112]
    return frames[-1][34:].hex() if frames else "none"


def dumped(daemon: Daemon) -> list[str]:
    """What keepalived.data says of the instances."""
    path = Path("/tmp/keepalived.data")
    path.unlink(missing_ok=True)
    daemon.signal(signal.SIGUSR1)
    end = time.monotonic() + 3
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    text = path.read_text(errors="replace") if path.exists() else ""
    wanted = re.compile(r"(VRRP Instance|Virtual Router ID|Priority|Advert interval|Virtual IP|State = (MASTER|BACKUP|FAULT|INIT))")
    return [line.strip() for line in text.splitlines() if wanted.match(line.strip())]


def vips_of(text: str) -> list[str]:
    """The first virtual address of every instance."""
    return re.findall(r"virtual_ipaddress\s*\{\s*([0-9.]+)", text)


def settle(nodes: Iterable[Node], text: str, patience_s: float) -> None:
    """Until somebody owns every address, and a little longer; or so long that nobody will."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        held = {address for node in nodes for device in ("eth0", "eth1") for address in node.addresses(device)}
        if held.issuperset(vips_of(text)):
            break
        time.sleep(0.2)
    time.sleep(1.5)


def alone(program: str, text: str, seconds: float, wanted: Iterable[str]) -> dict[str, object]:
    """What one daemon does with the file on a node of its own."""
    seen: dict[str, object] = {}
    with Lab("a") as lab:
        node = lab.nodes["a"]
        prepare(lab, node)
        before, capture = kernel(node), lab.capture()
        daemon = start(lab, "a", program, text)
        settle([node], text, seconds)
        seen["live"] = [*(line for line in kernel(node) if line not in before), f"advert {advert(capture)}"]
        if "dump" in wanted:
            seen["dump"] = dumped(daemon)
        if "reload" in wanted:
            daemon.signal(signal.SIGHUP)
            time.sleep(1.5)
            seen["reload"] = [line for line in kernel(node) if line not in before]
        daemon.stop()
        seen["stop"] = [line for line in kernel(node) if line not in before]
    return seen


def pair(text: str, seconds: float) -> str:
    """Both orders; what is wrong, in words."""
    for order in (("vrrpd", "keepalived"), ("keepalived", "vrrpd")):
        with Lab("a", "b") as lab:
            for name in "ab":
                prepare(lab, lab.nodes[name])
            daemons = [start(lab, name, program, text.replace("200.1\n", "200.9\n")) for name, program in zip("ab", order, strict=True)]
            settle(lab.nodes.values(), text, seconds)
            for vip in vips_of(text):
                owners = [order[n] for n, name in enumerate("ab") if any(vip in line for line in kernel(lab.nodes[name]))]
                if len(owners) != 1:
                    return f"{order[0]} beside {order[1]}: {vip} owned by {' and '.join(owners) or 'nobody'}"
            for daemon in daemons:
                daemon.stop()
    return ""


def difference(theirs: object, ours: object) -> str:
    """Of two values, short; "" if there is none."""
    if theirs == ours:
        return ""
    if isinstance(theirs, list) and isinstance(ours, list):
        lines = [f"- {line}" for line in theirs if line not in ours] + [f"+ {line}" for line in ours if line not in theirs]
        return "; ".join(lines[:6]) + (f"; {len(lines) - 6} more" if len(lines) > 6 else "") if lines else "another order"
    return f"keepalived {theirs}, vrrpd {ours}"


def compare(path: Path, steps: tuple[str, ...], seconds: float) -> dict[str, str]:
    """Step → what differs, for one file."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    found: dict[str, str] = {}
    with Lab("a") as lab:
        prepare(lab, lab.nodes["a"])
        status = {program: check(path, program, lab.nodes["a"]) for program in PROGRAMS}
    if "check" in steps:
        found["check"] = difference(status["keepalived"], status["vrrpd"])
    if any(status.values()) or not set(steps) - {"check"} or not text.isascii():
        return found
    seen = {program: alone(program, text, seconds, steps) for program in PROGRAMS}
    for step in ("dump", "live", "reload", "stop"):
        if step in steps:
            found[step] = difference(seen["keepalived"].get(step), seen["vrrpd"].get(step))
    if "pair" in steps:
        found["pair"] = pair(text, seconds)
    return found


def main() -> int:
    """Entry."""
    parser = argparse.ArgumentParser(prog="make corpus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--only", default=",".join(STEPS))
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to wait for an owner")
    given = parser.parse_args()
    steps = tuple(step for step in STEPS if step in given.only.split(","))
    with tempfile.TemporaryDirectory() as scratch:
        paths = sorted(given.directory.glob("*.conf")) if given.directory else sorted(write(Path(scratch)))
        unexplained = 0
        for path in paths:
            text = path.read_bytes().decode("utf-8", "replace")
            reasons = dict(re.findall(r"# differs: (\w+): (.*)", text))
            found = {step: what for step, what in compare(path, steps, given.seconds).items() if what}
            unexplained += sum(step not in reasons for step in found)
            print(f"{path.name:40} {'same' if not found else ''}", flush=True)
            for step, what in found.items():
                print(f"    {step:7} {f'explained ({reasons[step]}): ' if step in reasons else ''}{what}", flush=True)
    print(f"{len(paths)} files, {unexplained} unexplained differences")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
