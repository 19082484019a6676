"""vrrpd and Debian's keepalived with the same file behind a real snmpd each: the same tables, the same notifications."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.vrrp.outside.outside_lab import INSTANCES, KEEPALIVED_MIB, VRRP_MIB, VRRPV3_MIB, Snmpd

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")]

OURS_ON_PURPOSE = {
    f"{KEEPALIVED_MIB}.1.1.0": "the version",
    f"{KEEPALIVED_MIB}.2.3.1.11.1": "tracks its interface: keepalived says no",
    f"{KEEPALIVED_MIB}.2.3.1.11.2": "tracks its interface: keepalived says no",
    f"{KEEPALIVED_MIB}.2.3.1.27.1": "accept mode of version 2: keepalived says 0, which the MIB does not know",
    f"{KEEPALIVED_MIB}.2.6.1.11.2.1": "a version 3 address is advertised",
    f"{VRRP_MIB}.1.3.1.7": "the MASTER's address is its own, not 0.0.0.0",
}
"""Where we follow the MIB and keepalived does not."""
CHANGING = (f"{VRRP_MIB}.1.3.1.2.", f"{VRRP_MIB}.1.3.1.13.", f"{VRRPV3_MIB}.1.1.1.1.5.", f"{VRRPV3_MIB}.1.1.1.1.12.")
"""MAC addresses and times."""


def configuration(snmpd: Snmpd, extra: str = "") -> str:
    defs = f"""
