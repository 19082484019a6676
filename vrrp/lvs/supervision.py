"""The parent's side: the checker process runs while a file has virtual servers, and comes back with back-off if it dies.

What it left in the kernel stays there meanwhile: connections go on, and the new process takes the table over.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection

from base.channel import JsonObject
from base.log import Log
from base.pump import Pump
from base.supervise import Child
from vrrp.commandline import Options
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.daemon import FlushOnStop
from vrrp.handing_over import configuration_messages

STOP_PATIENCE_S = 3.0


def wants_checkers(config: VrrpConfig) -> bool:
    """Is there anything about IPVS in the file?"""
    lvs = config.global_defs.lvs
    times = (lvs.tcp_timeout_s, lvs.tcpfin_timeout_s, lvs.udp_timeout_s)
    flushes = lvs.flush or lvs.flush_on_stop is FlushOnStop.ALL
    return bool(config.virtual_servers or lvs.sync_daemon or flushes or any(time is not None for time in times))


class CheckerChild:
    """One of these in vrrpd's parent. ``on_news(message)``: lvs_notify, mail and quorum messages of vrrp.lvs.news, "ready", "stopped"."""

    def __init__(self, pump: Pump, options: Options, log: Log, on_news: Callable[[JsonObject], None], *, stderr: int | None = None) -> None:
        self._pump = pump
        self._options = options
        self._log = log
        self._on_news = on_news
        self._stderr = stderr
        self._config: VrrpConfig | None = None
        self._child: Child | None = None
        self._masters: list[str] = []
        self._bfd: dict[str, bool] = {}
        self._quorums: dict[str, bool] = {}
        self._goodbye = False

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._child is None else self._child.pid

    @property
    def ended(self) -> bool:
        """It does not run, or has said goodbye."""
        return self._goodbye or self.pid is None

    def configure(self, config: VrrpConfig) -> None:
        """Start it, tell it, or end it, as ``config`` and the command line want."""
        self._config = config
        if not wants_checkers(config) or self._options.vrrp_only:
            self.stop()
        elif self._child is not None:
            self._send_configuration()
        else:
            path = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            self._child = Child(
                self._pump,
                "checker process",
                [sys.executable, "-m", "vrrp.lvs.daemon"],
                self._on_message,
                on_up=self._up,
                on_down=self._down,
                env={"PYTHONPATH": path},
                stderr=self._stderr,
            )
            self._child.start()

    def _up(self) -> None:
        assert self._child is not None
        self._goodbye = False
        self._child.send({"op": "settings", "run_dir": self._options.run_dir, "keep_ipvs": self._options.keep_ipvs})
        self._child.send({"op": "roles", "masters": self._masters})
        for name, up in self._bfd.items():
            self._child.send({"op": "bfd", "name": name, "up": up})
        self._send_configuration()

    def _down(self, reason: str) -> None:
        if not self._goodbye:
            self._log.error(f"the checker process is gone ({reason}); virtual servers stay as they are until it is back")

    def _send_configuration(self) -> None:
        assert self._child is not None and self._config is not None
        for message in configuration_messages(self._config):
            self._child.send(message)

    def repeat(self) -> None:
        """Report every quorum again (a new vrrp process knows none)."""
        for service, up in self._quorums.items():
            self._on_news({"op": "quorum", "service": service, "up": up})

    def _on_message(self, message: JsonObject) -> None:
        match message.get("op"):
            case "stopped":
                self._goodbye = True
            case "quorum":
                self._quorums[message["service"]] = message["up"]
        self._on_news(message)

    def tell_roles(self, masters: Collection[str]) -> None:
        """The instances that are MASTER now."""
        self._masters = sorted(masters)
        if self._child is not None:
            self._child.send({"op": "roles", "masters": self._masters})

    def tell_bfd(self, name: str, up: bool) -> None:
        """A BFD session changed."""
        self._bfd[name] = up
        if self._child is not None:
            self._child.send({"op": "bfd", "name": name, "up": up})

    def next_deadline(self) -> int | None:
        """When a restart is due."""
        return None if self._child is None else self._child.next_deadline()

    def on_deadline(self, at_ns: int) -> None:
        """Restart if due."""
        if self._child is not None:
            self._child.on_deadline(at_ns)

    def say_stop(self) -> None:
        """Ask it to end; ``ended`` tells when it has taken leave."""
        if self._child is not None:
            self._child.send({"op": "stop"})

    def stop(self) -> None:
        """End it within STOP_PATIENCE_S; it removes its services unless -I keeps them."""
        child, self._child = self._child, None
        if child is not None:
            child.send({"op": "stop"})
            child.stop(STOP_PATIENCE_S)
