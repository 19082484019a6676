"""The same file, vrrpd and Debian's keepalived, each in its namespace: the kernel's tables must be the same in every phase of their lives.

Runs in the lab's guest: see tests/guest.py. Starting a daemon is dear there, so all configurations stand in one file, each with virtual
addresses, marks and group names of its own, and each is compared by itself. Servers without checkers are in the pool from the start.
"""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.lab import Daemon, Lab

PORT = 9001
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq")
WEB, WEB6 = "virtual_server 10.9.0.1 80", "virtual_server fd09::1 80"
ONE, TWO = "real_server 10.9.1.1 80", "real_server 10.9.1.2 8080"
ONE6 = "real_server fd09::11 80"


def block(head: str, *lines: str) -> str:
    """A configuration block."""
    return head + " {\n  " + "\n  ".join(lines).replace("\n", "\n  ") + "\n}"


def service(
    *lines: str, head: str = WEB, protocol: str = "TCP", servers: Sequence[str] = (block(ONE, "weight 3"), block(TWO, "weight 1"))
) -> str:
    """A virtual server that says its protocol."""
    return block(head, f"protocol {protocol}", *lines, *servers)


def group(*members: str) -> str:
    """A group of addresses or marks, and a service on it."""
    return block("virtual_server_group g", *members) + "\n"


SAME = {
    "defaults": service(),
    **{f"lb_algo {name}": service(f"lb_algo {name}") for name in SCHEDULERS},
    "lvs_sched": service("lvs_sched rr"),
    **{f"lb_kind {kind}": service(f"lb_kind {kind}") for kind in ("NAT", "DR", "TUN")},
    "tun gue": service("lvs_method TUN type gue port 6080 csum"),
    "tun gue remcsum": service("lvs_method TUN type gue port 6080 remcsum"),
    "tun gre": service("lvs_method TUN type gre nocsum"),
    "tun ipip": service("lvs_method TUN type ipip"),
    "method of one server": service("lb_kind DR", servers=(block(ONE, "lvs_method NAT"), block(TWO, "lvs_method TUN"))),
    "udp": service(protocol="UDP"),
    "sctp": service(protocol="SCTP"),
    "protocol not said": block(WEB, "lb_algo rr", block(ONE, "weight 1")),
    "one packet": service("ops", protocol="UDP"),
    "persistent": service("persistence_timeout 50"),
    "persistent by default time": service("persistence_timeout"),
    "persistent by net": service("persistence_timeout 50", "persistence_granularity 255.255.255.0"),
    "persistent by engine": service("persistence_timeout 50", "persistence_engine sip", protocol="UDP"),
    "sh flags": service("lb_algo sh", "sh-port", "sh-fallback"),
    "hashed": service("lb_algo sh", "hashed"),
    "mh flags": service("lb_algo mh", "mh-port", "mh-fallback"),
    "all flags": service("lb_algo rr", "flag-1", "flag-2", "flag-3"),
    "thresholds": service(servers=(block(ONE, "weight 1", "uthreshold 20", "lthreshold 10"),)),
    "weight 0": service(servers=(block(ONE, "weight 0"), block(TWO, "weight 1"))),
    "weight of the service": service("weight 7", servers=(block(ONE, "inhibit_on_failure"),)),
    "big weight": service(servers=(block(ONE, "weight 65535"),)),
    "sorry server not needed": service("sorry_server 10.9.1.9 80"),
    "sorry server by its own method": service("quorum 10", "sorry_server 10.9.1.9 80", "sorry_server_lvs_method DR"),
    "quorum not reached": service("quorum 10", "sorry_server 10.9.1.9 80"),
    "alpha without checkers": service("alpha"),
    "ipv6": service(head=WEB6, servers=(block(ONE6, "weight 2"),)),
    "ipv6 persistent": service("persistence_timeout 50", "persistence_granularity 64", head=WEB6, servers=(block(ONE6, "weight 2"),)),
    "ipv6 with an ipv4 tunnel": service("lb_kind TUN", head=WEB6, servers=(block(ONE6, "weight 2"), block(ONE, "weight 1"))),
    "ipv4 with an ipv6 tunnel": service("lb_kind TUN", servers=(block(ONE6, "weight 2"), block(ONE, "weight 1"))),
    "firewall mark": service(head="virtual_server fwmark 7"),
    "firewall mark ipv6": service(head="virtual_server fwmark 7", servers=(block(ONE6, "weight 2"),)),
    "firewall mark with a family": service("ip_family inet6", "lb_kind TUN", head="virtual_server fwmark 7"),
    "every port, persistent": service("persistence_timeout 50", head="virtual_server 10.9.0.1", servers=(block("real_server 10.9.1.1"),)),
    "server without a port": service(servers=(block("real_server 10.9.1.1", "weight 1"),)),
    "group": group("10.9.0.1 80", "10.9.0.2 8080") + service(head="virtual_server group g"),
    "group with a range": group("10.9.0.1-4 80") + service(head="virtual_server group g"),
    "group with a mark": group("fwmark 7", "10.9.0.2 8080") + service(head="virtual_server group g"),
    "group of ipv6": group("fd09::1 80", "fd09::5-7 443") + service(head="virtual_server group g", servers=(block(ONE6, "weight 1"),)),
    "group of marks": group("fwmark 7", "fwmark 8") + service(head="virtual_server group g"),
    "group and dr": group("10.9.0.1 80", "10.9.0.2 8080") + service("lb_kind DR", head="virtual_server group g"),
    "two services": service() + "\n" + service("lb_kind DR", head=WEB6, servers=(block(ONE6, "weight 2"),)),
}


