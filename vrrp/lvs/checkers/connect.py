"""Sockets of the checkers: where from (bindto, bind_port, bind_if, fwmark), where to, and failure as one exception.

Nothing here waits without a limit: the callers put ``asyncio.timeout`` around each part of a probe.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl

from vrrp.lvs.model.settings import Connection

STREAM_LIMIT = 65_536
SO_MARK = 36


class CheckFailed(Exception):
    """The server failed the check; the text says how."""


def describe(error: BaseException) -> str:
    """An error of the network in the words of an operator."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, TimeoutError) and not getattr(error, "errno", None):
        return "timeout"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def open_socket(connection: Connection, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
    """A non-blocking socket, bound and marked as configured. Raises OSError."""
    family = socket.AF_INET if connection.address.version == 4 else socket.AF_INET6
    opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        if connection.fwmark:
            opened.setsockopt(socket.SOL_SOCKET, SO_MARK, connection.fwmark)
        if connection.bind_interface:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, connection.bind_interface.encode() + b"\0")
        if connection.bind_address is not None or connection.bind_port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            wildcard = "0.0.0.0" if family == socket.AF_INET else "::"
            source = wildcard if connection.bind_address is None else str(connection.bind_address)
            opened.bind(_sockaddr(connection, source, connection.bind_port))
    except OSError:
        opened.close()
        raise
    return opened


def target(connection: Connection) -> tuple[str, int] | tuple[str, int, int, int]:
    """The address to connect to; a link-local one gets the scope of ``bind_if``."""
    return _sockaddr(connection, str(connection.address), connection.port)


def _sockaddr(connection: Connection, address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if connection.address.version == 4:
        return (address, port)
    bare, _, scope = address.partition("%")
    device = scope or connection.bind_interface
    return (bare, port, 0, socket.if_nametoindex(device) if device and bare.lower().startswith("fe8") else 0)


async def connect(connection: Connection, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
    """A connected socket within ``timeout_ns``. Raises OSError and TimeoutError."""
    opened = open_socket(connection, kind, protocol)
    try:
        if kind != socket.SOCK_STREAM:
            opened.connect(target(connection))  # only sets the address
            return opened
        async with asyncio.timeout(connection.timeout_ns / 1e9):
            await asyncio.get_running_loop().sock_connect(opened, target(connection))
    except BaseException:
        opened.close()
        raise
    if _is_own_echo(opened):
        opened.close()
        raise OSError(errno.ECONNREFUSED, "connected to itself")
    return opened


def _is_own_echo(opened: socket.socket) -> bool:
    """TCP simultaneous open: a probe of a closed local port in the ephemeral range can connect to itself."""
    try:
        return bool(opened.getsockname()[:2] == opened.getpeername()[:2])
    except OSError:
        return False  # reset already; the first read says so
