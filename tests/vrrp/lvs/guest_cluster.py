"""The classical tutorial's cluster on vrrpd alone: two directors, two web servers, one for sorry, by NAT, DR and tunnel, in IPv4 and IPv6.

One VRRP instance holds a virtual address for each method; every service runs at the same time, so two daemons serve all cases. Tests
stand in the order of the story. Runs in the lab's guest: see tests/guest.py.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.lab import Daemon, Lab, Node, ip
from tests.vrrp.lvs.director_lab import LONG_CHUNKS, WebServer, ask, batch, eventually, tunnel_ends, write_sysctls

WEBS, SPARE = ("web1", "web2"), "tele"
METHODS = {"DR": 1, "NAT": 2, "TUN": 3}
VIPS = {f"{method} IPv{family}": f"{'10.77.0.10' if family == 4 else 'fd77::1:'}{n}" for method, n in METHODS.items() for family in (4, 6)}
PERSISTENT, GATEWAY, GATEWAY6 = "10.77.0.108", "10.77.0.109", "fd77::1:9"
PATIENCE_S = 60
pytestmark = pytest.mark.timeout(240)


def virtual_server(lab: Lab, name: str, address: str, *lines: str) -> str:
    """One service on both web servers, with the sorry server."""
    method, family = name.split()

    def at(node: str) -> str:
        return lab.nodes[node].address if family == "IPv4" else lab.nodes[node].address6

    check = "TCP_CHECK {\n connect_timeout 3\n retry 1\n delay_before_retry 0.2\n }\n"
    servers = "".join(f" real_server {at(node)} 80 {{\n {check} }}\n" for node in WEBS)
    options = "".join(f" {line}\n" for line in ("delay_loop 1", "warmup 0", "lb_algo rr", f"lb_kind {method}", "protocol TCP", *lines))
    return f"virtual_server {address} 80 {{\n{options} sorry_server {at(SPARE)} 80\n{servers}}}\n"


def configuration(lab: Lab, priority: int) -> str:
    """A director's file."""
    addresses4 = [*(vip for vip in VIPS.values() if ":" not in vip), PERSISTENT, GATEWAY]
    addresses6 = [*(vip for vip in VIPS.values() if ":" in vip), GATEWAY6]
    return (
        "global_defs {\n vrrp_version 3\n lvs_sync_daemon eth0 V\n}\n"
        f"vrrp_instance V {{\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 51\n priority {priority}\n advert_int 0.3\n"
        f" virtual_ipaddress {{\n {chr(10).join(f'{vip}/24' for vip in addresses4)}\n }}\n"
        f" virtual_ipaddress_excluded {{\n {chr(10).join(f'{vip}/64' for vip in addresses6)}\n }}\n}}\n"
        + "".join(virtual_server(lab, name, vip) for name, vip in VIPS.items())
        + virtual_server(lab, "DR IPv4", PERSISTENT, "persistence_timeout 60")
    )


