"""IPVS in this network namespace: read the table and the counters, carry out changes, run the sync daemons.

Everything blocks, for as long as the kernel needs; the checker process may afford that, a process that keeps time may not.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from vrrp.lvs.ipvs import messages, translation
from vrrp.lvs.ipvs.genetlink import GenericNetlink
from vrrp.lvs.ipvs.messages import Attributes, IpvsInfo, Nest
from vrrp.lvs.ipvs.values import ServiceStatistics, SyncDaemon, SyncRole, Timeouts
from vrrp.lvs.model.desired import (
    AddDestination,
    AddService,
    Change,
    Destination,
    DestinationKey,
    DropDestination,
    EditDestination,
    EditService,
    Entry,
    RemoveService,
    ServiceKey,
)

MODPROBE_LIMIT_S = 20
_REASONS = {
    errno.ESRCH: "no such service",
    errno.EEXIST: "it exists already",
    errno.ERANGE: "the weight is negative, or the lower threshold is above the upper one",
    errno.EPERM: "needs CAP_NET_ADMIN",
}


class IpvsUnavailable(OSError):
    """This kernel, or this container, has no IPVS."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A change that the kernel refused, and why."""

    change: Change
    errno: int

    @property
    def reason(self) -> str:
        """For the operator."""
        if self.errno == errno.ENOENT:
            match self.change:
                case AddService(_, service) | EditService(_, service):
                    engine = f" or persistence engine {service.engine}" if service.engine else ""
                    return f"this kernel has no scheduler {service.scheduler}{engine}"
                case _:
                    return "no such real server"
        return _REASONS.get(self.errno, os.strerror(self.errno))

    def __str__(self) -> str:
        where = translation.describe_service(self.change.key)
        match self.change:
            case AddDestination(_, target) | EditDestination(_, target) | DropDestination(_, target):
                where = f"{translation.describe_destination(target)} of {where}"
            case _:
                pass
        return f"{type(self.change).__name__} {where}: {self.reason}"


