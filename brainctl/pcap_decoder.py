"""A process of its own: reads a pcap on stdin, prints one line a packet by scapy (``brainctl explain --pcap``)."""

from __future__ import annotations

import io
import sys


def main() -> int:
    """Decode stdin; 0, or 1 with a sentence when scapy is missing."""
    try:
        from scapy.config import conf

        conf.route_autoload = conf.route6_autoload = False
        from scapy.layers import inet6, l2, vrrp  # noqa: F401  registers the layers
        from scapy.utils import rdpcap
    except ImportError:
        print("scapy is not installed: pip install 'brainctl[capture]'", file=sys.stderr)
        return 1
    for number, packet in enumerate(rdpcap(io.BytesIO(sys.stdin.buffer.read())), 1):
        print(f"{number:4d}  {float(packet.time):.6f}  {packet.summary()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
