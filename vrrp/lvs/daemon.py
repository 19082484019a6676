"""The checker child of vrrpd: joins CheckerProcess with the kernel, the parent and the operator.

The parent (vrrp.lvs.supervision) sends the configuration, the VRRP roles and BFD states, and takes the news. Times do not matter much
here, so the loop is asyncio; the parent's channel and the control socket run on a pump inside it. The process keeps root's
capabilities: MISC_CHECK changes to the user of a script.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys

from base.channel import Channel, JsonObject
from base.clock import now_ns
from base.control import ControlServer
from base.core import NS_PER_S
from base.diagnostics import Diagnostics
from base.log import Log, child_log
from base.pump import Pump
from base.supervise import child_socket, die_with_parent
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.daemon import FlushOnStop, LvsSettings
from vrrp.handing_over import ArrivingConfiguration
from vrrp.lvs.audit import Audit
from vrrp.lvs.control import LvsControl
from vrrp.lvs.drains import DrainFile
from vrrp.lvs.from_config import virtual_servers
from vrrp.lvs.ipvs.lazy import LazyIpvs
from vrrp.lvs.ipvs.values import Timeouts
from vrrp.lvs.marks import Marker
from vrrp.lvs.model.settings import VirtualServerSettings
from vrrp.lvs.naming import keepalived_names
from vrrp.lvs.news import Newsroom
from vrrp.lvs.process import RECONCILE_S, CheckerProcess
from vrrp.lvs.sync import wanted_daemons
from vrrp.system.interfaces import InterfaceTable
from vrrp.system.netlink import Monitor
from vrrp.system.privileges import real_time_limit_us, schedule
from vrrp.system.process_name import CHECKER, name_of, set_name

SOCKET_NAME = "vrrpd-lvs.sock"
DRAINS_NAME = "vrrpd-lvs-drained.json"
LAST_WORDS_NS = 1 * NS_PER_S


class CheckerDaemon:
    """The shell; see the module docstring."""

    def __init__(self, parent: socket.socket, log: Log) -> None:
        self.log = log
        self.pump = Pump(next_deadline=lambda: None, on_deadline=lambda _at_ns: None)
        self.channel = Channel(self.pump, parent, self._on_parent, lambda _why: self.stop())
        self.ipvs = LazyIpvs()
        self.marker = Marker()
        self.control = LvsControl(self)
        self.news = Newsroom(log, self.channel.send, self.control.publish, self._audit)
        self.process = CheckerProcess(self.ipvs, self.news, log, random.SystemRandom().random)
        self.config = VrrpConfig()
        self.masters: frozenset[str] = frozenset()
        self.drain_file = DrainFile("")
        self._keep_ipvs = False
        self._run_dir = ""
        self._server: ControlServer | None = None
        self._arriving = ArrivingConfiguration()
        self._interfaces = InterfaceTable()
        self._monitor: Monitor | None = None
        self._own_sync = False
        self._lvs_applied: LvsSettings | None = None
        self._configured = asyncio.Event()
        self._stopped = False

    # ---- running --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until SIGTERM, or the parent says stop or is gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_reader(self.pump.fileno(), lambda: self.pump.turn(0))
        await self._configured.wait()
        if not self._stopped:
            watch = asyncio.create_task(self._watch_the_rest())
            await self.process.run()
            watch.cancel()
        loop.remove_reader(self.pump.fileno())
        self._say_last_words()

    def stop(self) -> None:
        """Tell whom omega tells, remove our services as configured, end."""
        if self._stopped:
            return
        self._stopped = True
        self.process.stop(keep_ipvs=self._keep_ipvs)
        if not self._keep_ipvs:
            self._leave_kernel()
        if self._server is not None:
            self._server.close()
        self.channel.send({"op": "stopped"})
        self._configured.set()

    def _leave_kernel(self) -> None:
        self.marker.remove()
        try:
            if self._own_sync:
                self.ipvs.kernel().run_sync(())
            if self.config.global_defs.lvs.flush_on_stop is FlushOnStop.ALL:
                self.ipvs.kernel().flush()
        except OSError as error:
            self.log.error(f"IPVS at the end: {error}")

    def _say_last_words(self) -> None:
        until_ns = now_ns() + LAST_WORDS_NS
        while self.channel.queued_bytes and not self.channel.closed and now_ns() < until_ns:
            self.pump.turn(NS_PER_S // 100)

    # ---- the parent -----------------------------------------------------------------------------------------------

    def _on_parent(self, message: JsonObject) -> None:
        if self._stopped:
            return  # roles change while vrrpd ends: the kernel is as we want to leave it
        match message.get("op"):
            case "settings":
                self._keep_ipvs, self._run_dir = message["keep_ipvs"], message["run_dir"]
            case "configure":
                if (config := self._arriving.take(message)) is not None:
                    self._configure(config)
            case "roles":
                self._roles(frozenset(message["masters"]))
            case "bfd":
                self.process.bfd_changed(message["name"], message["up"])
            case "stop":
                self.stop()

    def _roles(self, masters: frozenset[str]) -> None:
        for name in sorted(masters ^ self.masters):
            self.process.master_changed(name, name in masters)
        self.masters = masters
        self._follow_sync()

    # ---- configuration --------------------------------------------------------------------------------------------

    def _configure(self, config: VrrpConfig) -> None:
        """The first configuration, or a reload. The parent found it good, so nothing is said about it again."""
        first = self._server is None
        self.config = config
        wanted = virtual_servers(config, Diagnostics())
        if first:
            self.ipvs.namespace = self.marker.namespace = config.daemon.net_namespace_ipvs
            self._start()
        elif config.daemon.net_namespace_ipvs != self.ipvs.namespace:
            self.log.warning("net_namespace_ipvs has changed: that takes a restart; the services stay where they are")
        self.news.names = {**self.news.names, **keepalived_names(config)}  # what the reload removes is told once more
        self.ipvs.set_receive_buffer(config.global_defs.buffers.lvs_command)
        self._mark(wanted)
        self._apply_global(config.global_defs.lvs, first=first)
        self._watch_addresses(any(settings.ha_suspend for settings in wanted))
        self.process.configure(wanted)
        self.news.names = keepalived_names(config)
        self._follow_sync()
        self._configured.set()
        set_name(name_of(config.global_defs, CHECKER))
        self.channel.send({"op": "ready"})

    def _mark(self, wanted: tuple[VirtualServerSettings, ...]) -> None:
        self.marker.apply(wanted, self.config.global_defs.firewall)
        if self.marker.problem:
            self.log.error(f"nftables_ipvs: the addresses of groups get no marks and are not served: {self.marker.problem}")

    async def _watch_the_rest(self) -> None:
        """What is ours beside the table of services, which ``process`` watches: marks and sync daemons."""
        while not self._stopped:
            await asyncio.sleep(RECONCILE_S)
            if self._stopped:
                return
            if self.marker.look():
                self.log.warning("nftables_ipvs: the table of marks was not as we left it; put right")
                self.news.event("marks_put_right")
            if self._follow_sync():
                self.log.warning("lvs_sync_daemon: it was not as we left it; put right")
                self.news.event("sync_put_right")

    def _start(self) -> None:
        process = self.config.global_defs.checker_process
        problems = schedule(
            nice=process.nice,
            rt_priority=process.rt_priority,
            cpus=process.cpus,
            lock_memory=process.no_swap,
            rttime_us=real_time_limit_us(process),
        )
        for problem in problems:
            self.log.warning(f"scheduling of the checker process: {problem}")
        self.drain_file = DrainFile(os.path.join(self._run_dir, DRAINS_NAME))
        self.process.drains = self.drain_file.read()
        if self.drain_file.problem:
            self.log.error(self.drain_file.problem)
        self._server = ControlServer(self.pump, os.path.join(self._run_dir, SOCKET_NAME), self.control.handlers())

    def _apply_global(self, lvs: LvsSettings, *, first: bool) -> None:
        """``lvs_flush`` and ``lvs_timeouts``."""
        before, self._lvs_applied = self._lvs_applied, lvs
        times = Timeouts(lvs.tcp_timeout_s or 0, lvs.tcpfin_timeout_s or 0, lvs.udp_timeout_s or 0)
        unchanged = before is not None and (before.tcp_timeout_s, before.tcpfin_timeout_s, before.udp_timeout_s) == (
            lvs.tcp_timeout_s,
            lvs.tcpfin_timeout_s,
            lvs.udp_timeout_s,
        )
        try:
            if first and lvs.flush:
                self.ipvs.kernel().flush()
            if times != Timeouts() and not unchanged:
                self.ipvs.kernel().set_timeouts(times)
        except OSError as error:
            self.log.error(f"lvs_flush, lvs_timeouts: {error}")

    def _follow_sync(self) -> bool:
        """Have the sync daemons that the roles ask for. Those of others are left alone where we are not configured to have any.
        True if something had to be changed."""
        wanted = wanted_daemons(self.config, self.masters)
        if not wanted and not self._own_sync:
            return False
        try:
            changed = self.ipvs.kernel().run_sync(wanted)
            if changed:
                words = ", ".join(f"{daemon.role.name} on {daemon.interface} with id {daemon.sync_id}" for daemon in wanted)
                self.log.info(f"IPVS sync daemon: {words or 'none'}")
            self._own_sync = bool(wanted)
            return changed
        except OSError as error:
            self.log.limited("sync", f"lvs_sync_daemon: {error.strerror or error}; connections are not synchronised")
            return False

    # ---- addresses, for ha_suspend --------------------------------------------------------------------------------

    def _watch_addresses(self, wanted: bool) -> None:
        if wanted and self._monitor is None:
            self._monitor = Monitor()
            buffer = self.config.global_defs.buffers.lvs_monitor
            self._monitor.set_receive_buffer(buffer.size, force=buffer.force)
            self.pump.add_reader(self._monitor, self._on_netlink)
            self._interfaces.resync()
            self._tell_addresses()
        elif not wanted and self._monitor is not None:
            self.pump.remove_reader(self._monitor)
            self._monitor.close()
            self._monitor = None

    def _on_netlink(self) -> None:
        assert self._monitor is not None
        events, lost = self._monitor.drain()
        for event in events:
            self._interfaces.apply(event)
        if lost:
            self._interfaces.resync()
        self._tell_addresses()

    def _tell_addresses(self) -> None:
        self.process.addresses_changed(frozenset(str(address) for address in self._interfaces.addresses()))

    # ---- the operator ---------------------------------------------------------------------------------------------

    def _audit(self, subject: str, text: str) -> None:
        Audit(self._run_dir, self.log).note(subject, text)

    def drain(self, service: str, server: str, drained: bool, note: str, who: str) -> None:
        """Drain a server or take it back, and remember it. Raises LookupError if there is no such server, OSError from the disk."""
        if not self.process.drain(service, server, drained, note):
            raise LookupError(service, server)
        self.drain_file.write(self.process.drains)
        what = "drained" if drained else "no longer drained"
        self.log.info(f"{service}: {server} is {what} by {who}{f': {note}' if note else ''}")
        self._audit(f"lvs {'drain' if drained else 'undrain'} {service} {server}", f"{who} {note}".strip())
        self.news.event("drain" if drained else "undrain", service=service, server=server, note=note, who=who)


def main() -> int:
    """Entry of the child process."""
    die_with_parent(os.getppid())
    os.set_blocking(2, False)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)

    async def work() -> None:
        await CheckerDaemon(child_socket(), child_log("vrrpd-checkers")).run()

    asyncio.run(work())
    return 0


if __name__ == "__main__":
    sys.exit(main())
