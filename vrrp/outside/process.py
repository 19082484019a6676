"""vrrpd's outside process: hears from the vrrp process on its control socket and tells SNMP, D-Bus and mail.

Nothing here is timing critical, nothing here can hold up an election: it is a client of vrrpd.sock like any other. Its parent
(vrrp.outside.supervision) sends the configuration as the first message and again after each reload.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from base.channel import JsonObject, LineDecoder, ProtocolError, encode_line
from base.core import NS_PER_S
from base.diagnostics import Diagnostics
from base.log import Log, child_log
from base.supervise import child_socket, die_with_parent
from vrrp.config.model.configuration import VrrpConfig
from vrrp.handing_over import ArrivingConfiguration
from vrrp.lvs.from_config import virtual_servers
from vrrp.outside.checker_mib import CHECK, CheckerView, checker_mib, checker_notification
from vrrp.outside.events import AdvertRefused, Kind, OutsideEvent, StateChanged, StateTracker
from vrrp.outside.keepalived_mib import GLOBAL, KEEPALIVED, VRRP, global_mib, keepalived_mib
from vrrp.outside.links import read_links
from vrrp.outside.mail import Mail, MailConfigError, MailQueue, MailRules, compose, relay_of
from vrrp.outside.mib_tree import MibTree
from vrrp.outside.notifications import notifications
from vrrp.outside.rfc_mibs import VRRP_MIB, VRRPV3_MIB, vrrp_mib, vrrpv3_mib
from vrrp.outside.routing_mib import routing_mib
from vrrp.outside.snmp_agent import SnmpAgent, parse_socket
from vrrp.outside.supervision import wants_mail, wants_snmp
from vrrp.outside.view import View
from vrrp.outside.vrrpd_client import VrrpdClient, VrrpdGoneError
from vrrp.system.privileges import keep_only
from vrrp.system.process_name import OURS, OUTSIDE, set_name

if TYPE_CHECKING:
    from vrrp.outside.dbus_service import DbusService, Exported

STATUS_MAX_AGE_S = 1.0
"""SNMP answers are at most this old; so a walk asks the vrrp process once a second, whatever its length."""
LAST_EVENTS_S = 1.0
LAST_WORDS_S = 0.5
VERSION_TEXT = "vrrpd (brainctl)"


class OutsideProcess:
    """Joins the parts; see the module docstring."""

    def __init__(self, parent: socket.socket, run_dir: str, log: Log) -> None:
        self.log = log
        self._parent = parent
        self._host = socket.gethostname()
        self._config = VrrpConfig()
        self._status: JsonObject = {}
        self._mib: MibTree | None = None
        self._mib_s = 0.0
        self._asking = asyncio.Lock()
        self._up_since_ns: dict[str, int] = {}
        self._tracker = StateTracker()
        self._mail_rules = MailRules()
        self._mail = MailQueue(log)
        self._snmp: SnmpAgent | None = None
        self._snmp_settings: object = None
        self._dbus: DbusService | None = None
        self._dbus_settings: object = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._connected = False
        self._configured = False
        self._stop = asyncio.Event()
        self._stop_at_once = False
        self._arriving = ArrivingConfiguration()
        self._checkers: dict[str, JsonObject] = {}
        self._checkers_s = 0.0
        self._checkers_up = False
        self._checker_client = VrrpdClient(
            os.path.join(run_dir, "vrrpd-lvs.sock"),
            log,
            on_up=lambda _status: self._checker_process(up=True),
            on_event=lambda _event: None,
            on_down=lambda: self._checker_process(up=False),
        )
        self._client = VrrpdClient(
            os.path.join(run_dir, "vrrpd.sock"), log, on_up=self._vrrpd_up, on_event=self._vrrpd_said, on_down=self._vrrpd_down
        )

    # ---- running --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until SIGTERM, or the parent says stop or is gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        reader, writer = await asyncio.open_connection(sock=self._parent)
        self._parent_writer = writer
        self._start("parent", self._listen(reader))
        await self._stop.wait()
        await self._say_last_words()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        decoder = LineDecoder()
        with contextlib.suppress(OSError, ProtocolError):
            while data := await reader.read(65536):
                for message in decoder.feed(data):
                    self._on_parent(message)
        self._stop.set()

    def _on_parent(self, message: JsonObject) -> None:
        match message.get("op"):
            case "configure":
                if (config := self._arriving.take(message)) is not None:
                    self._configure(config)
            case "lvs_notify":
                self._tell_checker_news(message)
            case "mail":
                self._send_mail(Mail(f"[{self._router_id}] {message['subject']}", message["body"]))
            case "stop":
                self._stop_at_once = True
                self._stop.set()

    def _request(self, what: str) -> None:
        self._parent_writer.write(encode_line({"op": "request", "what": what}))

    async def _say_last_words(self) -> None:
        """The last changes (STOP) may still be on their way: the vrrp process closes the connection after them."""
        deadline = time.monotonic() + (0 if self._stop_at_once else LAST_EVENTS_S)
        while self._connected and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for name in ("vrrpd", "snmp"):
            await self._end(name)
        if self._dbus is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._dbus.stopped(), LAST_WORDS_S)
        deadline = time.monotonic() + LAST_WORDS_S
        while len(self._mail) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if len(self._mail):
            self.log.error(f"{len(self._mail)} mails could not be sent before the end")

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` for ever; what it raises is a mistake of ours and ends this process, which its parent starts again."""

        def done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.log.error(f"the {name} part failed: {type(error).__name__}: {error}")
                os._exit(1)

        task = self._tasks[name] = asyncio.create_task(work, name=name)
        task.add_done_callback(done)

    async def _end(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # ---- configuration --------------------------------------------------------------------------------------------

    def _configure(self, config: VrrpConfig) -> None:
        """Parts whose own settings are the same go on undisturbed."""
        self._config = config
        self._mib = None
        self._configure_mail(config)
        self._configure_snmp(config)
        self._configure_dbus(config)
        if not self._configured:
            self._configured = True
            self._start("vrrpd", self._client.run())
            self._start("checkers", self._checker_client.run())
            self._start("mail", self._mail.run())
        elif self._dbus is not None:
            self._dbus.reloaded()

    def _configure_mail(self, config: VrrpConfig) -> None:
        relay = None
        if wants_mail(config):
            try:
                relay = relay_of(config.global_defs.mail, os.environ)
            except MailConfigError as error:
                self.log.error(f"no mail is sent: {error}")
        self._mail.configure(relay)

    def _configure_snmp(self, config: VrrpConfig) -> None:
        snmp = config.global_defs.snmp
        settings = (snmp.socket, snmp.vrrp, snmp.checker, snmp.rfc_v2, snmp.rfc_v3) if wants_snmp(config) else None
        if settings == self._snmp_settings:
            return
        self._snmp_settings = settings
        old = self._tasks.pop("snmp", None)
        if old is not None:
            old.cancel()
        self._snmp = None
        if settings is None:
            return
        try:
            address = parse_socket(snmp.socket)
        except ValueError as error:
            self.log.error(f"no SNMP: snmp_socket: {error}")
            return
        wanted = (
            (GLOBAL, snmp.vrrp or snmp.checker),
            (VRRP, snmp.vrrp),
            (CHECK, snmp.checker),
            (VRRP_MIB, snmp.rfc_v2),
            (VRRPV3_MIB, snmp.rfc_v3),
        )
        subtrees = [subtree for subtree, on in wanted if on]
        self._snmp = SnmpAgent(address, subtrees, self.log, identity=KEEPALIVED, tree=self._tree)
        self._start("snmp", self._snmp.run())

    def _configure_dbus(self, config: VrrpConfig) -> None:
        dbus = config.global_defs.dbus
        settings = (dbus, config.daemon.net_namespace, config.daemon.instance) if dbus.enabled else None
        if settings != self._dbus_settings:
            self._dbus_settings = settings
            old = self._tasks.pop("dbus", None)
            if old is not None:
                old.cancel()
            self._dbus = None
            if settings is not None:
                self._start_dbus(config)
        self._show_on_dbus()

    def _start_dbus(self, config: VrrpConfig) -> None:
        try:
            from vrrp.outside.dbus_service import DbusService, prefix
        except ImportError as error:
            self.log.error(f"no D-Bus: {error}; install the Python package dbus-fast")
            return
        dbus = config.global_defs.dbus
        root = prefix(config.daemon.net_namespace, config.daemon.instance)
        self._dbus = DbusService(
            dbus.service_name,
            root,
            self.log,
            no_interface_name=dbus.no_interface_name,
            request=self._request,
            announce=self._announce,
        )
        self._start("dbus", self._dbus.run())

    def _announce(self, exported: Exported) -> None:
        async def ask() -> None:
            try:
                await self._client.call("announce", vrid=exported.vrid, family=exported.family, interface=exported.interface)
            except VrrpdGoneError as error:
                self.log.warning(f"SendGarp of {exported.name}: {error}")

        task = asyncio.create_task(ask())
        self._tasks[f"garp {exported.name}"] = task

    # ---- the vrrp process -----------------------------------------------------------------------------------------

    def _vrrpd_up(self, status: JsonObject) -> None:
        self._connected = True
        self._take_status(status)
        states = {(Kind.INSTANCE, i["name"]): (i["state"], i["priority"], i["reason"]) for i in status["instances"]}
        states |= {(Kind.GROUP, g["name"]): (g["state"], 0, "") for g in status["groups"]}
        self._show_on_dbus()
        for change in self._tracker.compare(states):
            self._tell(change)

    def _vrrpd_down(self) -> None:
        self._connected = False
        self._status = {}
        self._mib = None

    def _vrrpd_said(self, message: JsonObject) -> None:
        match message.get("event"):
            case "state":
                kind = Kind(message["kind"])
                change = StateChanged(kind, message["name"], message["state"], message["priority"], message["reason"])
                if self._tracker.happened(change) is not None:
                    self._note_state(change, int(message.get("at_ns", 0)))
                    self._tell(change)
            case "rejected":
                self._tell(AdvertRefused(message["name"], message["reason"], message.get("detail", "")))

    def _take_status(self, status: JsonObject) -> None:
        self._status = status
        for instance in status["instances"]:
            if instance["state"] in ("BACKUP", "MASTER"):
                self._up_since_ns.setdefault(instance["name"], int(instance["since_ns"]))
            else:
                self._up_since_ns.pop(instance["name"], None)

    def _note_state(self, change: StateChanged, at_ns: int) -> None:
        """The status document is older than this event: bring it up to it, and ask again before the next answer."""
        self._mib = None
        if change.kind is Kind.GROUP:
            entries = self._status.get("groups", [])
        else:
            entries = self._status.get("instances", [])
            if change.state in ("BACKUP", "MASTER"):
                self._up_since_ns.setdefault(change.name, at_ns)
            else:
                self._up_since_ns.pop(change.name, None)
        for entry in entries:
            if entry["name"] == change.name:
                entry.update(state=change.state, reason=change.reason)

    def _tell(self, event: OutsideEvent) -> None:
        if self._snmp is not None:
            for notification in notifications(event, self._view(self._snmp.uptime_cs()), self._config.global_defs.snmp):
                self._snmp.notify(notification)
        if not isinstance(event, StateChanged):
            return
        if self._dbus is not None and event.kind is Kind.INSTANCE:
            self._dbus.state_changed(event.name, event.state)
        mail = self._mail_rules.mail_of(event, self._config, self._router_id)
        if mail is not None:
            self._send_mail(mail)

    @property
    def _router_id(self) -> str:
        return self._config.global_defs.router_id or self._host

    def _send_mail(self, mail: Mail) -> None:
        settings = self._config.global_defs.mail
        self._mail.put(compose(mail, settings.sender or f"root@{self._host}", settings.recipients, self._host))

    def _show_on_dbus(self) -> None:
        if self._dbus is None:
            return
        from vrrp.outside.dbus_service import Exported

        states = {i["name"]: str(i["state"]) for i in self._status.get("instances", [])}
        self._dbus.show((Exported(i.name, i.interface, i.vrid, int(i.family)), states.get(i.name, "INIT")) for i in self._config.instances)

    # ---- the checker process --------------------------------------------------------------------------------------

    def _checker_process(self, *, up: bool) -> None:
        self._checkers_up = up
        self._checkers, self._checkers_s = {}, 0.0

    def _checker_view(self) -> CheckerView:
        settings = {each.id: each for each in virtual_servers(self._config, Diagnostics())}
        return CheckerView(self._config, settings, self._checkers, self._router_id)

    def _tell_checker_news(self, message: JsonObject) -> None:
        snmp = self._config.global_defs.snmp
        if self._snmp is not None and snmp.traps and snmp.checker:
            told = checker_notification(message, self._checker_view())
            if told is not None:
                self._snmp.notify(told)
        self._mib = None

    async def _read_checkers(self) -> None:
        """Numbers at most as old as snmp_vs_stats_update_interval and snmp_rs_stats_update_interval allow."""
        snmp = self._config.global_defs.snmp
        limit_s = min(snmp.virtual_server_interval_ns, snmp.real_server_interval_ns) / NS_PER_S
        if not self._checkers_up or time.monotonic() - self._checkers_s < limit_s:
            return
        found: dict[str, JsonObject] = {}
        skip: int | None = 0
        while skip is not None:
            page = await self._checker_client.call("services", skip=skip)
            for service in page["services"]:
                if service["id"] in found:
                    found[service["id"]]["real_servers"] += service["real_servers"]
                else:
                    found[service["id"]] = service
            skip = page["next"]
        self._checkers, self._checkers_s = found, time.monotonic()

    # ---- SNMP -----------------------------------------------------------------------------------------------------

    def _view(self, uptime_cs: int) -> View:
        config = self._config
        names = {instance.interface for instance in config.instances}
        names |= {address.interface for i in config.instances for address in (*i.addresses, *i.excluded_addresses)}
        names |= {hop.interface for i in config.instances for route in i.routes for hop in route.next_hops}
        tracks = [i.track for i in config.instances] + [g.track for g in config.sync_groups]
        names |= {tracked.name for track in tracks for tracked in track.interfaces}
        return View(
            config,
            self._status,
            links=read_links(names),
            up_since_ns=self._up_since_ns,
            host=self._host,
            version=VERSION_TEXT,
            master_uptime_cs=uptime_cs,
        )

    async def _tree(self, uptime_cs: int) -> MibTree:
        """From a status document that is at most STATUS_MAX_AGE_S old; while the vrrp process is away there are no instances."""
        async with self._asking:
            if self._mib is None or time.monotonic() - self._mib_s > STATUS_MAX_AGE_S:
                self._mib_s = time.monotonic()  # before the question: what happens after it makes the answer old
                if self._connected:
                    try:
                        self._take_status(await self._client.status())
                    except VrrpdGoneError as error:
                        self.log.limited("status", f"SNMP: {error}")
                view = self._view(uptime_cs)
                snmp = self._config.global_defs.snmp
                parts = ((keepalived_mib, snmp.vrrp), (routing_mib, snmp.vrrp), (vrrp_mib, snmp.rfc_v2), (vrrpv3_mib, snmp.rfc_v3))
                values = [value for make, on in parts if on for value in make(view)]
                if snmp.checker:
                    try:
                        await self._read_checkers()
                    except VrrpdGoneError as error:
                        self.log.limited("checkers", f"SNMP: {error}")
                    values += checker_mib(self._checker_view())
                    if not snmp.vrrp:
                        values += global_mib(view)
                self._mib = MibTree(values)
        return self._mib


def main() -> int:
    """Entry of the child process."""
    parser = argparse.ArgumentParser(prog="vrrp.outside.process")
    parser.add_argument("--run-dir", required=True)
    arguments = parser.parse_args()
    die_with_parent(os.getppid())
    os.set_blocking(2, False)
    keep_only(())
    set_name(OURS[OUTSIDE])
    parent = child_socket()
    log = child_log("vrrpd-outside")

    async def work() -> None:
        await OutsideProcess(parent, arguments.run_dir, log).run()

    asyncio.run(work())
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # without waiting for a thread that may hang in a connect to the mail relay
