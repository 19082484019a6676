"""What this machine must be able to do before the demo starts; names what is missing and how to get it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from brainctl.demo.daemons import program
from brainctl.demo.kernel import NetNamespace, ToolError, ip, nft, run

DEBIAN_REMEDY = "on Debian 12: make setup (or apt-get install {package})"
CONTAINER_REMEDY = "inside a container: run it privileged; in a virtual machine it works as it is"


@dataclass(frozen=True, slots=True)
class Missing:
    """A capability that is not there."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def preflight(daemons: tuple[str, ...], *, brain: bool = True) -> list[Missing]:
    """Everything that is missing for a demo with these VRRP daemons; empty if the demo can run."""
    if os.geteuid() != 0:
        return [Missing("root", "the demo makes namespaces; run it as root (sudo)")]
    return [*_tools(daemons), *_programs(daemons, brain), *_kernel()]


def _tools(daemons: tuple[str, ...]) -> Iterator[Missing]:
    wanted = {
        "ip": "iproute2",
        "nft": "nftables",
        "unshare": "util-linux",
        "nsenter": "util-linux",
        "setpriv": "util-linux",
        "etcd": "etcd-server",
    }
    if "keepalived" in daemons:
        wanted["keepalived"] = "keepalived"
    for tool, package in wanted.items():
        if shutil.which(tool) is None:
            yield Missing(f"the program {tool}", DEBIAN_REMEDY.format(package=package))


def _programs(daemons: tuple[str, ...], brain: bool) -> Iterator[Missing]:
    for name in (*(["vrrpd"] if "vrrpd" in daemons else []), *(["braind"] if brain else [])):
        if not os.access(program(name), os.X_OK):
            yield Missing(f"{program(name)}", "make setup installs the three programs beside this Python")


def _kernel() -> Iterator[Missing]:
    checks: tuple[tuple[str, Callable[[], None], str], ...] = (
        ("network namespaces (CLONE_NEWNET)", _network_namespace, CONTAINER_REMEDY),
        ("virtual ethernet pairs and bridges", _bridge, f"modprobe veth bridge; {CONTAINER_REMEDY}"),
        ("nftables' bridge and ip families", _nftables, f"modprobe nf_tables nf_tables_bridge; {CONTAINER_REMEDY}"),
        ("mount, pid, UTS and IPC namespaces with tmpfs, bind mounts, proc and sysfs", _node_namespaces, CONTAINER_REMEDY),
        ("pseudo terminals", _pty, "mount devpts on /dev/pts"),
        ("packet sockets", _packet_socket, f"the kernel needs CONFIG_PACKET; {CONTAINER_REMEDY}"),
    )
    for what, check, remedy in checks:
        try:
            check()
        except (OSError, ToolError) as error:
            first = (str(error).splitlines() or [""])[0]
            yield Missing(f"{what} ({first})", remedy)


def _network_namespace() -> None:
    NetNamespace().close()


def _bridge() -> None:
    namespace = NetNamespace()
    try:
        ip(namespace.path, "link add b0 type bridge", "link add v0 type veth peer name v1", "link set v0 master b0 up")
    finally:
        namespace.close()


def _nftables() -> None:
    namespace = NetNamespace()
    try:
        nft(
            namespace.path,
            "add table bridge t\nadd chain bridge t c { type filter hook forward priority 0; }\n"
            'add rule bridge t c iifname "a" oifname "b" ip protocol 112 drop\n'
            "add table ip u\nadd chain ip u c { type filter hook input priority 0; }\nadd rule ip u c ip protocol 112 drop\n",
        )
    finally:
        namespace.close()


def _node_namespaces() -> None:
    run(
        [
            *("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"),
            *(
                "sh",
                "-c",
                "mount -t tmpfs tmpfs /run && mkdir /run/x && mount --bind /etc /run/x && mount -t sysfs sysfs /sys && hostname x",
            ),
        ]
    )


def _pty() -> None:
    for fd in os.openpty():
        os.close(fd)


def _packet_socket() -> None:
    namespace = NetNamespace()
    try:
        namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    finally:
        namespace.close()
