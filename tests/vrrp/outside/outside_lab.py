"""What stands outside in these tests: a real snmpd and snmptrapd, a real bus, a real mail relay; and the configuration they are shown."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.lab import Daemon, Lab

AGENT = "127.0.0.1:16161"
TRAP_PORT = 16162
KEEPALIVED_MIB = ".1.3.6.1.4.1.9586.100.5"
VRRP_MIB = ".1.3.6.1.2.1.68"
VRRPV3_MIB = ".1.3.6.1.2.1.207"

INSTANCES = """
vrrp_script chk { script "/usr/bin/true"
 interval 1
 weight 3
}
vrrp_sync_group G1 { group { VI_1 } }
vrrp_instance VI_1 {
 interface eth0
 virtual_router_id 51
 priority 100
 authentication { auth_type PASS
 auth_pass abc }
 virtual_ipaddress { 10.77.0.100/24
 10.77.0.101/24 }
 virtual_ipaddress_excluded { 10.77.0.102/24 }
}
vrrp_instance VI_2 {
 interface eth0
 version 3
 virtual_router_id 52
 priority 90
 advert_int 0.5
 virtual_ipaddress { 10.77.0.110/24 }
 track_script { chk }
}
"""


class Snmpd:
    """snmpd with an AgentX socket, and snmptrapd, on one node."""

    def __init__(self, lab: Lab, node: str) -> None:
        self.lab = lab
        self.node = node
        self.home = lab.home(node)
        self.socket = f"unix:{self.home}/agentx"
        (self.home / "snmpd.conf").write_text(
            f"rocommunity public\nmaster agentx\nagentXSocket {self.home}/agentx\ntrap2sink 127.0.0.1:{TRAP_PORT} public\n"
        )
        self.agent: Daemon | None = None
        self.traps_home = lab.home(node)

    def start(self) -> None:
        """The agent; waits until it answers."""
        argv = ["env", "MIBS=", "snmpd", "-f", "-Le", "-C", "-c", f"{self.home}/snmpd.conf", "-I", "-systemstats", f"udp:{AGENT}"]
        self.agent = self.lab.start(self.node, argv, self.home)
        self.lab.until(lambda: "= " in self.get(".1.3.6.1.2.1.1.3.0"), what="snmpd answers")

    def stop(self) -> None:
        """End the agent."""
        assert self.agent is not None
        self.agent.kill()

    def start_trap_receiver(self) -> None:
        """What it prints lies in ``traps()``."""
        argv = ["env", "MIBS=", "snmptrapd", "-f", "-n", "-On", "-Lo", "--disableAuthorization=yes", f"udp:127.0.0.1:{TRAP_PORT}"]
        daemon = self.lab.start(self.node, argv, self.traps_home)
        self.lab.until(lambda: "NET-SNMP" in daemon.text(), what="snmptrapd is up")

    def traps(self) -> str:
        """Every notification so far as text."""
        return (self.traps_home / "log").read_text(errors="replace")

    def _run(self, program: str, *words: str) -> str:
        argv = ("env", "MIBS=", program, "-v2c", "-c", "public", "-On", "-t", "2", "-r", "1", AGENT, *words)
        return self.lab.nodes[self.node].run(*argv, check=False)

    def get(self, *names: str) -> str:
        """snmpget."""
        return self._run("snmpget", *names)

    def walk(self, subtree: str, *, bulk: bool = False) -> dict[str, str]:
        """snmpwalk or snmpbulkwalk: name → typed value."""
        found = {}
        for line in self._run("snmpbulkwalk" if bulk else "snmpwalk", subtree).splitlines():
            name, equals, value = line.partition(" = ")
            if equals and not value.startswith("No "):
                found[name] = value.strip()
        return found


@contextlib.contextmanager
def private_bus(home: Path) -> Iterator[str]:
    """A dbus-daemon of our own; yields its address."""
    address = f"unix:path={home}/bus"
    (home / "bus.conf").write_text(
        f"""<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>{address}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>"""
    )
    daemon = subprocess.Popen(["dbus-daemon", f"--config-file={home}/bus.conf", "--nofork", "--nopidfile"], stderr=subprocess.DEVNULL)
    try:
        yield address
    finally:
        daemon.terminate()
        daemon.wait(10)