GOOD, BAD, BAD_TOO = (f"real_server 127.0.0.{number} {PORT}" for number in (2, 3, 4))
CHECK = "TCP_CHECK {\n connect_timeout 2\n retry 0\n}"
QUICK = ("delay_loop 1", "warmup 0", "lb_algo rr")


def checked(*lines: str, heads: Sequence[str] = (GOOD, BAD), options: Sequence[str] = ()) -> str:
    """A service whose servers are probed."""
    return service(*QUICK, *lines, servers=tuple(block(head, *options, CHECK) for head in heads))


CHECKED = {
    "one of two fails": checked(),
    "one of two fails and is inhibited": checked(options=("weight 3", "inhibit_on_failure")),
    "all inhibited by the service": checked("inhibit_on_failure"),
    "all fail": checked(heads=(BAD, BAD_TOO)),
    "all fail, alpha": checked("alpha", heads=(BAD, BAD_TOO)),
    "all fail, sorry server": checked("sorry_server 127.0.0.9 80", heads=(BAD, BAD_TOO)),
    "all fail and are inhibited, sorry server": checked("sorry_server 127.0.0.9 80", "inhibit_on_failure", heads=(BAD, BAD_TOO)),
    "all fail, sorry server inhibits": checked("sorry_server 127.0.0.9 80", "sorry_server_inhibit", heads=(BAD, BAD_TOO)),
    "quorum lost, one lives": checked("sorry_server 127.0.0.9 80", "quorum 2"),
    "quorum lost, no sorry server": checked("quorum 2"),
    "quorum kept by weight": checked("sorry_server 127.0.0.9 80", "quorum 2", options=("weight 2",)),
    "alpha": checked("alpha"),
    "group": group("10.9.0.1 80", "10.9.0.2 81", "fwmark 7") + checked().replace(WEB, "virtual_server group g"),
}
pytestmark = pytest.mark.timeout(300)
CONFIGURATIONS = {**SAME, **CHECKED}
PHASES = ("start", "failure", "all fail", "recovery", "reload to the next file", "failure after a reload", "reload while failed", "stop")
RELOADED = PHASES[PHASES.index("reload to the next file") :]
"""A group whose members change family or kind by a reload, and a sorry server that is inhibited no more: keepalived 2.2.7 leaves the old
services and the old weight 0 in the kernel, even when it ends. There ours is measured by what a fresh start makes of the file."""
LEFT_BEHIND = {name for name in CONFIGURATIONS if name.startswith("group")} | {"all fail, sorry server inhibits"}
PATIENCE_S, STEADY_S = 25, 2.5
KEY = re.compile(r"10\.10\.(\d+)\.|fd09:(\d+)::|(?:-f |FWM +)(\d+)\d")