class Cluster(Lab):
    """The nodes, wired as the tutorial says; ``directors`` are running daemons by node."""

    def __init__(self) -> None:
        super().__init__("client", "dir1", "dir2", *WEBS, SPARE)
        self.directors: dict[str, Daemon] = {}

    def __enter__(self) -> Cluster:
        super().__enter__()
        for name, node in self.nodes.items():
            write_sysctls(node, 0, "ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter", "ipv4/conf/eth0/rp_filter")
            write_sysctls(node, 0, "ipv4/conf/all/send_redirects", "ipv4/conf/eth0/send_redirects", "ipv6/conf/eth0/accept_redirects")
            if name.startswith("dir"):
                write_sysctls(node, 1, "ipv4/ip_forward", "ipv6/conf/all/forwarding")
            elif name != "client":
                self._prepare_server(node)
        self.servers = {name: WebServer(self.nodes[name]) for name in (*WEBS, SPARE)}
        return self

    def _prepare_server(self, node: Node) -> None:
        """Virtual addresses on ``lo`` that ARP hides; what NAT changed goes back through the director."""
        write_sysctls(node, 1, "ipv4/conf/all/arp_ignore")
        write_sysctls(node, 2, "ipv4/conf/all/arp_announce")
        client = self.nodes["client"]
        lines = [f"addr add {vip}/128 dev lo nodad" if ":" in vip else f"addr add {vip}/32 dev lo" for vip in (*VIPS.values(), PERSISTENT)]
        lines += [f"route add {client.address}/32 via {GATEWAY} table 100", f"rule add from {node.address} to {client.address} table 100"]
        batch(node, *lines, *tunnel_ends(node))
        ip("-n", node.namespace, "-6", "route", "add", f"{client.address6}/128", "via", GATEWAY6, "table", "100")
        ip("-n", node.namespace, "-6", "rule", "add", "from", node.address6, "to", client.address6, "table", "100")

    def close(self) -> None:
        """Close the servers too."""
        for server in getattr(self, "servers", {}).values():
            server.stop()
        super().close()

    def direct(self, name: str) -> None:
        """Start a director."""
        self.directors[name] = self.vrrpd(name, configuration(self, {"dir1": 150, "dir2": 100}[name]))

    def masters(self) -> list[str]:
        """Directors that hold an address."""
        return [name for name in self.directors if self.nodes[name].holds(GATEWAY)]

    def pools(self, director: str) -> dict[str, set[str]]:
        """Who is in a director's table by virtual address."""
        found: dict[str, set[str]] = {}
        names = {f"[{node.address6}]:80": name for name, node in self.nodes.items()}
        names |= {f"{node.address}:80": name for name, node in self.nodes.items()}
        for words in map(str.split, self.nodes[director].run("ipvsadm", "-Sn").splitlines()):
            pool = found.setdefault(words[2].removesuffix(":80").strip("[]"), set())
            if words[0] == "-a":
                pool.add(names[words[4]])
        return found

    def wait_for_pools(self, *servers: str, directors: tuple[str, ...] = ("dir1", "dir2")) -> None:
        """Until exactly these are in every table."""
        wanted = {key: set(servers) for key in (*VIPS.values(), PERSISTENT)}
        eventually(lambda: all(self.pools(director) == wanted for director in directors), PATIENCE_S)

    def wait_for_sync(self, **roles: str) -> None:
        """Until each director's kernel runs the sync daemon of this role. Right after a start it may still be the dead daemon's, and
        what the other one sends meanwhile is lost."""
        for director, role in roles.items():
            eventually(lambda: f"{role} sync daemon" in self.nodes[director].run("ipvsadm", "-L", "--daemon"), PATIENCE_S)  # noqa: B023

    def ask_all(self, times: int = 4) -> dict[str, Counter[str]]:
        """Who answered how often, by service."""
        return {name: Counter(ask(self.nodes["client"], vip) for _ in range(times)) for name, vip in VIPS.items()}


class Download(threading.Thread):
    """A page that takes seconds; ``complete`` when every byte came by the one connection."""

    def __init__(self, cluster: Cluster, address: str) -> None:
        super().__init__(daemon=True)
        self.received, self.error, self.port = b"", "", 0
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._connection = cluster.nodes["client"].socket(family, socket.SOCK_STREAM)
        self._connection.settimeout(PATIENCE_S)
        self._address = address
        self.start()

    def run(self) -> None:
        try:
            with self._connection as connection:
                connection.connect((self._address, 80))
                self.port = connection.getsockname()[1]
                connection.sendall(b"GET /long HTTP/1.0\r\n\r\n")
                while data := connection.recv(65536):
                    self.received += data
        except OSError as error:
            self.error = str(error)

    @property
    def complete(self) -> bool:
        return not self.is_alive() and not self.error and len(self.received.partition(b"\r\n\r\n")[2]) == LONG_CHUNKS * 1000


def downloads(cluster: Cluster, **roles: str) -> dict[str, Download]:
    """One by each service, under way; every one of these connections is known to both directors, whose roles are as given."""
    cluster.wait_for_sync(**roles)
    started = {name: Download(cluster, vip) for name, vip in VIPS.items()}
    eventually(lambda: all(len(download.received) > 2000 for download in started.values()), 20)
    wanted = {download.port for download in started.values()}
    eventually(lambda: all(wanted <= client_ports(cluster, name) for name in ("dir1", "dir2")), 20)
    return started


