"""What a running vrrpd says about itself, for tests."""

from __future__ import annotations

import signal
from typing import Any

from base.control import ControlClient, RequestError
from tests.lab import Daemon


def status(daemon: Daemon) -> dict[str, Any]:
    """The whole status."""
    with ControlClient(str(daemon.directory / "run" / "vrrpd.sock")) as client:
        found: dict[str, Any] = client.call("status")
        return found


def instance(daemon: Daemon, name: str = "V1") -> dict[str, Any]:
    """One virtual router; state "not running" while the daemon does not answer."""
    try:
        return next((dict(i) for i in status(daemon)["instances"] if i["name"] == name), {"state": "not running"})
    except (OSError, RequestError):
        return {"state": "not running"}


def is_in(daemon: Daemon, state: str, name: str = "V1") -> bool:
    """Is the virtual router in this state?"""
    return bool(instance(daemon, name)["state"] == state)


def reload(daemon: Daemon, text: str) -> None:
    """Another configuration, and SIGHUP."""
    (daemon.directory / "conf").write_text(text)
    daemon.signal(signal.SIGHUP)
