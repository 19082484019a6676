"""The eyes of the laboratory: what is on the wire at the switch, who answers for the watched addresses, which kernel holds them.

Shares no code with the daemons. One JSON argument: ``{"capture_fd", "service_port", "pcap", "probe_ms", "watches": [{"vip", "vrid",
"port_prefix", "detector_fd", "detector_mac"}]}``. The capture socket lies in the switch's namespace and sees every frame that enters at any
port, before any loss; all but the client's own questions goes to ``pcap`` (nanosecond format). The detectors send an ARP probe (sender
address 0.0.0.0, so that nobody learns from it) or a neighbour solicitation (from ::) every ``probe_ms``; who answers is an owner.

Orders on standard input: ``{"node": "A", "network": "/proc/…/ns/net" or ""}``: watch the kernel addresses of a node, or stop that.
Events on standard output, times in CLOCK_REALTIME nanoseconds, ``node`` is the role at the switch port:
``{"t", "kind": "answer", "vip", "node", "mac"}`` · ``{"t", "kind": "claim", "how": "announce"|"reply"|"advert", "vip", "node", "mac",
"priority"}`` · ``{"t", "kind": "ready"}`` · ``{"t", "kind": "address", "vip", "node", "held"}`` ·
``{"t", "kind": "release", "vip", "node"}`` (priority 0).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import socket
import struct
import sys
import time
from typing import Any, BinaryIO

SO_TIMESTAMPNS, SO_RCVBUFFORCE, SO_ATTACH_FILTER = 35, 33, 26
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
CLONE_NEWNET = 0x40000000
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTM_NEWADDR, RTM_DELADDR, IFA_ADDRESS, IFA_LOCAL = 0x10, 0x100, 20, 21, 1, 2
ARP, IPV4, IPV6, VRRP, ICMPV6, ADVERTISEMENT = b"\x08\x06", b"\x08\x00", b"\x86\xdd", 112, 58, 136
SNAP = 512


def without_port(port: int) -> bytes:
    """Classic BPF: accept everything but IPv4 UDP from or to ``port``."""
    program = [
        (0x28, 0, 0, 12),
        (0x15, 0, 7, 0x0800),
        (0x30, 0, 0, 23),
        (0x15, 0, 5, 17),
        (0xB1, 0, 0, 14),
        (0x48, 0, 0, 14),
        (0x15, 3, 0, port),
        (0x48, 0, 0, 16),
        (0x15, 1, 0, port),
        (0x06, 0, 0, SNAP),
        (0x06, 0, 0, 0),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in program)


def stamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's receive time."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


def say(**fields: object) -> None:
    """One event."""
    sys.stdout.write(json.dumps(fields) + "\n")


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def solicitation(mac: bytes, target: bytes) -> bytes:
    """RFC 4861 section 4.3, from the unspecified address: the answer goes to all nodes, and nobody learns from the question."""
    group = b"\xff\x02" + bytes(9) + b"\x01\xff" + target[13:]
    body = struct.pack("!BBHI", 135, 0, 0, 0) + target
    total = checksum(bytes(16) + group + struct.pack("!II", len(body), 58) + body)
    packet = struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + bytes(16) + group + body[:2] + struct.pack("!H", total) + body[4:]
    return b"\x33\x33\xff" + target[13:] + mac + IPV6 + packet


def addresses(attributes: bytes) -> set[bytes]:
    """IFA_LOCAL and IFA_ADDRESS of an address message (IPv6 has only the second)."""
    found, offset = set(), 0
    while offset + 4 <= len(attributes):
        length, kind = struct.unpack_from("HH", attributes, offset)
        if length < 4:
            break
        if kind in (IFA_ADDRESS, IFA_LOCAL):
            found.add(attributes[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


class Watch:
    """One watched address: its detector, its question, and the ports of its network."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.vip: str = plan["vip"]
        self.vrid: int = plan["vrid"]
        self.prefix: str = plan["port_prefix"]
        self.six = ":" in self.vip
        self.address = socket.inet_pton(socket.AF_INET6 if self.six else socket.AF_INET, self.vip)
        self.mac = bytes.fromhex(plan["detector_mac"].replace(":", ""))
        self.detector = socket.socket(fileno=plan["detector_fd"])
        head = b"\xff" * 6 + self.mac + ARP + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1)
        self.probe = solicitation(self.mac, self.address) if self.six else head + self.mac + b"\0" * 10 + self.address

    def ask(self) -> None:
        """One question to the segment."""
        with contextlib.suppress(OSError):
            self.detector.send(self.probe)

    def judge(self, t: int, node: str, frame: bytes) -> None:
        """Say so if the frame claims the address."""
        mac, kind = frame[6:12].hex(":"), frame[12:14]
        if kind == ARP and not self.six and len(frame) >= 42 and frame[28:32] == self.address:
            if frame[20:22] == b"\0\2" and frame[32:38] == self.mac:
                say(t=t, kind="answer", vip=self.vip, node=node, mac=mac)
            else:
                say(t=t, kind="claim", how="announce" if frame[38:42] == self.address else "reply", vip=self.vip, node=node, mac=mac)
        elif kind == IPV4 and not self.six and frame[23] == VRRP:
            self.advert(t, node, mac, frame[14 + (frame[14] & 15) * 4 :])
        elif kind == IPV6 and self.six and len(frame) >= 78 and frame[20] == ICMPV6 and frame[54] == ADVERTISEMENT:
            if frame[62:78] == self.address:  # an answer to the unspecified address is not told from an announcement: both say who owns it
                say(t=t, kind="answer", vip=self.vip, node=node, mac=mac)
        elif kind == IPV6 and self.six and frame[20] == VRRP:
            self.advert(t, node, mac, frame[54:])

    def advert(self, t: int, node: str, mac: str, packet: bytes) -> None:
        """A VRRP packet."""
        if len(packet) < 3 or packet[1] != self.vrid:
            return
        if packet[2]:
            say(t=t, kind="claim", how="advert", vip=self.vip, node=node, mac=mac, priority=packet[2])
        else:
            say(t=t, kind="release", vip=self.vip, node=node)


