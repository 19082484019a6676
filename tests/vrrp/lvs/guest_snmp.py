"""The check part of KEEPALIVED-MIB: vrrpd and Debian's keepalived with the same file and a real kernel, behind a real snmpd each.

Runs in the lab's guest: see tests/guest.py.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

import pytest

from tests.lab import Daemon, Lab
from tests.vrrp.outside.outside_lab import KEEPALIVED_MIB, Snmpd

CHECK = f"{KEEPALIVED_MIB}.3"
SERVICES = """
virtual_server_group g {
 10.9.0.5 80
 10.9.0.6-8 81
 fwmark 9
}
virtual_server 10.9.0.1 80 {
 delay_loop 1
 lb_algo sh
 sh-port
 hashed
 snmp_name shop
 lb_kind NAT
 protocol TCP
 persistence_timeout 50
 persistence_granularity 255.255.255.0
 quorum 2
 hysteresis 1
 quorum_up /usr/bin/true
 omega
 sorry_server 10.9.0.99 80
 real_server 127.0.0.1 8080 {
  weight 3
  inhibit_on_failure
  uthreshold 20
  lthreshold 10
  snmp_name "first one"
  notify_up /usr/bin/true
  TCP_CHECK {
   connect_timeout 2
   warmup 0
   retry 0
  }
 }
 real_server 127.0.0.2 8080 {
  weight 4
 }
}
virtual_server fd09::1 443 {
 delay_loop 5
 lb_algo rr
 lb_kind TUN
 protocol UDP
 ops
 real_server fd09::11 443 {
  weight 1
 }
}
virtual_server group g {
 lb_algo wlc
 lb_kind DR
 protocol TCP
 real_server 10.9.1.1 80 {
  weight 1
 }
}
"""


OURS_ON_PURPOSE = (
    f"{CHECK}.3.1.15.3",  # the granularity of a service without persistence
    f"{CHECK}.3.1.51.",  # the same, IPv6: 2**32 - 1 there
    f"{CHECK}.6.6.",  # the port and TTL that are used, not 0
    f"{CHECK}.6.7.",
)


def configuration(snmpd: Snmpd) -> str:
    return (
        "global_defs {\n router_id orc\n script_user root\n enable_snmp_checker\n enable_traps\n lvs_timeouts tcp 100 udp 30\n"
        f" lvs_sync_daemon eth0 id 7\n snmp_socket {snmpd.socket}\n}}\n{SERVICES}"
    )


@contextlib.contextmanager
def listening(lab: Lab, node: str) -> Iterator[None]:
    with lab.nodes[node].socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 8080))
        listener.listen(50)
        yield


def keepalived(lab: Lab, node: str, text: str) -> Daemon:
    """Debian's, its checkers only."""
    home = lab.home(node)
    (home / "conf").write_text(text)
    pids = ["-p", f"{home}/pid", "-r", f"{home}/vrrp.pid", "-c", f"{home}/checkers.pid"]
    return lab.start(node, ["keepalived", "-C", "-n", "-l", "-D", "-G", "-f", f"{home}/conf", *pids], home)


@pytest.mark.shows(
    "global_defs/enable_snmp_checker", "global_defs/snmp_vs_stats_update_interval", "global_defs/snmp_rs_stats_update_interval"
)
@pytest.mark.shows("virtual_server/snmp_name", "virtual_server/real_server/snmp_name")
def test_the_tables_are_those_of_keepalived() -> None:
    walks: list[dict[str, str]] = []
    traps: list[list[str]] = []
    with Lab("a", "b") as lab:
        for node in ("a", "b"):
            snmpd = Snmpd(lab, node)
            snmpd.start_trap_receiver()
            snmpd.start()
            text = configuration(snmpd)
            if node == "b":
                text = text.replace("enable_traps", "enable_traps\n snmp_vs_stats_update_interval 1\n snmp_rs_stats_update_interval 1")
            alive, dead = f"{CHECK}.4.1.6.1.2", "INTEGER: 2"  # row 1 is the sorry server
            with listening(lab, node):
                daemon = keepalived(lab, node, text) if node == "a" else lab.vrrpd(node, text, "-C")
                lab.until(lambda: snmpd.get(alive).endswith("INTEGER: 1\n"), 60, what=f"rows of {node}")  # noqa: B023
            lab.until(lambda: dead in snmpd.get(alive), 60, what=f"the server is down on {node}")  # noqa: B023
            lab.until(lambda: "9586.100.5.3.5.0.1" in snmpd.traps(), 30, what="a notification")  # noqa: B023
            walks.append(snmpd.walk(CHECK))
            traps.append([line for line in snmpd.traps().splitlines() if "9586.100.5.3.5.0.1" in line])
            daemon.stop()
    theirs, ours = walks
    names = sorted(name for name in theirs.keys() | ours.keys() if not name.startswith(OURS_ON_PURPOSE))
    wrong = [f"{name}: theirs {theirs.get(name)}, ours {ours.get(name)}" for name in names if theirs.get(name) != ours.get(name)]
    assert wrong == [], "\n".join(wrong)
    assert [ours[f"{CHECK}.{column}"] for column in ("3.1.71.1", "4.1.55.1.2")] == ['STRING: "shop"', 'STRING: "first one"']
    assert len(traps[0]) == len(traps[1])
    values = [[field.split(" = ", 1)[-1].strip() for field in line.split("\t")[1:]] for line in (traps[0][0], traps[1][0])]
    assert sorted(values[0]) == sorted(values[1]), values
    assert re.search("127.0.0.1|7F 00 00 01", traps[1][0])
