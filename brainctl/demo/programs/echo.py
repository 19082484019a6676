"""The service that the client wants: a UDP echo that answers from whatever address was asked, and says which node it is.

Arguments: node name, port. Answer: the node's name, a space, the question. IPv4, and IPv6 where the node has it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys

IP_PKTINFO = 8


def answer(sock: socket.socket, node: bytes) -> None:
    """One question: from the address that was asked, by whatever interface leads back (IPv6: by the one it came in on)."""
    data, ancillary, _flags, peer = sock.recvmsg(256, 64)
    for level, kind, info in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            info = b"\0" * 4 + info[8:12] + b"\0" * 4
        elif (level, kind) != (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            continue
        with contextlib.suppress(OSError):  # the address may have gone meanwhile
            sock.sendmsg([node + b" " + data], [(level, kind, info)], 0, peer)


def main() -> int:
    """Answer for ever."""
    node, port = sys.argv[1].encode(), int(sys.argv[2])
    four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    four.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    four.bind(("0.0.0.0", port))
    sockets = [four]
    with contextlib.suppress(OSError):  # a node without IPv6
        six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        six.bind(("::", port))
        sockets.append(six)
    while True:
        for sock in select.select(sockets, [], [])[0]:
            answer(sock, node)


if __name__ == "__main__":
    sys.exit(main())
