"""The laboratory: two nodes, a switch with three networks, a serial line, power switches, a gateway, a client, a stranger, and observers.

Everything is held by this process and its children and goes away with them, also when this process is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tty
from pathlib import Path
from types import TracebackType

from brainctl.demo.addresses import NODES, Outlet, Plan
from brainctl.demo.kernel import NetNamespace, ip
from brainctl.demo.node import LabError, Node
from brainctl.demo.program import Event, Program, python_program
from brainctl.demo.switch import HEARTBEAT, MANAGEMENT, SERVICE, Loss, Switch, port_name
from brainctl.launcher import library_root

_ETH_P_ALL = 3
BAUD = 9600
CLIENT_INTERVAL_MS = 10
PROBE_INTERVAL_MS = 20


class Lab:
    """Built by ``with Lab(plan, directory):``; ``directory`` keeps the capture, the logs and the nodes' disks."""

    def __init__(self, plan: Plan, directory: Path, *, devices: tuple[str, ...] = ("bmc",), baud: int = BAUD) -> None:
        self.plan, self.directory, self.baud = plan, directory, baud
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
            self.hosts[role] = self._host(SERVICE, role, address, self.plan.mac[role])
        self._start_observer()
        self._start_serial()
        self._start_pager()
        self._start_management()
        for name in NODES:
            self.nodes[name] = Node(name, self.directory / name, self._ttys[name])
            self._closing.callback(self.nodes[name].power_off)
            self.boot(name)
        databases = [f"{name}={node.disk / 'var-lib/brainctl/brain.db'}" for name, node in self.nodes.items()]
        self.record_watch = Program(python_program("record_watch", *databases), log=self.directory / "records.jsonl")
        self._closing.callback(self.record_watch.close)
        self.client_program = Program(
            python_program("client", self.plan.vip, str(self.plan.service_port), str(CLIENT_INTERVAL_MS)),
            network=self.hosts["client"].path,
            log=self.directory / "client.jsonl",
            hears=False,
        )
        self._closing.callback(self.client_program.close)

    def _host(self, network: str, role: str, address: str, mac: str = "") -> NetNamespace:
        namespace = NetNamespace()
        self._closing.callback(namespace.close)
        self.switch.plug(network, role, namespace.path, "eth0", address, mac)
        return namespace

    def _start_observer(self) -> None:
        capture = self.switch.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        detector = self.hosts["detector"].socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        detector.bind(("eth0", 0))
        self.capture = self.directory / "capture.pcap"
        what = {
            "capture_fd": capture.fileno(),
            "detector_fd": detector.fileno(),
            "vip": self.plan.vip,
            "service_port": self.plan.service_port,
            "pcap": str(self.capture),
            "detector_mac": self.plan.mac["detector"],
            "probe_ms": PROBE_INTERVAL_MS,
            "port_prefix": port_name(SERVICE, ""),
        }
        self.observer = Program(
            python_program("observer", json.dumps(what)),
            network=self.switch.namespace.path,
            log=self.directory / "observer.jsonl",
            pass_fds=(capture.fileno(), detector.fileno()),
        )
        capture.close()
        detector.close()
        self._closing.callback(self.observer.close)
        if self.observer.wait_for(lambda event: event["kind"] == "ready", 10.0) is None:
            raise LabError(f"the observer did not start; see {self.observer.log.with_suffix('.err')}")

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
            "links": [port_name(network, outlet.node) for network in (SERVICE, HEARTBEAT, MANAGEMENT)],
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

    # ---- power -----------------------------------------------------------------------------------------------------------------------
    def boot(self, name: str) -> None:
        """Power a node on, plug its cables in and start the service that the client asks."""
        node, plan = self.nodes[name], self.plan
        node.boot((library_root(), self.directory))
        self.switch.plug(SERVICE, name, node.network, "eth0", f"{plan.host[name]}/{plan.service.prefixlen}", plan.mac[name])
        self.switch.plug(
            HEARTBEAT, name, node.network, "eth1", f"{plan.heartbeat_host[name]}/{plan.heartbeat.prefixlen}", plan.heartbeat_mac[name]
        )
        self.switch.plug(MANAGEMENT, name, node.network, "mgmt0", f"{plan.management_host[name]}/{plan.management.prefixlen}")
        ip(node.network, f"route add default via {plan.host['gateway']}")
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
        for network in (SERVICE, HEARTBEAT, MANAGEMENT):
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
        self.switch.lose(*(Loss(network, one, other) for network in (SERVICE, HEARTBEAT) for one, other in (NODES, NODES[::-1])))

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

    def stranger_takes_address(self) -> None:
        """A third host configures the VIP and announces it."""
        ip(self.hosts["stranger"].path, f"addr add {self.plan.vip}/{self.plan.service.prefixlen} dev eth0")
        vip = socket.inet_aton(self.plan.vip)
        mac = bytes.fromhex(self.plan.mac["stranger"].replace(":", ""))
        frame = b"\xff" * 6 + mac + b"\x08\x06\0\1\x08\0\x06\x04\0\1" + mac + vip + b"\0" * 6 + vip
        with self.hosts["stranger"].socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind(("eth0", 0))
            sock.send(frame)

    def stranger_leaves(self) -> None:
        """The third host gives the address back."""
        ip(self.hosts["stranger"].path, f"addr del {self.plan.vip}/{self.plan.service.prefixlen} dev eth0")