def placed(text: str, number: int) -> str:
    """A configuration that shares nothing with the others, by its number."""
    text = text.replace("10.9.0.", f"10.10.{number}.").replace("fd09::", f"fd09:{number}::")
    return text.replace("fwmark ", f"fwmark {number}").replace("group g", f"group g{number}")


def file_of(shift: int = 0) -> str:
    """All configurations; with a shift each stands in the place of another one."""
    texts = list(CONFIGURATIONS.values())
    return "\n".join(placed(texts[(place + shift) % len(texts)], place + 1) for place in range(len(texts))) + "\n"


Tables = dict[str, list[str]]


def split(lines: Sequence[str]) -> Tables:
    """The lines about each configuration by its name."""
    names, found = list(CONFIGURATIONS), {name: [] for name in CONFIGURATIONS}
    for line in lines:
        match = KEY.search(line)
        assert match, line
        found[names[int(next(filter(None, match.groups()))) - 1]].append(line)
    return {name: sorted(chosen) for name, chosen in found.items()}


def neutral(lines: Sequence[str]) -> list[str]:
    """A configuration's table without the marks of its place."""
    text = re.sub(r"10\.10\.\d+\.", "10.9.0.", "\n".join(lines))
    return sorted(re.sub(r"(-f |FWM +)\d+(\d)", r"\1\2", re.sub(r"fd09:\d+::", "fd09::", text)).splitlines())


def comparable(phase: str) -> list[str]:
    """The configurations in which keepalived can be the measure."""
    return [name for name in CONFIGURATIONS if phase not in RELOADED or name not in LEFT_BEHIND]