class Observer:
    """One epoll loop over the capture, the detectors' timer and the kernels' address changes."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.watches = [Watch(what) for what in plan["watches"]]
        self.probe_ns = int(plan["probe_ms"] * 1e6)
        self.capture = socket.socket(fileno=plan["capture_fd"])
        code = without_port(plan["service_port"])
        buffer = ctypes.create_string_buffer(code)
        self.capture.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(code) // 8, ctypes.addressof(buffer)))
        self.capture.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.capture.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.capture.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.capture.setblocking(False)
        self.forget_backlog()
        self.pcap: BinaryIO = open(plan["pcap"], "wb")  # noqa: SIM115
        self.pcap.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAP, 1))
        self.kernels: dict[str, socket.socket] = {}
        self.epoll = select.epoll()
        self.epoll.register(self.capture, select.EPOLLIN)
        self.epoll.register(0, select.EPOLLIN)
        self.pending = b""

    def forget_backlog(self) -> None:
        """Drop what arrived before the filter was in place."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.capture.recv(64)

    def on_capture(self) -> None:
        """Frames that entered the switch."""
        for _ in range(256):
            try:
                frame, ancillary, _flags, address = self.capture.recvmsg(SNAP, 64)
            except BlockingIOError:
                return
            except OSError:  # a port disappeared with its node's power
                continue
            port = address[0]
            if port.startswith("m-"):
                continue
            t = stamp(ancillary)
            self.pcap.write(struct.pack("<IIII", t // 1_000_000_000, t % 1_000_000_000, len(frame), len(frame)) + frame)
            if len(frame) >= 34:
                for watch in self.watches:
                    if port.startswith(watch.prefix):
                        watch.judge(t, port.removeprefix(watch.prefix), frame)

    def on_order(self) -> bool:
        """Orders of the laboratory; False at the end."""
        chunk = os.read(0, 65536)
        if not chunk:
            return False
        *lines, self.pending = (self.pending + chunk).split(b"\n")
        for line in lines:
            order = json.loads(line)
            old = self.kernels.pop(order["node"], None)
            if old is not None:
                self.epoll.unregister(old)
                old.close()
                for watch in self.watches:
                    say(t=time.time_ns(), kind="address", vip=watch.vip, node=order["node"], held=False)
            if order["network"]:
                with contextlib.suppress(OSError):  # lost its power again already
                    self.watch(order["node"], order["network"])
        return True

    def watch(self, node: str, network: str) -> None:
        """Open a netlink socket in the node's namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        here, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(network, os.O_RDONLY)
        try:
            if libc.setns(there, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            finally:
                libc.setns(here, CLONE_NEWNET)
        finally:
            os.close(here)
            os.close(there)
        kernel.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        kernel.setblocking(False)
        self.kernels[node] = kernel
        self.epoll.register(kernel, select.EPOLLIN)

    def on_kernel(self, node: str) -> None:
        """Addresses gained and lost by a node's kernel."""
        while True:
            try:
                data = self.kernels[node].recv(65536)
            except BlockingIOError:
                return
            except OSError:  # overrun: the ARP answers still tell
                continue
            t, offset = time.time_ns(), 0
            while offset + 16 <= len(data):
                length, kind = struct.unpack_from("IH", data, offset)
                if length < 16:
                    break
                if kind in (RTM_NEWADDR, RTM_DELADDR):
                    held = addresses(data[offset + 24 : offset + length])
                    for watch in self.watches:
                        if watch.address in held:
                            say(t=t, kind="address", vip=watch.vip, node=node, held=kind == RTM_NEWADDR)
                offset += (length + 3) & ~3

    def run(self) -> None:
        """Until standard input ends."""
        due = time.monotonic_ns()
        flushed = due
        while True:
            now = time.monotonic_ns()
            if now >= due:
                due = max(due + self.probe_ns, now)
                for watch in self.watches:
                    watch.ask()
            for fd, _mask in self.epoll.poll(max(0.0, (due - time.monotonic_ns()) / 1e9)):
                if fd == self.capture.fileno():
                    self.on_capture()
                elif fd == 0:
                    if not self.on_order():
                        return
                else:
                    for node in [name for name, kernel in self.kernels.items() if kernel.fileno() == fd]:
                        self.on_kernel(node)
            sys.stdout.flush()
            if now - flushed > 200_000_000:
                flushed = now
                self.pcap.flush()


def main() -> int:
    """Watch until told to end."""
    observer = Observer(json.loads(sys.argv[1]))
    say(t=time.time_ns(), kind="ready")
    sys.stdout.flush()
    try:
        observer.run()
    finally:
        observer.pcap.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