global_defs {{
 router_id orc
 enable_snmp_vrrp
 enable_snmp_rfcv2
 enable_snmp_rfcv3
 enable_traps
 snmp_socket {snmpd.socket}
 notification_email {{ ops@example.net
 second@example.net }}
 notification_email_from ka@example.org
 smtp_server 127.0.0.1 2525
 smtp_alert off
 {extra}
}}
"""
    return defs + INSTANCES


def settled(snmpd: Snmpd) -> bool:
    """Everything MASTER, as the tables say."""
    states = snmpd.walk(f"{KEEPALIVED_MIB}.2.3.1.4")
    return list(states.values()) == ["INTEGER: 2", "INTEGER: 2"] and " 93" in snmpd.get(f"{KEEPALIVED_MIB}.2.3.1.8.2")


@pytest.mark.shows(
    "global_defs/enable_snmp_vrrp",
    "global_defs/enable_snmp_rfcv2",
    "global_defs/enable_snmp_rfcv3",
    "global_defs/enable_traps",
    "global_defs/snmp_socket",
)
def test_tables_and_notifications_are_those_of_keepalived() -> None:
    with Lab("a", "b") as lab:
        ours, theirs = Snmpd(lab, "a"), Snmpd(lab, "b")
        walks: list[dict[str, str]] = []
        traps = []
        # One after the other: they would elect one MASTER between them.
        for snmpd, start in ((theirs, lab.keepalived), (ours, lab.vrrpd)):
            snmpd.start_trap_receiver()
            snmpd.start()
            daemon = start(snmpd.node, configuration(snmpd))
            lab.until(lambda snmpd=snmpd: settled(snmpd), 30, what=f"MASTER on {snmpd.node}")
            lab.until(lambda snmpd=snmpd: snmpd.traps().count("207.0.1") == 2, what="notifications")
            walk = {}
            for subtree in (KEEPALIVED_MIB, VRRP_MIB, VRRPV3_MIB):
                rows = snmpd.walk(subtree)
                assert rows
                assert snmpd.walk(subtree, bulk=True).keys() == rows.keys()
                walk.update(rows)
            assert daemon.stop() == 0
            lab.until(lambda snmpd=snmpd: snmpd.traps().count("INTEGER: 5") == 3, what="the notifications of the end")
            walks.append(walk)
            traps.append(parse_traps(snmpd.traps()))
        compare(ours=walks[1], theirs=walks[0])
        assert sorted(traps[1]) == sorted(traps[0])


def compare(ours: dict[str, str], theirs: dict[str, str]) -> None:
    def comparable(walk: dict[str, str]) -> dict[str, str]:
        rows = {}
        for name, value in walk.items():
            if name.startswith(CHANGING) or name in OURS_ON_PURPOSE or name.startswith(f"{VRRP_MIB}.1.3.1.7."):
                value = "differs"
            name = re.sub(r"(\.207\.1\.1\.2\.1\.2\.\d+\.\d+\.1)\.4(\.10\.)", r"\1\2", name)  # the length of the address: RFC 2578, 7.7
            # Interface numbers and own addresses differ from node to node.
            name = re.sub(r"(\.207\.1\.(?:1\.[12]|2\.5)\.1\.\d+|\.68\.1\.[34]\.1\.\d+|\.68\.2\.4\.1\.\d+)\.\d+\.", r"\1.IF.", name)
            value = re.sub(r"10\.77\.0\.[12]$", "OWN", value).replace("0A 4D 00 01", "OWN").replace("0A 4D 00 02", "OWN")
            if ".9586.100.5.2.6.1.7." in name:
                value = "IF"
            rows[name] = value
        return rows

    assert comparable(ours) == comparable(theirs)


def parse_traps(text: str) -> list[tuple[str, ...]]:
    """Each notification as its identity and its values; names without their index, which keepalived leaves out."""
    found = []
    for line in text.splitlines():
        if ".1.3.6.1.6.3.1.1.4.1.0 = OID: " not in line:
            continue
        fields = [field.split(" = ", 1)[1].strip() for field in line.split("\t")[1:]]
        found.append(
            tuple(
                field.replace("10.77.0.1", "OWN").replace("10.77.0.2", "OWN").replace("4D 00 01", "4D OWN").replace("4D 00 02", "4D OWN")
                for field in fields
            )
        )
    return found


def test_an_snmpd_that_comes_back_finds_us_and_what_happened_meanwhile() -> None:
    with Lab("a") as lab:
        snmpd = Snmpd(lab, "a")
        snmpd.start_trap_receiver()
        snmpd.start()
        lab.vrrpd("a", configuration(snmpd))
        lab.until(lambda: settled(snmpd), 30)
        snmpd.stop()
        lab.cut("a")
        lab.until(lambda: not lab.nodes["a"].holds("10.77.0.100"))
        snmpd.start()
        lab.until(lambda: list(snmpd.walk(f"{KEEPALIVED_MIB}.2.3.1.4").values()) == ["INTEGER: 3", "INTEGER: 3"], 40, what="FAULT is shown")
        lab.until(
            lambda: any("VI_1" in line and ".2.3.1.4.1 = INTEGER: 3" in line for line in snmpd.traps().splitlines()), what="FAULT is told"
        )
        assert "INTEGER: 51" in snmpd.get(f"{KEEPALIVED_MIB}.2.3.1.3.1") or "Gauge32: 51" in snmpd.get(f"{KEEPALIVED_MIB}.2.3.1.3.1")
        assert "No Such Instance" in snmpd.get(f"{KEEPALIVED_MIB}.2.3.1.3.9")


def test_the_outside_process_killed_is_back_and_the_vrrp_process_does_not_notice() -> None:
    with Lab("a") as lab:
        snmpd = Snmpd(lab, "a")
        snmpd.start()
        daemon = lab.vrrpd("a", configuration(snmpd))
        lab.until(lambda: settled(snmpd), 30)
        outside = [pid for pid in daemon.pids() if b"vrrp.outside" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(outside) == 1
        os.kill(outside[0], 9)
        lab.until(lambda: settled(snmpd), 30, what="SNMP is back")
        became = snmpd.get(f"{VRRP_MIB}.2.4.1.1.{index_of_eth0(lab)}.51")
        assert "Counter32: 1" in became


def index_of_eth0(lab: Lab) -> int:
    return int(lab.nodes["a"].run("cat", "/sys/class/net/eth0/ifindex"))


def test_a_reload_turns_snmp_off_and_the_options_turn_it_on() -> None:
    """-x and -A; then a file that asks for the RFC tables; then one that asks for nothing: keepalived cannot take it back in a reload."""
    plain = "global_defs {\n router_id orc\n}\n" + INSTANCES
    with Lab("a") as lab:
        snmpd = Snmpd(lab, "a")
        snmpd.start()
        daemon = lab.vrrpd("a", configuration(snmpd))
        lab.until(lambda: settled(snmpd) and snmpd.walk(VRRP_MIB), 30)
        (daemon.directory / "conf").write_text(plain)
        daemon.signal(signal.SIGHUP)
        lab.until(lambda: not snmpd.walk(KEEPALIVED_MIB), what="nothing is shown any more")
        (daemon.directory / "conf").write_text(configuration(snmpd))
        daemon.signal(signal.SIGHUP)
        lab.until(lambda: settled(snmpd), 30, what="shown again")
        assert daemon.stop() == 0
        lab.vrrpd("a", plain, "-x", "-A", snmpd.socket)
        lab.until(lambda: settled(snmpd), 30)
        assert not snmpd.walk(VRRP_MIB)


ROUTES = """
vrrp_instance VI_1 {
 interface eth0
 virtual_router_id 51
 advert_int 1
 virtual_ipaddress { 10.77.0.100/24 }
 virtual_routes { 10.5.0.0/16 via 10.77.0.7 dev eth0 src 10.77.0.100 metric 7
 default via 10.77.0.8 table 100
 blackhole 10.6.0.0/24
 10.8.0.0/24 dev eth0 scope link mtu 1400
 10.9.0.0/24 nexthop via 10.77.0.7 dev eth0 weight 2 nexthop via 10.77.0.8 dev eth0 weight 3 }
 virtual_rules { from 10.77.0.0/24 table 100 priority 77
 to 10.5.0.0/16 iif eth0 fwmark 4/15 lookup 100 priority 78 }
}
"""
OBSOLETE = tuple(f"{KEEPALIVED_MIB}.2.8.1.{column}." for column in (2, 3, 4, 5))


def test_route_and_rule_tables_are_those_of_keepalived() -> None:
    walks = []
    with Lab("a", "b") as lab:
        for node, start in (("b", lab.keepalived), ("a", lab.vrrpd)):
            snmpd = Snmpd(lab, node)
            snmpd.start()
            daemon = start(node, f"global_defs {{\n enable_snmp_vrrp\n snmp_socket {snmpd.socket}\n}}\n{ROUTES}")
            lab.until(lambda snmpd=snmpd: "INTEGER: 2" in snmpd.get(f"{KEEPALIVED_MIB}.2.3.1.4.1"), 30, what="MASTER")
            rows = {name: value for table in (7, 8, 11) for name, value in snmpd.walk(f"{KEEPALIVED_MIB}.2.{table}").items()}
            assert daemon.stop() == 0
            # Interface numbers differ from node to node.
            walks.append({n: "IF" if ".2.7.1.11." in n or ".2.11.1.4." in n else v for n, v in rows.items() if not n.startswith(OBSOLETE)})
    theirs, ours = walks
    assert len(ours) > 60
    assert ours == theirs
