"""How large the receive buffer of a socket for adverts is: vrrp_rx_bufs_policy, vrrp_rx_bufs_multiplier, kernel_rx_buf_size."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable

from vrrp.config.model.daemon import BufferSettings
from vrrp.config.model.instance import VrrpInstance

_SIOCGIFMTU = 0x8921
_IFREQ = struct.Struct("16si20x")
DEFAULT_MTU = 1500


def mtu_of(interface: str) -> int:
    """The MTU of an interface of this namespace; 1500 if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFMTU, _IFREQ.pack(interface.encode(), 0))
        except OSError:
            return DEFAULT_MTU
    return int(_IFREQ.unpack(answer)[1])


def advert_packet_bytes(model: VrrpInstance) -> int:
    """The longest advert of an instance, with its IP header (IPv4), authentication and trailer."""
    per_address, header = (16, 0) if int(model.family) == 6 else (4, 20)
    more = (8 if model.version == 2 else 0) + (24 if model.authentication.kind.value == "AH" else 0) + (28 if model.hmac else 0)
    return header + 8 + per_address * len(model.addresses) + more


def receive_buffer_bytes(buffers: BufferSettings, models: Iterable[VrrpInstance]) -> int:
    """The sum of what each instance on the socket asks for; 0 = nobody asks, the daemon chooses."""
    total = 0
    for model in models:
        if model.receive_buffer_bytes is not None:
            total += model.receive_buffer_bytes
        elif buffers.vrrp_policy == "MTU":
            total += mtu_of(model.interface) * buffers.vrrp_multiplier
        elif buffers.vrrp_policy == "ADVERT":
            total += advert_packet_bytes(model) * buffers.vrrp_multiplier
        elif buffers.vrrp_policy:
            total += int(buffers.vrrp_policy)
    return total
