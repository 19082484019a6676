"""The last will of a vrrp process: what its parent does when it dies without a word (docs/adr/0103-last-will.md).

Deliberately free of pyroute2 and of the configuration: finished bytes into two sockets, within a millisecond.
"""

from __future__ import annotations

import errno
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from base.channel import JsonObject
from vrrp.system.advert_socket import AdvertSender, SendSocket
from vrrp.system.advert_socket6 import SendSocket6
from vrrp.system.guard import Guard
from vrrp.system.kernel_addresses import Place, open_socket, remove


@dataclass(frozen=True, slots=True)
class Bequest:
    """One instance: where its addresses are, netlink messages that remove everything else of it, and its advert with priority 0."""

    instance: str
    places: tuple[Place, ...]
    remove: bytes
    interface: str | None
    index: int
    adverts: tuple[tuple[bytes, str, bool], ...]


class LastWill:
    """Collects the bequests of the living process and executes them when it is dead; the guardian has a copy of the removals."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._bequests: dict[str, Bequest] = {}

    def __len__(self) -> int:
        return len(self._bequests)

    def clear(self) -> None:
        """The process makes a new will, or needs none any more."""
        self._bequests = {}
        self._guard.forget()

    def note(self, message: JsonObject) -> None:
        """One instance's part of the will, as the process sent it."""
        adverts = tuple((bytes.fromhex(a["packet"]), str(a["destination"]), bool(a["direct"])) for a in message["adverts"])
        name = str(message["instance"])
        places = tuple((int(index), bytes.fromhex(packed)) for index, packed in message["addresses"])
        remove = bytes.fromhex(message["remove"])
        self._bequests[name] = Bequest(name, places, remove, message["interface"], int(message["index"]), adverts)
        self._guard.removal(remove)
        self._guard.addresses(places)

    def execute(self, masters: Collection[str]) -> list[str]:
        """Remove every address; say priority 0 for ``masters``. Returns what went wrong, in words."""
        problems: list[str] = []
        for name in masters:
            bequest = self._bequests.get(name)
            if bequest is not None:
                problems += _say_zero(bequest)
        try:
            problems += self._remove()
        except OSError as error:
            problems.append(f"the kernel cannot be reached: {error.strerror or error}")
        return problems

    def _remove(self) -> list[str]:
        problems: list[str] = []
        with open_socket() as sock:
            places = frozenset(place for bequest in self._bequests.values() for place in bequest.places)
            if places:
                problems += [f"{ip_address(packed)} is still there" for _index, packed in remove(sock, places)]
        with open_socket() as sock:
            for bequest in self._bequests.values():
                if bequest.remove:
                    try:
                        sock.send(bequest.remove)
                    except OSError as error:
                        problems.append(f"{bequest.instance}: not everything is removed: {error.strerror}")
        return problems


def _say_zero(bequest: Bequest) -> list[str]:
    problems: list[str] = []
    if not bequest.adverts:
        return problems
    try:
        sender = _sender(bequest)
    except OSError as error:
        return [f"{bequest.instance}: {error.strerror}"]
    for packet, destination, direct in bequest.adverts:
        code = sender.send(packet, destination, direct=direct)
        if code:
            problems.append(f"{bequest.instance}: {errno.errorcode.get(code, code)} for {destination}")
    sender.close()
    return problems


def _sender(bequest: Bequest) -> AdvertSender:
    packet = bequest.adverts[0][0]
    if packet[0] >> 4 == 6:
        source = None if bequest.interface is None else IPv6Address(packet[8:24])
        return SendSocket6(bequest.interface, bequest.index, source)
    return SendSocket(bequest.interface, bequest.index)
