"""The laboratory: two nodes, a switch with its networks, a serial line, power switches, a gateway, a client, a stranger, and observers.

Everything is held by this process and its children and goes away with them, also when this process is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from brainctl.demo import witness
from brainctl.demo.addresses import NODES, Outlet, Plan
from brainctl.demo.kernel import NetNamespace, allow_ipv6, answer_per_interface, forward, ip, nft
from brainctl.demo.node import LabError, Node
from brainctl.demo.program import Event, Program, python_program
from brainctl.demo.setup import PLAIN, Site
from brainctl.demo.switch import HEARTBEAT, INSIDE, MANAGEMENT, SERVICE, Loss, Switch, port_name
from brainctl.launcher import library_root

_ETH_P_ALL = 3
BAUD = 9600
CLIENT_INTERVAL_MS = 10
PROBE_INTERVAL_MS = 20
ANYCAST = "192.0.2.1"
"""The router's address on every LAN that it serves: one reference for nodes of different LANs."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An address that the observer and a client of its own look at. ``name``: "vip", "inside" or "six"."""

    name: str
    vip: str
    vrid: int
    network: str


def watched(plan: Plan, site: Site) -> tuple[Watched, ...]:
    """What is looked at in a laboratory, the address of VI_1 first."""
    found = [Watched("vip", plan.vip, plan.vrid, SERVICE)]
    if site.has_inside_lan:
        found.append(Watched("inside", plan.inside_vip, plan.inside_vrid if site.inside and not site.same_vrid else plan.vrid, INSIDE))
    if site.ipv6:
        found.append(Watched("six", plan.vip6, plan.vrid6, SERVICE))
    return tuple(found)