class IpvsKernel:
    """The table of the network namespace in which it was made. Not for use by several threads."""

    def __init__(self) -> None:
        """Load ip_vs if need be. Raises IpvsUnavailable."""
        try:
            self._netlink = GenericNetlink(messages.FAMILY_NAME)
        except FileNotFoundError:
            self._netlink = _after_modprobe()

    def __enter__(self) -> IpvsKernel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def set_receive_buffer(self, size: int, *, force: bool) -> None:
        """``lvs_netlink_cmd_rcv_bufs``: so many bytes; 0 = as it is."""
        self._netlink.set_receive_buffer(size, force=force)

    def close(self) -> None:
        """Close the socket; the table stays."""
        self._netlink.close()

    # ---- the table ----------------------------------------------------------------------------------------------------------------------

    def services(self) -> dict[ServiceKey, Entry]:
        """The table as it is now, with services of others."""
        table = {}
        for nest in self._dump(messages.GET_SERVICE, "IPVS_CMD_ATTR_SERVICE"):
            key, service = translation.read_service(nest)
            destinations: dict[DestinationKey, Destination] = {}
            for found in self._dump_destinations(key):
                target, value = translation.read_destination(found, key.family)
                destinations[target] = value
            table[key] = Entry(service, destinations)
        return table

    def apply(self, changes: Iterable[Change]) -> list[Failure]:
        """Carry out ``changes`` in order; those that the kernel refused. A refusal does not stop the others."""
        given = list(changes)
        results = self._netlink.execute([partial(self._encode, *_command(change)) for change in given])
        return [Failure(change, code) for change, code in zip(given, results, strict=True) if code]

    def flush(self) -> None:
        """Remove every service, also those of others (``lvs_flush``)."""
        self._request(messages.FLUSH, [])

    # ---- statistics ---------------------------------------------------------------------------------------------------------------------

    def statistics(self) -> dict[ServiceKey, ServiceStatistics]:
        """Counters of every service and destination."""
        found = {}
        for nest in self._dump(messages.GET_SERVICE, "IPVS_CMD_ATTR_SERVICE"):
            key, _ = translation.read_service(nest)
            destinations = {
                translation.read_destination(target, key.family)[0]: translation.read_destination_statistics(target)
                for target in self._dump_destinations(key)
            }
            found[key] = ServiceStatistics(translation.read_counters(nest.get_attr("IPVS_SVC_ATTR_STATS64")), destinations)
        return found

    def zero(self, key: ServiceKey | None = None) -> None:
        """Reset the counters of one service, or of all."""
        self._request(messages.ZERO, [] if key is None else [_service_nest(translation.service_key_attributes(key))])

    # ---- connection synchronisation, timeouts -------------------------------------------------------------------------------------------

    def sync_daemons(self) -> list[SyncDaemon]:
        """The sync daemons that run, at most one of each role."""
        return [translation.read_daemon(nest) for nest in self._dump(messages.GET_DAEMON, "IPVS_CMD_ATTR_DAEMON")]

    def start_sync(self, daemon: SyncDaemon) -> None:
        """Start a sync daemon. FileExistsError if one of that role runs; OSError ENODEV if there is no such interface."""
        self._request(messages.NEW_DAEMON, [("IPVS_CMD_ATTR_DAEMON", {"attrs": translation.daemon_attributes(daemon)})])

    def stop_sync(self, role: SyncRole) -> None:
        """Stop the sync daemon of a role; nothing if none runs."""
        try:
            self._request(messages.DEL_DAEMON, [("IPVS_CMD_ATTR_DAEMON", {"attrs": [("IPVS_DAEMON_ATTR_STATE", int(role))]})])
        except ProcessLookupError:
            pass
        except InterruptedError:
            # The daemon's thread had not run yet. It is gone all the same; the kernel only does not say so.
            if any(daemon.role is role for daemon in self.sync_daemons()):
                raise

    def run_sync(self, wanted: Collection[SyncDaemon]) -> bool:
        """Exactly these sync daemons shall run: a director is master or backup of ``lvs_sync_daemon`` as VRRP has it, or both.

        One that runs as wanted is left alone. Returns whether anything was changed.
        """
        running = self.sync_daemons()
        wrong = [daemon for daemon in running if not any(each.is_met_by(daemon) for each in wanted)]
        for daemon in wrong:
            self.stop_sync(daemon.role)
        missing = [each for each in wanted if not any(each.is_met_by(daemon) for daemon in running)]
        for each in missing:
            self.start_sync(each)
        return bool(wrong or missing)

    def timeouts(self) -> Timeouts:
        """The timeouts of connections."""
        (answer,) = self._ask(messages.GET_CONFIG)
        return Timeouts(*(answer.get_attr(f"IPVS_CMD_ATTR_TIMEOUT_{name}") for name in ("TCP", "TCP_FIN", "UDP")))

    def set_timeouts(self, timeouts: Timeouts) -> None:
        """Set those that are not 0."""
        values = (("TCP", timeouts.tcp_s), ("TCP_FIN", timeouts.tcp_fin_s), ("UDP", timeouts.udp_s))
        self._request(messages.SET_CONFIG, [(f"IPVS_CMD_ATTR_TIMEOUT_{name}", value) for name, value in values])

    def version(self) -> tuple[int, int, int]:
        """IPVS's own version."""
        raw = self._netlink.ask(partial(self._encode, messages.GET_INFO, []))[0]
        number = messages.decode(raw, IpvsInfo).get_attr("IPVS_INFO_ATTR_VERSION")
        return number >> 16 & 0xFF, number >> 8 & 0xFF, number & 0xFF

    # ---- messages -----------------------------------------------------------------------------------------------------------------------

    def _encode(self, command: int, attributes: Attributes, flags: int, sequence: int) -> bytes:
        return messages.encode(self._netlink.family_id, command, attributes, flags, sequence)

    def _request(self, command: int, attributes: Attributes) -> None:
        (code,) = self._netlink.execute([partial(self._encode, command, attributes)])
        if code:
            raise OSError(code, os.strerror(code))

    def _ask(self, command: int, attributes: Attributes | None = None, *, dump: bool = False) -> list[Nest]:
        return [messages.decode(raw) for raw in self._netlink.ask(partial(self._encode, command, attributes or []), dump=dump)]

    def _dump(self, command: int, name: str, attributes: Attributes | None = None) -> list[Any]:
        return [message.get_attr(name) for message in self._ask(command, attributes, dump=True)]

    def _dump_destinations(self, key: ServiceKey) -> list[Any]:
        return self._dump(messages.GET_DEST, "IPVS_CMD_ATTR_DEST", [_service_nest(translation.service_key_attributes(key))])


def _after_modprobe() -> GenericNetlink:
    try:
        subprocess.run(["modprobe", "-q", "ip_vs"], check=False, timeout=MODPROBE_LIMIT_S, capture_output=True)
        return GenericNetlink(messages.FAMILY_NAME)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise IpvsUnavailable(
            errno.ENOENT, "this kernel has no IPVS; load it on the host: modprobe ip_vs (a container takes the host's kernel)"
        ) from error


def _service_nest(attributes: Attributes) -> tuple[str, Any]:
    return "IPVS_CMD_ATTR_SERVICE", {"attrs": attributes}


def _destination_nest(attributes: Attributes) -> tuple[str, Any]:
    return "IPVS_CMD_ATTR_DEST", {"attrs": attributes}


def _command(change: Change) -> tuple[int, Attributes]:
    """The command that carries out ``change``, and its attributes."""
    match change:
        case AddService(key, service):
            return messages.NEW_SERVICE, [_service_nest(translation.service_attributes(key, service))]
        case EditService(key, service):
            return messages.SET_SERVICE, [_service_nest(translation.service_attributes(key, service))]
        case RemoveService(key):
            return messages.DEL_SERVICE, [_service_nest(translation.service_key_attributes(key))]
        case AddDestination(key, target, value):
            command, attributes = messages.NEW_DEST, translation.destination_attributes(target, value)
        case EditDestination(key, target, value):
            command, attributes = messages.SET_DEST, translation.destination_attributes(target, value)
        case DropDestination(key, target):
            command, attributes = messages.DEL_DEST, translation.destination_key_attributes(target)
    return command, [_service_nest(translation.service_key_attributes(key)), _destination_nest(attributes)]
