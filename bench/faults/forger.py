"""Sends adverts that nobody should believe. ``python -m bench.faults.forger KIND PER_SECOND SECONDS VERSION [SOURCE TARGET]``.

Runs in the namespace of a third host on eth0; bounded in number and time. Its packets are made here, by no code of the daemons. KIND:
bad_checksum, bad_ttl, truncated, wrong_version, random, mix; and unicast_64, unicast_255 (well-formed, with this TTL, from SOURCE
to TARGET).
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import sys
import time

from bench.lab import VIP

VRID = 51
GROUP = "224.0.0.18"
PRIORITY = 200
MOST_PER_SECOND, MOST_SECONDS = 20_000, 60.0
MIX = ("bad_checksum", "bad_ttl", "truncated", "wrong_version", "random")


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) & 1)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(kind: str, version: int, source: str, target: str, rng: random.Random) -> bytes:
    """An IPv4 packet with an advert of priority 200."""
    said = 5 - version if kind == "wrong_version" else version
    head = struct.pack("!BBBB", said << 4 | 1, VRID, PRIORITY, 1) + (struct.pack("!BB", 0, 1) if said == 2 else struct.pack("!H", 100))
    body = socket.inet_aton(VIP) + (bytes(8) if said == 2 else b"")
    pseudo = b""
    if said == 3:
        pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 112, len(head) + 2 + len(body))
    total = checksum(pseudo + head + b"\0\0" + body)
    if kind == "bad_checksum":
        total ^= rng.randrange(1, 0xFFFF)
    payload = head + struct.pack("!H", total) + body
    if kind == "truncated":
        payload = payload[:5]
    if kind == "random":
        payload = bytes([said << 4 | 1, VRID]) + rng.randbytes(rng.randrange(60))
    ttl = {"bad_ttl": 64, "unicast_64": 64}.get(kind, 255)
    ip = struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + len(payload), rng.randrange(65536), 0, ttl, 112, 0)
    ip += socket.inet_aton(source) + socket.inet_aton(target)
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + payload


def main(argv: list[str]) -> int:
    """Send, then print how many were sent."""
    kind, per_second, seconds, version = argv[0], min(int(argv[1]), MOST_PER_SECOND), min(float(argv[2]), MOST_SECONDS), int(argv[3])
    source, target = argv[4:6] if len(argv) > 4 else ("10.66.0.77", GROUP)
    rng = random.Random(1)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind(("eth0", 0))
    mac = sock.getsockname()[4]
    if target == GROUP:
        frame = b"\x01\x00\x5e\x00\x00\x12" + mac + b"\x08\x00"
        kinds = MIX if kind == "mix" else (kind,)
        pool = [frame + packet(k, version, source, target, rng) for k in kinds for _ in range(32)]
        rng.shuffle(pool)
        send = sock.send
    else:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        pool = [packet(kind, version, source, target, rng)]

        def send(data: bytes, /) -> int:
            return raw.sendto(data, (target, 0))

    begin, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - begin) < seconds:
        while sent < int(elapsed * per_second) + 1:
            with contextlib.suppress(OSError):
                send(pool[sent % len(pool)])
            sent += 1
        time.sleep(0.001)
    print(sent)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
