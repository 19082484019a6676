"""A blocking generic netlink socket for one family: requests with acknowledgement, many at a time, and dumps.

The kernel works a request off inside ``send``, so an answer is there at once; the time limit only guards against a kernel that is stuck.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence

from pyroute2.netlink import ctrlmsg

from vrrp.system.netlink import set_receive_buffer

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NETLINK_GENERIC, SOL_NETLINK, NETLINK_CAP_ACK = 16, 270, 10
GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 3
LIMIT_S = 5
BATCH = 64
"""Requests per send: their acknowledgements must fit into the default receive buffer."""
RECEIVE_BYTES = 1 << 17
SEQUENCE_MASK = 0x7FFFFFFF

Encoder = Callable[[int, int], bytes]
"""(flags, sequence) -> one encoded message."""


class GenericNetlink:
    """Talks to one family of generic netlink. Raises OSError with ENOENT if the kernel does not know it."""

    def __init__(self, family_name: str) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC)
        try:
            self._sock.bind((0, 0))
            # Not settimeout: with it Python waits even where MSG_DONTWAIT is given.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", LIMIT_S, 0))
            self._sock.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._sequence = 0
            self.family_id = self._resolve(family_name)
        except BaseException:
            self._sock.close()
            raise

    def _resolve(self, name: str) -> int:
        def encoder(flags: int, sequence: int) -> bytes:
            message = ctrlmsg()
            message["cmd"] = CTRL_CMD_GETFAMILY
            message["version"] = 1
            message["attrs"] = [("CTRL_ATTR_FAMILY_NAME", name)]
            message["header"]["type"] = GENL_ID_CTRL
            message["header"]["flags"] = flags
            message["header"]["sequence_number"] = sequence
            message.encode()
            return bytes(message.data)

        for raw in self.ask(encoder):
            answer = ctrlmsg(raw)
            answer.decode()
            return int(answer.get_attr("CTRL_ATTR_FAMILY_ID"))
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def set_receive_buffer(self, size: int, *, force: bool) -> None:
        """So many bytes; 0 = as it is. Raises no error: too small a limit of the system is used as far as it goes."""
        set_receive_buffer(self._sock, size, force=force)

    def execute(self, encoders: Sequence[Encoder]) -> list[int]:
        """Carry out requests in order; the errno of each, 0 where it succeeded. A failed one does not stop those behind it.

        EINTR stands for a request without an answer: netlink does not acknowledge one that a signal, or the end of a kernel thread
        that never ran, broke off. All answers are there when ``send`` returns, so nothing is waited for.
        """
        results: list[int] = []
        for start in range(0, len(encoders), BATCH):
            results += self._execute_batch(encoders[start : start + BATCH])
        return results

    def _execute_batch(self, encoders: Sequence[Encoder]) -> list[int]:
        numbers = [self._next_sequence() for _ in encoders]
        self._sock.send(b"".join(encoder(NLM_F_REQUEST | NLM_F_ACK, number) for encoder, number in zip(encoders, numbers, strict=True)))
        results: dict[int, int] = {}
        waiting = set(numbers)
        while waiting:
            try:
                received = list(self._receive(socket.MSG_DONTWAIT))
            except BlockingIOError:
                break
            for kind, sequence, raw in received:
                if kind == NLMSG_ERROR and sequence in waiting:
                    waiting.discard(sequence)
                    results[sequence] = _errno_in(raw)
        return [results.get(number, errno.EINTR) for number in numbers]

    def ask(self, encoder: Encoder, *, dump: bool = False) -> list[bytes]:
        """The answers to one request, each a whole netlink message. OSError if the kernel refuses, EAGAIN if it never answers."""
        number = self._next_sequence()
        self._sock.send(encoder(NLM_F_REQUEST | (NLM_F_DUMP if dump else NLM_F_ACK), number))
        answers: list[bytes] = []
        while True:
            for kind, sequence, raw in self._receive():
                if sequence != number:
                    continue  # left over from a request that ran into the time limit
                if kind == NLMSG_DONE:
                    return answers
                if kind == NLMSG_ERROR:
                    code = _errno_in(raw)
                    if code:
                        raise OSError(code, os.strerror(code))
                    return answers
                answers.append(raw)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & SEQUENCE_MASK
        return self._sequence

    def _receive(self, flags: int = 0) -> Iterator[tuple[int, int, bytes]]:
        data = self._sock.recv(RECEIVE_BYTES, flags)
        at = 0
        while at + 16 <= len(data):
            length, kind, _, sequence = struct.unpack_from("=IHHI", data, at)
            if length < 16:
                return
            yield kind, sequence, data[at : at + length]
            at += (length + 3) & ~3


def _errno_in(raw: bytes) -> int:
    return -int(struct.unpack_from("=i", raw, 16)[0])