class Lab:
    """Built by ``with Lab(plan, directory):``; ``directory`` keeps the capture, the logs and the nodes' disks."""

    def __init__(self, plan: Plan, directory: Path, *, devices: tuple[str, ...] = ("bmc",), baud: int = BAUD, site: Site = PLAIN) -> None:
        self.plan, self.directory, self.baud, self.site = plan, directory, baud, site
        self.watched = watched(plan, site)
        self.clients: dict[str, Program] = {}
        self._devices = devices
        self._closing = contextlib.ExitStack()
        self.nodes: dict[str, Node] = {}
        self.hosts: dict[str, NetNamespace] = {}
        self.power: dict[tuple[str, str], Program] = {}
        self._power_events: list[Event] = []
        self._power_seen = 0

    def __enter__(self) -> Lab:
        try:
            self._build()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.close()

    # ---- construction ----------------------------------------------------------------------------------------------------------------
    def _build(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        os.chmod(self.directory, 0o700)
        self.switch = Switch()
        self._closing.callback(self.switch.close)
        for role in ("client", "gateway", "stranger", "pager", "detector"):
            address = f"{self.plan.host[role]}/{self.plan.service.prefixlen}" if role != "detector" else ""
            six = f"{self.plan.host6[role]}/{self.plan.service6.prefixlen}" if self.site.ipv6 and role in self.plan.host6 else ""
            self.hosts[role] = self._host(SERVICE, role, address, self.plan.mac[role], six)
        if self.site.has_inside_lan:
            for role in ("client", "gateway", "stranger", "detector"):
                address = f"{self.plan.inside_host[role]}/{self.plan.inside.prefixlen}" if role != "detector" else ""
                self.hosts[f"inside-{role}"] = self._host(INSIDE, role, address, self.plan.inside_mac[role])
        if self.site.routed:
            self._make_router()
        self._start_observer()
        self._start_serial()
        self._start_pager()
        self._start_management()
        if self.site.witness == "etcd":
            self._start_witness()
        for name in NODES:
            self.nodes[name] = Node(name, self.directory / name, self._ttys[name])
            self._closing.callback(self.nodes[name].power_off)
            self.boot(name)
        databases = [f"{name}={node.disk / 'var-lib/brainctl/brain.db'}" for name, node in self.nodes.items()]
        self.record_watch = Program(python_program("record_watch", *databases), log=self.directory / "records.jsonl")
        self._closing.callback(self.record_watch.close)
        for what in self.watched:
            self._start_client(what)

    @property
    def client_program(self) -> Program:
        """The client of VI_1's address."""
        return self.clients["vip"]

    def _start_client(self, what: Watched) -> None:
        self.clients[what.name] = Program(
            python_program("client", what.vip, str(self.plan.service_port), str(CLIENT_INTERVAL_MS)),
            network=self.hosts["client" if what.network == SERVICE else "inside-client"].path,
            log=self.directory / ("client.jsonl" if what.name == "vip" else f"client-{what.name}.jsonl"),
            hears=False,
        )
        self._closing.callback(self.clients[what.name].close)

    def _make_router(self) -> None:
        """The gateway has a leg on the inside LAN too, forwards, and answers for one and the same address on both."""
        gateway = self.hosts["gateway"].path
        ip(gateway, f"addr add {ANYCAST}/32 dev lo")
        self.switch.plug(INSIDE, "gateway", gateway, "eth1", f"{self.plan.inside_host['gateway']}/{self.plan.inside.prefixlen}")
        forward(gateway)

    def _host(self, network: str, role: str, address: str, mac: str = "", six: str = "") -> NetNamespace:
        namespace = NetNamespace()
        self._closing.callback(namespace.close)
        if six:
            allow_ipv6(namespace.path)
        self.switch.plug(network, role, namespace.path, "eth0", address, mac)
        if six:
            ip(namespace.path, f"addr add {six} dev eth0 nodad")
        return namespace

    def _start_observer(self) -> None:
        capture = self.switch.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self.capture = self.directory / "capture.pcap"
        detectors = [self._detector(what) for what in self.watched]
        plan = {
            "capture_fd": capture.fileno(),
            "service_port": self.plan.service_port,
            "pcap": str(self.capture),
            "probe_ms": PROBE_INTERVAL_MS,
            "watches": [
                {
                    "vip": what.vip,
                    "vrid": what.vrid,
                    "port_prefix": port_name(what.network, ""),
                    "detector_fd": sock.fileno(),
                    "detector_mac": (self.plan.mac if what.network == SERVICE else self.plan.inside_mac)["detector"],
                }
                for what, sock in zip(self.watched, detectors, strict=True)
            ],
        }
        self.observer = Program(
            python_program("observer", json.dumps(plan)),
            network=self.switch.namespace.path,
            log=self.directory / "observer.jsonl",
            pass_fds=(capture.fileno(), *(sock.fileno() for sock in detectors)),
        )
        for sock in (capture, *detectors):
            sock.close()
        self._closing.callback(self.observer.close)
        if self.observer.wait_for(lambda event: event["kind"] == "ready", 10.0) is None:
            raise LabError(f"the observer did not start; see {self.observer.log.with_suffix('.err')}")

    def _detector(self, what: Watched) -> socket.socket:
        sock = self.hosts["detector" if what.network == SERVICE else "inside-detector"].socket(
            socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)
        )
        sock.bind(("eth0", 0))
        return sock

    def _start_serial(self) -> None:
        self._ttys: dict[str, str] = {}
        masters = []
        for name in NODES:
            master, slave = os.openpty()
            tty.setraw(slave)
            self._closing.callback(os.close, slave)  # held open, so that the line does not hang up when a node has no power
            self._closing.callback(os.close, master)
            self._ttys[name] = os.ttyname(slave)
            masters.append(master)
        self.serial = Program(
            python_program("serial_relay", *(str(fd) for fd in masters), str(self.baud)),
            log=self.directory / "serial.jsonl",
            pass_fds=masters,
        )
        self._closing.callback(self.serial.close)

    def _start_management(self) -> None:
        prefix = self.plan.management.prefixlen
        for outlet in self.plan.outlets:
            if outlet.device in self._devices:
                self._start_power_switch(outlet, prefix)

    def _start_witness(self) -> None:
        host = self._host(MANAGEMENT, "witness", f"{self.plan.witness}/{self.plan.management.prefixlen}")
        for member in witness.start_members(self, host.path):
            self._closing.callback(member.close)

    def _start_pager(self) -> None:
        self.pager = Program(
            python_program("pager", self.plan.host["pager"], str(self.plan.pager_port)),
            network=self.hosts["pager"].path,
            log=self.directory / "pager.jsonl",
        )
        self._closing.callback(self.pager.close)

    def _start_power_switch(self, outlet: Outlet, prefix: int) -> None:
        role = f"{outlet.device}-{outlet.node}"
        namespace = self._host(MANAGEMENT, role, f"{outlet.address}/{prefix}")
        what = {
            "node": outlet.node,
            "address": outlet.address,
            "port": outlet.port,
            "plug": outlet.plug,
            "serial": outlet.serial,
            "user": self.plan.power_user,
            "password": self.plan.power_password,
            "control_fd": self.switch.control_fd(),
            "links": [port_name(network, outlet.node) for network in self.node_networks],
        }
        program = Program(
            python_program("power_switch", json.dumps(what)),
            network=namespace.path,
            log=self.directory / f"{role}.jsonl",
            pass_fds=(self.switch.control_fd(),),
            on_event=lambda event: self._power_events.append({**event, "device": outlet.device}),
        )
        self._closing.callback(program.close)
        self.power[outlet.node, outlet.device] = program
        if program.wait_for(lambda event: event["event"] == "ready", 10.0) is None:
            raise LabError(f"power switch {role} did not start; see {program.log.with_suffix('.err')}")

    @property
    def node_networks(self) -> tuple[str, ...]:
        """The networks that a node may be plugged into."""
        return (SERVICE, *((INSIDE,) if self.site.has_inside_lan or self.site.routed else ()), HEARTBEAT, MANAGEMENT)

    # ---- power -----------------------------------------------------------------------------------------------------------------------
    def boot(self, name: str) -> None:
        """Power a node on, plug its cables in and start the service that the client asks."""
        node, plan = self.nodes[name], self.plan
        node.boot((library_root(), self.directory))
        if self.site.ipv6:
            allow_ipv6(node.network)
        if self.site.local_node or self.site.elsewhere:
            answer_per_interface(node.network)
        where = self.site.service_network(name)
        address, length = plan.service_address(name, routed=where == INSIDE), plan.service.prefixlen
        self.switch.plug(where, name, node.network, "eth0", f"{address}/{length}", plan.mac[name])
        self.switch.plug(
            HEARTBEAT, name, node.network, "eth1", f"{plan.heartbeat_host[name]}/{plan.heartbeat.prefixlen}", plan.heartbeat_mac[name]
        )
        self.switch.plug(MANAGEMENT, name, node.network, "mgmt0", f"{plan.management_host[name]}/{plan.management.prefixlen}")
        if self.site.has_inside_lan:
            self.switch.plug(INSIDE, name, node.network, "eth2", f"{plan.inside_host[name]}/{plan.inside.prefixlen}", plan.inside_mac[name])
        if self.site.ipv6:
            ip(node.network, f"addr add {plan.host6[name]}/{plan.service6.prefixlen} dev eth0 nodad")
        if self.site.local_node:
            ip(node.network, f"addr add {plan.vip}/32 dev lo")
        ip(node.network, f"route add default via {(plan.inside_host if where == INSIDE else plan.host)['gateway']}")
        self.observer.tell(json.dumps({"node": name, "network": node.network}))
        self.serial.tell(f"on {name}")
        for (fed, _device), program in self.power.items():
            if fed == name:
                program.tell(json.dumps({"pid": node.pid}))
        node.start("echo", python_program("echo", name, str(plan.service_port)))

    def unpower(self, name: str) -> None:
        """What follows when a node's power is gone: its cables carry nothing, its memory is lost."""
        node = self.nodes[name]
        self.serial.tell(f"off {name}")
        self.observer.tell(json.dumps({"node": name, "network": ""}))
        for network in self.node_networks:
            self.switch.unplug(network, name)
        node.power_off()
        for (fed, _device), program in self.power.items():
            if fed == name:
                program.tell(json.dumps({"pid": 0}))

    def tend(self) -> list[Event]:
        """Carry out what the power switches did since the last call; returns their events. To be called every few milliseconds."""
        fresh = self._power_events[self._power_seen :]
        self._power_seen += len(fresh)
        for event in fresh:
            node = self.nodes.get(str(event.get("node")))
            if node is None:
                continue
            if event["event"] == "off" and node.on:
                self.unpower(node.name)
            elif event["event"] == "on" and not node.on:
                self.boot(node.name)
        return fresh

    def behave(self, name: str, device: str, **behaviour: object) -> None:
        """Tell a power switch how to misbehave (see programs/power_switch.py); nothing: behave well."""
        self.power[name, device].tell(json.dumps({"behave": behaviour}))

    # ---- faults ----------------------------------------------------------------------------------------------------------------------
    def cut_serial(self) -> None:
        """Pull the serial cable."""
        self.serial.tell("cut")

    def cut_ethernet(self) -> None:
        """The nodes hear nothing of each other on the service and heartbeat networks; both still reach client and gateway."""
        networks = [network for network in self.node_networks if network != MANAGEMENT]
        self.switch.lose(*(Loss(network, one, other) for network in networks for one, other in (NODES, NODES[::-1])))

    def cut_router(self) -> None:
        """The gateway routes nothing any more; it still answers on both of its legs."""
        nft(
            self.hosts["gateway"].path,
            "add table inet cut\nadd chain inet cut forward { type filter hook forward priority 0; policy drop; }\n",
        )

    def cut_management(self) -> None:
        """The nodes reach no power switch; the pager can be reached over the service network."""
        for name in NODES:
            self.switch.carrier(MANAGEMENT, name, up=False)

    def mend(self) -> None:
        """Take every cable fault back."""
        self.switch.heal()
        self.serial.tell("mend")
        for name in NODES:
            if self.nodes[name].on:
                self.switch.carrier(MANAGEMENT, name, up=True)
                self.switch.carrier(SERVICE, name, up=True)
        self.switch.carrier(SERVICE, "gateway", up=True)

    def gateway(self, *, up: bool) -> None:
        """The gateway of the service LAN reboots: nothing is heard of it while it is down."""
        self.switch.carrier(SERVICE, "gateway", up=up)

    @contextlib.contextmanager
    def forger(self, *, count: int, per_second: int) -> Iterator[Program]:
        """The stranger forges adverts of priority 1 and ARP claims in B's name; see programs/forger.py."""
        plan = self.plan
        what = {
            "count": count,
            "per_second": per_second,
            "mac": plan.mac["stranger"],
            "source": plan.host["B"],
            "vip": plan.vip,
            "vrid": plan.vrid,
            "priority": 1,
            "interval_cs": 50,
        }
        program = Program(
            python_program("forger", json.dumps(what)),
            network=self.hosts["stranger"].path,
            log=self.directory / "forger.jsonl",
            hears=False,
        )
        try:
            yield program
        finally:
            program.close()

    def stranger_takes_address(self, name: str = "vip") -> None:
        """A third host configures a watched address and announces it."""
        host, address, mac_text = self._stranger(name)
        ip(self.hosts[host].path, f"addr add {address} dev eth0")
        vip = socket.inet_aton(address.partition("/")[0])
        mac = bytes.fromhex(mac_text.replace(":", ""))
        frame = b"\xff" * 6 + mac + b"\x08\x06\0\1\x08\0\x06\x04\0\1" + mac + vip + b"\0" * 6 + vip
        with self.hosts[host].socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind(("eth0", 0))
            sock.send(frame)

    def stranger_leaves(self, name: str = "vip") -> None:
        """The third host gives the address back."""
        host, address, _mac = self._stranger(name)
        ip(self.hosts[host].path, f"addr del {address} dev eth0")

    def _stranger(self, name: str) -> tuple[str, str, str]:
        """The host, the address with its prefix length, the host's MAC."""
        plan = self.plan
        if name == "inside":
            return "inside-stranger", f"{plan.inside_vip}/{plan.inside.prefixlen}", plan.inside_mac["stranger"]
        return "stranger", f"{plan.vip}/{plan.service.prefixlen}", plan.mac["stranger"]
