"""``interface_up_down_delays``: a change of a link counts only when it has lasted."""

from __future__ import annotations

from collections.abc import Iterable

from vrrp.config.model.daemon import InterfaceDelay


class LinkDebounce:
    """Takes what the kernel says about links and gives out what counts; ``due_ns``: when ``settle`` has work."""

    def __init__(self) -> None:
        self._delays: dict[str, InterfaceDelay] = {}
        self._counts: dict[str, bool] = {}
        self._pending: dict[str, int] = {}

    def configure(self, delays: Iterable[InterfaceDelay]) -> None:
        """What is pending stays pending."""
        self._delays = {delay.interface: delay for delay in delays}

    def counts(self, at_ns: int, name: str, up: bool) -> bool:
        """The state of the link that counts now, given what the kernel says."""
        before = self._counts.setdefault(name, up)
        delay = self._delays.get(name)
        wait_ns = 0 if delay is None else delay.up_ns if up else delay.down_ns
        if up == before:
            self._pending.pop(name, None)
        elif at_ns >= self._pending.setdefault(name, at_ns + wait_ns):
            del self._pending[name]
            self._counts[name] = up
        return self._counts[name]

    @property
    def due_ns(self) -> int | None:
        """When a change that is still seen then will count."""
        return min(self._pending.values(), default=None)
