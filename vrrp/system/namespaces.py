"""Network namespaces: this thread looks into another one for a moment. A socket stays in the namespace where it was opened."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

FIRST = "/proc/1/ns/net"
"""The namespace of process 1: what keepalived calls the default one."""
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def path_of(name: str) -> str:
    """Of a namespace that ``ip netns add`` made; "" is the first one."""
    return f"/run/netns/{name}" if name else FIRST


@contextmanager
def inside(path: str) -> Iterator[None]:
    """The namespace at ``path``, and back again. Raises OSError (no such namespace, needs CAP_SYS_ADMIN)."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise OSError(error.errno, f"cannot look into the network namespace {path}: {error.strerror}") from None
        try:
            if _libc.setns(there, _CLONE_NEWNET):
                code = ctypes.get_errno()
                raise OSError(code, f"cannot look into the network namespace {path}: {os.strerror(code)}")
            try:
                yield
            finally:
                if _libc.setns(here, _CLONE_NEWNET):
                    raise RuntimeError("cannot go back to the own network namespace")
        finally:
            os.close(there)
    finally:
        os.close(here)
