"""The parent's side: the BFD process runs while a bfd_instance is configured, and comes back with back-off if it dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from base.channel import JsonObject
from base.log import Log
from base.pump import Pump
from base.supervise import Child
from vrrp.bfd.settings import peering, to_json
from vrrp.config.model.configuration import VrrpConfig
from vrrp.system.privileges import real_time_limit_us
from vrrp.system.process_name import BFD, name_of

STOP_PATIENCE_S = 1.0


class BfdChild:
    """One of these in vrrpd's parent.

    ``report(name, up)``: at once for every bfd_instance (down until the session is up), then at every change. A BFD process that died
    leaves every session down: nobody knows better, and the neighbors will say the same.
    """

    def __init__(self, pump: Pump, log: Log, report: Callable[[str, bool], None], *, stderr: int | None = None) -> None:
        self._pump = pump
        self._log = log
        self._report = report
        self._stderr = stderr
        self._config: VrrpConfig | None = None
        self._child: Child | None = None
        self._told: dict[str, bool] = {}

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._child is None else self._child.pid

    def configure(self, config: VrrpConfig, *, run: bool = True) -> None:
        """Start it, tell it, or end it, as ``config`` wants; without ``run`` (option -B) every session is down."""
        self._config = config
        names = [model.name for model in config.bfd_instances]
        self._told = {name: up for name, up in self._told.items() if name in names}
        for name in names:
            if name not in self._told:
                self._tell(name, False)
        if not names or not run:
            self.stop()
        elif self._child is not None:
            self._send_configuration()
        else:
            path = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            self._child = Child(
                self._pump,
                "BFD process",
                [sys.executable, "-m", "vrrp.bfd.process"],
                self._on_message,
                on_up=self._send_configuration,
                on_down=self._on_down,
                env={"PYTHONPATH": path},
                stderr=self._stderr,
            )
            self._child.start()

    def repeat(self) -> None:
        """Report everything again (a new vrrp process knows nothing)."""
        for name, up in self._told.items():
            self._report(name, up)

    def _send_configuration(self) -> None:
        assert self._child is not None and self._config is not None
        settings = self._config.global_defs.bfd_process
        scheduling = {
            "nice": settings.nice,
            "rt_priority": settings.rt_priority,
            "cpus": settings.cpus,
            "no_swap": settings.no_swap,
            "rttime_us": real_time_limit_us(settings),
            "name": name_of(self._config.global_defs, BFD),
        }
        sessions = [to_json(peering(model)) for model in self._config.bfd_instances]
        self._child.send({"op": "configure", "sessions": sessions, "scheduling": scheduling})

    def _on_message(self, message: JsonObject) -> None:
        match message.get("op"):
            case "bfd" if message["name"] in self._told:
                if self._told.get(message["name"]) != message["up"]:
                    self._tell(message["name"], message["up"])
            case "fatal":
                self._log.error(f"BFD: {message['reason']}; end the other program, or remove the bfd_instance")

    def _on_down(self, reason: str) -> None:
        self._log.error(f"the BFD process is gone ({reason}); its sessions count as down until it is back")
        for name in [name for name, up in self._told.items() if up]:
            self._tell(name, False)

    def _tell(self, name: str, up: bool) -> None:
        self._told[name] = up
        self._report(name, up)

    def next_deadline(self) -> int | None:
        """When a restart is due."""
        return None if self._child is None else self._child.next_deadline()

    def on_deadline(self, at_ns: int) -> None:
        """Restart if due."""
        if self._child is not None:
            self._child.on_deadline(at_ns)

    def stop(self) -> None:
        """End it; the neighbors are told AdminDown."""
        child, self._child = self._child, None
        if child is not None:
            child.send({"op": "stop"})
            child.stop(STOP_PATIENCE_S)