def client_ports(cluster: Cluster, director: str) -> set[int]:
    """Of the connections in a director's table."""
    lines = cluster.nodes[director].run("cat", "/proc/net/ip_vs_conn").splitlines()
    return {int(line.split()[2], 16) for line in lines if line.startswith("TCP")}


def survived(started: dict[str, Download]) -> dict[str, str]:
    """What went wrong by service; nothing if all bytes came."""
    for download in started.values():
        download.join(2 * PATIENCE_S)
    return {name: download.error or f"{len(download.received)} bytes" for name, download in started.items() if not download.complete}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        made.direct("dir1")
        eventually(lambda: made.masters() == ["dir1"], PATIENCE_S)
        made.direct("dir2")
        made.wait_for_pools(*WEBS)
        yield made


@pytest.fixture
def all_serve(cluster: Cluster) -> Iterator[Cluster]:
    """Both web servers in every pool, before and after."""
    yield cluster
    for name in WEBS:
        cluster.servers[name].stop()
        cluster.servers[name].start()
    cluster.wait_for_pools(*WEBS, directors=tuple(cluster.directors))


def test_clients_reach_both_servers_by_every_method(all_serve: Cluster) -> None:
    assert all_serve.ask_all() == {key: Counter({"web1": 2, "web2": 2}) for key in VIPS}


def test_a_persistent_client_stays_with_its_server(all_serve: Cluster) -> None:
    answers = Counter(ask(all_serve.nodes["client"], PERSISTENT) for _ in range(6))
    assert len(answers) == 1 and "" not in answers


def test_no_request_fails_after_a_dead_server_is_removed(all_serve: Cluster) -> None:
    all_serve.servers["web1"].stop()
    all_serve.wait_for_pools("web2")
    assert all_serve.ask_all(6) == {key: Counter({"web2": 6}) for key in VIPS}


def test_the_sorry_server_answers_when_both_are_dead(all_serve: Cluster) -> None:
    for name in WEBS:
        all_serve.servers[name].stop()
    all_serve.wait_for_pools(SPARE)
    assert all_serve.ask_all(3) == {key: Counter({SPARE: 3}) for key in VIPS}


def test_a_cleared_table_is_put_right(all_serve: Cluster) -> None:
    for name in ("dir1", "dir2"):
        all_serve.nodes[name].run("ipvsadm", "-C")
    all_serve.wait_for_pools(*WEBS)
    assert all_serve.ask_all() == {key: Counter({"web1": 2, "web2": 2}) for key in VIPS}


def test_living_connections_survive_kill_9_of_the_director(all_serve: Cluster) -> None:
    started = downloads(all_serve, dir1="master", dir2="backup")
    all_serve.directors.pop("dir1").kill()
    eventually(lambda: all_serve.masters() == ["dir2"], PATIENCE_S)
    assert survived(started) == {}
    assert all_serve.ask_all() == {key: Counter({"web1": 2, "web2": 2}) for key in VIPS}


def test_they_survive_the_power_off_of_the_other_one(all_serve: Cluster) -> None:
    """dir1 is back and waits (nopreempt); what it holds of the dead daemon goes away."""
    all_serve.direct("dir1")
    all_serve.wait_for_pools(*WEBS)
    eventually(lambda: all_serve.masters() == ["dir2"], PATIENCE_S)
    time.sleep(1)
    assert all_serve.masters() == ["dir2"]
    started = downloads(all_serve, dir1="backup", dir2="master")
    all_serve.cut("dir2")
    all_serve.directors.pop("dir2").kill()
    ip("netns", "del", all_serve.nodes["dir2"].namespace)
    eventually(lambda: all_serve.masters() == ["dir1"], PATIENCE_S)
    assert survived(started) == {}
    assert all_serve.ask_all() == {key: Counter({"web1": 2, "web2": 2}) for key in VIPS}
