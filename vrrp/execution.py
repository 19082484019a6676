"""Carries out the commands of the VRRP core: adverts, addresses and announcements in their order, then the news about them.

The news (log, notify scripts by way of the parent, subscribers) of a batch goes out after everything that touches the network: 255
virtual routers that take over together do not wait for each other's log lines.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address

from base.channel import JsonObject
from base.clock import now_ns
from base.log import Log
from vrrp.config.model.addresses import VirtualAddress
from vrrp.protocol.commands import (
    AddAddresses,
    AnnounceElsewhere,
    AnnounceSource,
    ProbeEgress,
    RefitAddresses,
    RemoveAddresses,
    Report,
    ReportKind,
    RunNotify,
    SendAdvert,
    SendGarp,
)
from vrrp.protocol.events import AddressFailed, AdvertSentAgain, AdvertUnsent, InstanceEvent
from vrrp.protocol.instance import VrrpInstance
from vrrp.protocol.node import NodeCommand, RunGroupNotify
from vrrp.system.address_changes import Wanted, changes
from vrrp.system.endpoint import ADD_TOLERATED, REMOVE_TOLERATED, Endpoint, Held
from vrrp.system.interfaces import InterfaceTable
from vrrp.system.kernel_addresses import Place, addresses, open_socket, remove
from vrrp.system.netlink import CommandSocket
from vrrp.system.routing import STATIC, Routing, RoutingNews

EGRESS_ERRORS_TOLD = (1, 3)
"""Subscribers hear of the first and the third failed advert of a kind, not of each."""


class Executor:
    """``endpoints`` and ``instances`` are looked up by instance name at each command.

    ``to_parent(message)`` and ``publish(message)`` take the news; ``keep_addresses`` (option -V) leaves them in the kernel at the end.
    """

    def __init__(
        self,
        log: Log,
        to_parent: Callable[[JsonObject], object],
        publish: Callable[[JsonObject], None],
        interfaces: InterfaceTable,
    ) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.instances: dict[str, VrrpInstance] = {}
        self.held: dict[Held, str] = {}
        """What this process put into the kernel: (interface index, address) → instance."""
        self.keep_addresses = False
        self._former_lines: dict[str, tuple[VirtualAddress, ...]] = {}
        self._interfaces = interfaces
        self._log = log
        self._to_parent = to_parent
        self._publish = publish
        self._netlink = CommandSocket()
        self.routing = Routing(log, self._tell_routing)

    def set_receive_buffer(self, size: int, *, force: bool) -> None:
        """vrrp_netlink_cmd_rcv_bufs."""
        self._netlink.set_receive_buffer(size, force=force)

    def execute(self, at_ns: int, commands: Iterable[NodeCommand]) -> list[tuple[str, InstanceEvent]]:
        """Carry out ``commands``; returns what became of them, for those that it matters to: addresses that the kernel refused, adverts
        that left to nobody, or to somebody again."""
        outcome: list[tuple[str, InstanceEvent]] = []
        news: list[RunNotify | RunGroupNotify | Report] = []
        for command in commands:
            match command:
                case SendAdvert(name, advert):
                    endpoint = self.endpoints[name]
                    if endpoint.links and endpoint.asleep:
                        endpoint.wake()
                    if endpoint.packets is not None and endpoint.send_socket is not None:
                        failures = endpoint.packets.send(advert, endpoint.send_socket)
                        if failures or endpoint.unsent:
                            outcome += self._egress_changed(endpoint, failures)
                case ProbeEgress(name):
                    endpoint = self.endpoints[name]
                    endpoint.wake()
                    if endpoint.packets is not None and endpoint.send_socket is not None:
                        outcome += self._egress_changed(endpoint, endpoint.packets.probe(endpoint.send_socket))
                    endpoint.quiet()
                case AddAddresses(name):
                    error = self._add_addresses(name)
                    if error:
                        outcome.append((name, AddressFailed(error)))
                    else:
                        self.routing.install(at_ns, name)
                case RefitAddresses(name):
                    error = self._refit_addresses(name)
                    self.routing.install(at_ns, name)
                    if error:
                        outcome.append((name, AddressFailed(error)))
                case RemoveAddresses(name):
                    self._remove_addresses(name)
                case SendGarp(name, repeat):
                    self._announce(at_ns, name, repeat)
                case AnnounceElsewhere(name):
                    for announcer, address in self.endpoints[name].extra:
                        announcer.announce(at_ns, address)
                case AnnounceSource(name):
                    endpoint = self.endpoints[name]
                    if endpoint.source_announcer is not None and endpoint.local_address is not None:
                        endpoint.source_announcer.announce(at_ns, endpoint.local_address)
                case _:
                    news.append(command)
        for item in news:
            self._tell(item)
        return outcome

    def _egress_changed(self, endpoint: Endpoint, failures: list[tuple[str, int]]) -> list[tuple[str, InstanceEvent]]:
        """Something did not leave, or did not last time."""
        name, unsent, packets = endpoint.model.name, endpoint.unsent, endpoint.packets
        for destination, code in failures:
            self._egress_failed(endpoint, destination, code)
        endpoint.unsent = bool(failures) and packets is not None and len(failures) == len(packets.destinations)
        if endpoint.unsent:
            return [(name, AdvertUnsent(os.strerror(failures[0][1])))]
        return [(name, AdvertSentAgain())] if unsent else []

    def _egress_failed(self, endpoint: Endpoint, destination: str, code: int) -> None:
        word = errno.errorcode.get(code, str(code))
        endpoint.egress_errors[word] += 1
        hint = "; a firewall rule in this node's OUTPUT chain drops protocol 112" if code == errno.EPERM else ""
        name = endpoint.model.name
        self._log.limited(f"egress {name} {destination} {word}", f"({name}) advert to {destination} not sent: {os.strerror(code)}{hint}")
        if endpoint.egress_errors[word] in EGRESS_ERRORS_TOLD:
            self._publish({"event": "egress_error", "name": name, "destination": destination, "error": word})

    def _add_addresses(self, name: str) -> str:
        endpoint = self.endpoints[name]
        endpoint.wake()
        self.held.update(dict.fromkeys(endpoint.places, name))
        failures = self._netlink.execute(endpoint.add_blob, tolerate=ADD_TOLERATED)
        if errno.EEXIST in failures:
            failures = self._bring_in_line(endpoint.wanted)
        return self._refused(name, failures)

    def _refused(self, name: str, failures: list[int]) -> str:
        if not failures:
            return ""
        text = os.strerror(failures[0])
        self._log.error(f"({name}) the kernel refused a virtual address: {text}")
        return text

    def _refit_addresses(self, name: str) -> str:
        """A reload: the kernel gets what the file says now, and loses what it said before; addresses first, then routes."""
        endpoint = self.endpoints[name]
        endpoint.wake()
        former = {held for held, owner in self.held.items() if owner == name} - endpoint.places.keys()
        for held in former:
            del self.held[held]
        self.held.update(dict.fromkeys(endpoint.places, name))
        lines = set(self._former_lines.get(name, ()))
        wanted = [replace(item, fresh=item.line not in lines) for item in endpoint.wanted]
        return self._refused(name, self._bring_in_line(wanted, {(index, address.packed) for index, address in former - self.held.keys()}))

    def _bring_in_line(self, wanted: Collection[Wanted], former: Collection[Place] = ()) -> list[int]:
        """What the kernel holds decides; the errors that matter."""
        with open_socket() as sock:
            blob, removes = changes(wanted, addresses(sock), former)
        failures = self._netlink.execute(blob, tolerate=(errno.EEXIST, *ADD_TOLERATED, *REMOVE_TOLERATED))
        if removes:  # secondary addresses of a removed primary one go with it, whosever they are
            for name in set(self.held.values()):
                failures += self._netlink.execute(self.endpoints[name].add_blob, tolerate=(errno.EEXIST, *ADD_TOLERATED))
        return failures

    def begin_reload(self, before: Mapping[str, Endpoint], renamed: Mapping[str, str]) -> None:
        """Remember what the lines were, under the names that come."""
        self._former_lines = {renamed.get(name, name): tuple(item.line for item in endpoint.wanted) for name, endpoint in before.items()}
        self.held = {held: renamed.get(name, name) for held, name in self.held.items()}

    def end_reload(self) -> None:
        """Everybody has changed over."""
        self._former_lines = {}

    def _remove_addresses(self, name: str) -> None:
        endpoint = self.endpoints[name]
        places = {held for held, owner in self.held.items() if owner == name} | endpoint.places.keys()
        for held in [held for held, owner in self.held.items() if owner == name]:
            del self.held[held]
        for announcer, address in endpoint.announcements:
            announcer.cancel(address)
        if self.keep_addresses:
            return
        self.routing.remove(name)
        for code in self._netlink.execute(endpoint.remove_blob, tolerate=REMOVE_TOLERATED):
            self._log.error(f"({name}) the kernel refused to remove a virtual address: {os.strerror(code)}")
        others = [held for held in places if self._has_other_form(endpoint, held)]
        if others:
            self._remove_every_form(name, others)
        endpoint.quiet()

    def _has_other_form(self, endpoint: Endpoint, held: Held) -> bool:
        """As far as the kernel has told: does it hold the address with a length that is not ours?"""
        interface = self._interfaces.at(held[0])
        forms = {} if interface is None else interface.addresses.get(held[1], {})
        return not forms.keys() <= endpoint.places.get(held, frozenset())

    def _remove_every_form(self, name: str, places: Iterable[Held]) -> None:
        try:
            with open_socket() as sock:
                left = remove(sock, {(index, address.packed) for index, address in places})
        except OSError as error:
            self._log.error(f"({name}) the kernel's addresses cannot be read: {error.strerror or error}")
            return
        for _index, packed in left:
            self._log.error(f"({name}) {ip_address(packed)} cannot be removed")

    def _announce(self, at_ns: int, name: str, repeat: int) -> None:
        announcements = self.endpoints[name].announcements
        for _ in range(repeat):
            for announcer, address in announcements:
                announcer.announce(at_ns, address)

    # ---- news -----------------------------------------------------------------------------------------------------

    def _tell(self, item: RunNotify | RunGroupNotify | Report) -> None:
        match item:
            case RunNotify(name, state, priority, reason):
                self._log.info(f"({name}) Entering {state} STATE: {reason}")
                self._tell_state("INSTANCE", name, state, priority, reason)
                self._prepare(name)
            case RunGroupNotify(name, state, reason):
                self._log.info(f"VRRP_Group({name}) entering {state} STATE: {reason}")
                self._tell_state("GROUP", name, state, 0, reason)
            case Report(name, kind, detail):
                self._to_parent({"op": "report", "name": name, "kind": kind.value, "detail": detail, **self._standing(name)})
                self._log.limited(f"{name} {kind.value}", f"({name}) {kind.value.replace('_', ' ')}: {detail}")
                self._publish({"event": "report", "name": name, "kind": kind.value, "detail": detail, "at_ns": now_ns()})
                self._prepare(name)

    def _standing(self, name: str) -> JsonObject:
        instance = self.instances.get(name)
        return {} if instance is None else {"state": instance.state.value, "priority": instance.priority}

    def _tell_routing(self, at_ns: int, news: RoutingNews) -> None:
        name = "static entries" if news.owner == STATIC else news.owner
        self._tell(Report(name, ReportKind.ROUTING_REFUSED if news.problem else ReportKind.ROUTING_RESTORED, news.detail))

    def tell_restored(self, name: str, detail: str) -> None:
        """A macvlan or ipvlan of this instance was made again."""
        self._tell(Report(name, ReportKind.INTERFACE_RESTORED, detail))

    def _tell_state(self, kind: str, name: str, state: str, priority: int, reason: str) -> None:
        self._to_parent({"op": "notify", "kind": kind, "name": name, "state": state, "priority": priority, "reason": reason})
        event = {"event": "state", "kind": kind.lower(), "name": name, "state": state, "priority": priority, "reason": reason}
        self._publish({**event, "at_ns": now_ns()})

    def _prepare(self, name: str) -> None:
        """Encode what this instance would say next: a takeover must not wait for it."""
        instance, endpoint = self.instances.get(name), self.endpoints.get(name)
        if instance is not None and endpoint is not None and endpoint.packets is not None:
            endpoint.packets.prepare(instance.next_advert().advert)
