"""The service that the client wants: a UDP echo that answers from whatever address was asked, and says which node it is.

Arguments: node name, port. Answer: the node's name, a space, the question.
"""

from __future__ import annotations

import contextlib
import socket
import sys

IP_PKTINFO = 8


def main() -> int:
    """Answer for ever."""
    node, port = sys.argv[1].encode(), int(sys.argv[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind(("0.0.0.0", port))
        while True:
            data, ancillary, _flags, peer = sock.recvmsg(256, 64)
            for level, kind, info in ancillary:
                if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                    source = b"\0" * 4 + info[8:12] + b"\0" * 4  # interface 0, from the address that was asked
                    with contextlib.suppress(OSError):  # the address may have gone meanwhile
                        sock.sendmsg([node + b" " + data], [(level, kind, source)], 0, peer)


if __name__ == "__main__":
    sys.exit(main())
