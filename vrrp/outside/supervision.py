"""The parent's side: the outside process runs while the configuration asks for it, and comes back with back-off if it dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace

from base.channel import JsonObject
from base.log import Log
from base.pump import Pump
from base.supervise import Child
from vrrp.commandline import Options
from vrrp.config.model.configuration import VrrpConfig
from vrrp.handing_over import configuration_messages

STOP_PATIENCE_S = 2.0


def wants_snmp(config: VrrpConfig) -> bool:
    """Is any part of SNMP that we have asked for?"""
    snmp = config.global_defs.snmp
    return snmp.vrrp or snmp.rfc_v2 or snmp.rfc_v3 or snmp.checker


def wants_mail(config: VrrpConfig) -> bool:
    """Is there a relay, somebody who gets mail, and something that is mailed?"""
    mail = config.global_defs.mail
    alerts = any(i.smtp_alert for i in config.instances) or any(g.smtp_alert for g in config.sync_groups)
    return bool(mail.server and mail.recipients and (alerts or wants_checker_mail(config)))


def wants_checker_mail(config: VrrpConfig) -> bool:
    """Real servers mail unless told not to, as in keepalived."""
    general = next((value for value in (config.global_defs.mail.alert_checker, config.global_defs.mail.alert) if value is not None), True)
    blocks = [server.settings for server in config.virtual_servers]
    blocks += [real.settings for server in config.virtual_servers for real in server.real_servers]
    return bool(config.virtual_servers) and (general or any(block.get("smtp_alert") is True for block in blocks))


def with_options(config: VrrpConfig, options: Options) -> VrrpConfig:
    """``-x`` turns KEEPALIVED-MIB on, ``-A`` names the AgentX socket where the file does not."""
    snmp = config.global_defs.snmp
    asked = replace(snmp, vrrp=snmp.vrrp or options.snmp, socket=snmp.socket or options.snmp_socket)
    return replace(config, global_defs=replace(config.global_defs, snmp=asked))


def outside_child(config: VrrpConfig, options: Options) -> list[str] | None:
    """The argument list of the outside process, or None if nothing of it is configured."""
    config = with_options(config, options)
    if not (wants_snmp(config) or config.global_defs.dbus.enabled or wants_mail(config)):
        return None
    return [sys.executable, "-m", "vrrp.outside.process", "--run-dir", options.run_dir]


class OutsideChild:
    """One of these in vrrpd's parent.

    ``request(what)`` is called for D-Bus methods: reload, data, stats, stats_clear. The parent calls ``configure`` at its start and
    after each reload, ``next_deadline``/``on_deadline`` from its loop and ``stop`` at its end.
    """

    def __init__(self, pump: Pump, options: Options, log: Log, request: Callable[[str], None], *, stderr: int | None = None) -> None:
        self._pump = pump
        self._options = options
        self._log = log
        self._request = request
        self._stderr = stderr
        self._config: VrrpConfig | None = None
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._child is None else self._child.pid

    def configure(self, config: VrrpConfig) -> None:
        """Start it, tell it, or end it, as ``config`` wants."""
        self._config = with_options(config, self._options)
        argv = outside_child(config, self._options)
        if argv is None:
            self.stop(at_once=True)
        elif self._child is None:
            path = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            self._child = Child(
                self._pump,
                "outside process",
                argv,
                self._on_message,
                on_up=self._send_configuration,
                on_down=lambda reason: self._log.error(f"the outside process (SNMP, D-Bus, mail) is gone: {reason}; it is started again"),
                env={"PYTHONPATH": path},
                stderr=self._stderr,
            )
            self._child.start()
        else:
            self._send_configuration()

    def _send_configuration(self) -> None:
        assert self._child is not None and self._config is not None
        for message in configuration_messages(self._config):
            self._child.send(message)

    def tell(self, message: JsonObject) -> None:
        """News of the checker process: mail and changes of services."""
        if self._child is not None:
            self._child.send(message)

    def _on_message(self, message: JsonObject) -> None:
        if message.get("op") == "request" and message.get("what") in ("reload", "data", "stats", "stats_clear"):
            self._request(message["what"])

    def next_deadline(self) -> int | None:
        """When a restart is due."""
        return None if self._child is None else self._child.next_deadline()

    def on_deadline(self, at_ns: int) -> None:
        """Restart if due."""
        if self._child is not None:
            self._child.on_deadline(at_ns)

    def stop(self, *, at_once: bool = False) -> None:
        """End it within STOP_PATIENCE_S, usually in some milliseconds: it still tells what the vrrp process said last.

        ``at_once``: the vrrp process goes on, there are no last words of it to wait for.
        """
        child, self._child = self._child, None
        if child is not None:
            if at_once:
                child.send({"op": "stop"})
            child.stop(STOP_PATIENCE_S)