class Servers:
    """127.0.0.2, .3 and .4 in both namespaces: listening or refusing."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._open: dict[tuple[str, int], socket.socket] = {}

    def listen(self, *numbers: int) -> None:
        """These listen, the others refuse."""
        for name, node in self._lab.nodes.items():
            for number in (2, 3, 4):
                listener = self._open.pop((name, number), None)
                if listener is not None and number not in numbers:
                    listener.close()
                elif listener is not None:
                    self._open[name, number] = listener
                elif number in numbers:
                    fresh = node.socket(socket.AF_INET, socket.SOCK_STREAM)
                    fresh.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    fresh.bind((f"127.0.0.{number}", PORT))
                    fresh.listen(4096)
                    self._open[name, number] = fresh


@dataclass
class Story:
    """What the two tables were at the end of each phase."""

    lab: Lab
    tables: dict[tuple[str, str], Tables] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def table(self, who: str) -> Tables:
        """All that ipvsadm can say of one namespace."""
        saved = self.lab.nodes[who].run("ipvsadm", "-Sn").splitlines()
        service = ""
        for line in self.lab.nodes[who].run("ipvsadm", "-Ln", "--thresholds").splitlines()[3:]:
            if line.startswith("  ->"):
                saved.append(f"{service} {' '.join(line.split()[:4])}")
            else:
                service = line.strip()
        return split([line.strip() for line in saved])

    def settle(self, phase: str, moved: Callable[[Tables], bool]) -> None:
        """Wait until both tables have moved, stand still and are equal, or until patience ends."""
        begin = since = time.monotonic()
        before: list[Tables] = []
        while True:
            now = [self.table(who) for who in ("ours", "theirs")]
            if now != before or not all(map(moved, now)):
                before, since = now, time.monotonic()
            still_s = time.monotonic() - since
            same = all(now[0][name] == now[1][name] for name in comparable(phase))
            if still_s > (STEADY_S if same else 3 * STEADY_S) or time.monotonic() - begin > PATIENCE_S:
                break
            time.sleep(0.3)
        self.tables[phase, "ours"], self.tables[phase, "theirs"] = now
        self.seconds[phase] = time.monotonic() - begin


def reload(daemons: Sequence[Daemon], text: str) -> None:
    """Give both a new file."""
    for daemon in daemons:
        (daemon.directory / "conf").write_text(text)
        daemon.signal(signal.SIGHUP)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with Lab("ours", "theirs") as lab:
        told, servers, probe = Story(lab), Servers(lab), "one of two fails"
        servers.listen(2, 3, 4)
        home = lab.home("theirs")
        (home / "conf").write_text(file_of())
        argv = ["keepalived", "-C", "-n", "-l", "-f", f"{home}/conf", "-p", f"{home}/pid", "-c", f"{home}/checkers.pid"]
        daemons = [lab.start("theirs", argv, home), lab.vrrpd("ours", file_of(), "-C")]

        def living(*numbers: int) -> Callable[[Tables], bool]:
            wanted = {f"127.0.0.{number}:{PORT}" for number in numbers}
            return lambda table: wanted == {word for line in table[probe] for word in line.split() if word.startswith("127.")}

        told.settle("start", living(2, 3))
        servers.listen(2)
        told.settle("failure", living(2))
        servers.listen()
        told.settle("all fail", living())
        servers.listen(2, 3, 4)
        told.settle("recovery", living(2, 3))
        reload(daemons, file_of(shift=1))
        told.settle("reload to the next file", lambda table: table["defaults"] != told.tables["start", "theirs"]["defaults"])
        last = told.tables["reload to the next file", "theirs"]
        servers.listen(2)
        told.settle("failure after a reload", lambda table: table[probe] != last[probe])
        reload(daemons, file_of())
        told.settle("reload while failed", lambda table: table["defaults"] == told.tables["start", "theirs"]["defaults"])
        for daemon in daemons:
            daemon.signal(signal.SIGTERM)
        told.settle("stop", lambda table: not table["defaults"])
        print({phase: round(value, 1) for phase, value in told.seconds.items()})
        yield told


@pytest.mark.shows(
    "virtual_server_group",
    "virtual_server/lb_algo",
    "virtual_server/lvs_sched",
    "virtual_server/lb_kind",
    "virtual_server/lvs_method",
    "virtual_server/protocol",
    "virtual_server/ops",
    "virtual_server/persistence_timeout",
    "virtual_server/persistence_granularity",
    "virtual_server/persistence_engine",
    "virtual_server/sh-port",
    "virtual_server/sh-fallback",
    "virtual_server/mh-port",
    "virtual_server/mh-fallback",
    "virtual_server/flag-1",
    "virtual_server/flag-2",
    "virtual_server/flag-3",
    "virtual_server/weight",
    "virtual_server/sorry_server",
    "virtual_server/sorry_server_lvs_method",
    "virtual_server/quorum",
    "virtual_server/ip_family",
    "virtual_server/real_server",
    "virtual_server/real_server/weight",
    "virtual_server/real_server/lvs_method",
    "virtual_server/real_server/uthreshold",
    "virtual_server/real_server/lthreshold",
    "virtual_server/sorry_server_inhibit",
    "virtual_server/inhibit_on_failure",
    "virtual_server/alpha",
    "virtual_server/real_server/TCP_CHECK",
    "virtual_server/real_server/inhibit_on_failure",
)
@pytest.mark.parametrize(("phase", "name"), [(phase, name) for phase in PHASES for name in comparable(phase)])
def test_the_same_table(story: Story, phase: str, name: str) -> None:
    ours, theirs = story.tables[phase, "ours"][name], story.tables[phase, "theirs"][name]
    assert ours == theirs, CONFIGURATIONS[name]
    assert bool(ours) == (phase != "stop")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_reload_ends_where_a_start_does(story: Story, name: str) -> None:
    names = list(CONFIGURATIONS)
    following = names[(names.index(name) + 1) % len(names)]
    for reloaded, fresh, source in (
        ("reload to the next file", "start", following),
        ("failure after a reload", "failure", following),
        ("reload while failed", "failure", name),
    ):
        assert neutral(story.tables[reloaded, "ours"][name]) == neutral(story.tables[fresh, "ours"][source]), reloaded
    assert story.tables["stop", "ours"][name] == []


def test_recovery_ends_where_it_began(story: Story) -> None:
    assert story.tables["recovery", "ours"] == story.tables["start", "ours"]


@pytest.mark.parametrize("name", CHECKED)
def test_a_failure_shows(story: Story, name: str) -> None:
    """Two tables may only be called equal after something happened to them."""
    assert story.tables["all fail", "ours"][name] != story.tables["start", "ours"][name]
