"""The laboratory's wiring: four bridges (service, inside, heartbeat, management) in one namespace, and every fault they can have."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from brainctl.demo.kernel import NetNamespace, ToolError, ip, nft, set_link

SERVICE, INSIDE, HEARTBEAT, MANAGEMENT = "service", "inside", "heartbeat", "management"
_BRIDGE = {SERVICE: "br-service", INSIDE: "br-inside", HEARTBEAT: "br-beat", MANAGEMENT: "br-mgmt"}
_PREFIX = {SERVICE: "s", INSIDE: "i", HEARTBEAT: "h", MANAGEMENT: "m"}
_VRRP_MATCHES = ("ip protocol 112 ", "ip6 nexthdr 112 ")
ANYBODY = ""
"""As source or target of a loss: every port."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Frames of ``network`` that enter from role ``source`` and would leave towards ``target`` are dropped; either may be ``ANYBODY``.

    ``only_vrrp``: protocol 112 only.
    """

    network: str
    source: str
    target: str
    only_vrrp: bool = False


def port_name(network: str, role: str) -> str:
    """The switch's name of the port where ``role`` is plugged in."""
    return f"{_PREFIX[network]}-{role}"


def _ends(loss: Loss) -> str:
    source = f'iifname "{port_name(loss.network, loss.source)}" ' if loss.source else ""
    return source + (f'oifname "{port_name(loss.network, loss.target)}" ' if loss.target else "")


class Switch:
    """Bridges without spanning tree or snooping. A fault is a `Loss` or a port without carrier; both can be taken back."""

    def __init__(self) -> None:
        self.namespace = NetNamespace()
        self._control = self.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._losses: list[Loss] = []
        lines = []
        for bridge in _BRIDGE.values():
            lines.append(f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
            lines.append(f"link set {bridge} up")
        ip(self.namespace.path, *lines)
        nft(self.namespace.path, "add table bridge lab\nadd chain bridge lab losses { type filter hook forward priority 0; }\n")

    def plug(self, network: str, role: str, namespace: str, device: str, address: str = "", mac: str = "") -> None:
        """A cable from a port to ``device`` in the network namespace at path ``namespace``; ``address`` has its prefix length."""
        port = port_name(network, role)
        hardware = f"address {mac} " if mac else ""
        ip(
            self.namespace.path,
            f"link add {port} type veth peer name {device} {hardware}netns {namespace}",
            f"link set {port} master {_BRIDGE[network]} up",
        )
        ip(namespace, *([f"addr add {address} dev {device}"] if address else []), f"link set {device} up")

    def unplug(self, network: str, role: str) -> None:
        """Take the cable away. The device at its other end disappears with it; so does the cable with the other end's namespace."""
        with contextlib.suppress(ToolError):
            ip(self.namespace.path, f"link del {port_name(network, role)}")

    def carrier(self, network: str, role: str, up: bool) -> None:
        """Set a port up or down: the device at the other end gains or loses its carrier."""
        set_link(self._control, port_name(network, role), up)

    def control_fd(self) -> int:
        """A descriptor by which a child (the power switch) may set ports down."""
        return self._control.fileno()

    def lose(self, *losses: Loss) -> None:
        """Add losses, all at one instant."""
        self._losses += [loss for loss in losses if loss not in self._losses]
        self._apply()

    def separate(self, network: str, one: str, other: str) -> None:
        """Nothing passes between two roles in either direction; both still reach everybody else."""
        self.lose(Loss(network, one, other), Loss(network, other, one))

    def port_dead(self, network: str, role: str) -> None:
        """The role's port passes nothing in either direction; its carrier stays."""
        self.lose(Loss(network, role, ANYBODY), Loss(network, ANYBODY, role))

    def heal(self, *losses: Loss) -> None:
        """Take back the named losses, or all of them."""
        self._losses = [loss for loss in self._losses if losses and loss not in losses]
        self._apply()

    def _apply(self) -> None:
        rules = "".join(
            f"add rule bridge lab losses {_ends(loss)}{match}drop\n"
            for loss in self._losses
            for match in (_VRRP_MATCHES if loss.only_vrrp else ("",))
        )
        nft(self.namespace.path, f"flush chain bridge lab losses\n{rules}")

    def close(self) -> None:
        """Let the namespace go, and every cable with it."""
        self._control.close()
        self.namespace.close()
