"""org.keepalived.Vrrp1 on the system bus: keepalived's objects, methods, properties and signals.

One deviation on purpose: ``Name`` is the string that keepalived's interface file promises; keepalived 2.2.7 itself returns a structure
with a string in it. The dbus-fast library is imported here only, and this module only if enable_dbus is set.
"""

# No "from __future__ import annotations": dbus-fast reads the annotations, and None as text is no signature to it.
import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

from dbus_fast import BusType, NameFlag, PropertyAccess, RequestNameReply
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusSignature, DBusStr, DBusUInt32
from dbus_fast.errors import DBusError
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property, dbus_signal

from base.log import Log

ROOT_PATH = "/org/keepalived/Vrrp1"
VRRP_INTERFACE = "org.keepalived.Vrrp1.Vrrp"
INSTANCE_INTERFACE = "org.keepalived.Vrrp1.Instance"
RECONNECT_S = (1, 2, 5, 15, 60)
STATE_NUMBERS = {"INIT": 0, "BACKUP": 1, "MASTER": 2, "FAULT": 3, "DELETED": 97, "STOP": 98}
"""As in keepalived's signal; the names of the State property follow it."""
_STATE_NAMES = {"INIT": "Init", "BACKUP": "Backup", "MASTER": "Master", "FAULT": "Fault", "STOP": "Stopped", "DELETED": "Deleted"}


@dataclass(frozen=True, slots=True)
class Exported:
    """One instance as the bus sees it."""

    name: str
    interface: str
    vrid: int
    family: int


NumberAndName = Annotated[list[int | str], DBusSignature("(us)")]


def state_property(state: str) -> list[int | str]:
    """The value of State."""
    return [STATE_NUMBERS.get(state, 0), _STATE_NAMES.get(state, "Unknown")]


def _element(text: str) -> str:
    """Only letters, digits and _ may stand in a path."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def prefix(namespace: str, instance: str) -> str:
    """keepalived's path; with net_namespace and instance they stand in it."""
    return "/".join([ROOT_PATH, *(_element(word) for word in (namespace, instance) if word)])


def instance_path(root: str, exported: Exported, *, no_interface_name: bool = False) -> str:
    """``…/Instance/IF/VRID/FAMILY``, without IF if ``dbus_no_interface_name`` is set."""
    interface = [] if no_interface_name else [_element(exported.interface) or "none"]
    return "/".join([root, "Instance", *interface, str(exported.vrid), f"IPv{exported.family}"])


class VrrpInterface(ServiceInterface):
    """/Vrrp: the daemon as a whole. ``request`` takes data, stats, stats_clear or reload."""

    def __init__(self, request: Callable[[str], None]) -> None:
        super().__init__(VRRP_INTERFACE)
        self._request = request

    @dbus_method()
    def PrintData(self) -> None:  # noqa: D102, N802
        self._request("data")

    @dbus_method()
    def PrintStats(self) -> None:  # noqa: D102, N802
        self._request("stats")

    @dbus_method()
    def PrintStatsClear(self) -> None:  # noqa: D102, N802
        self._request("stats_clear")

    @dbus_method()
    def ReloadConfig(self) -> None:  # noqa: D102, N802
        self._request("reload")

    @dbus_signal()
    def VrrpStarted(self) -> None:  # noqa: D102, N802
        pass

    @dbus_signal()
    def VrrpReloaded(self) -> None:  # noqa: D102, N802
        pass

    @dbus_signal()
    def VrrpStopped(self) -> None:  # noqa: D102, N802
        pass


class InstanceInterface(ServiceInterface):
    """/Instance/IF/VRID/FAMILY: one virtual router. ``announce(instance)`` sends its gratuitous ARPs."""

    def __init__(self, exported: Exported, state: str, announce: Callable[[Exported], None]) -> None:
        super().__init__(INSTANCE_INTERFACE)
        self.exported = exported
        self.state = state
        self._announce = announce

    @dbus_method()
    def SendGarp(self) -> None:  # noqa: D102, N802
        self._announce(self.exported)

    @dbus_signal()
    def VrrpStatusChange(self, status: int) -> DBusUInt32:  # noqa: D102, N802
        return status

    @dbus_property(access=PropertyAccess.READ)
    def Name(self) -> DBusStr:  # noqa: D102, N802
        return self.exported.name

    @dbus_property(access=PropertyAccess.READ)
    def State(self) -> NumberAndName:  # noqa: D102, N802
        return state_property(self.state)


class DbusService:
    """Keeps the name and the objects on the bus, over restarts of the bus."""

    def __init__(
        self,
        service_name: str,
        root: str,
        log: Log,
        *,
        no_interface_name: bool,
        request: Callable[[str], None],
        announce: Callable[[Exported], None],
    ) -> None:
        self._service_name = service_name
        self._root = root
        self._log = log
        self._no_interface_name = no_interface_name
        self._announce = announce
        self._daemon = VrrpInterface(request)
        self._objects: dict[str, InstanceInterface] = {}
        self._bus: MessageBus | None = None

    @property
    def connected(self) -> bool:
        """Do we own the name?"""
        return self._bus is not None

    def show(self, instances: Iterable[tuple[Exported, str]]) -> None:
        """These instances with these states exist now, no others."""
        wanted = {
            instance_path(self._root, exported, no_interface_name=self._no_interface_name): (exported, state)
            for exported, state in instances
        }
        for path in [path for path, shown in self._objects.items() if path not in wanted or wanted[path][0] != shown.exported]:
            if self._bus is not None:
                self._bus.unexport(path)
            del self._objects[path]
        for path, (exported, state) in wanted.items():
            if path in self._objects:
                self._objects[path].state = state
                continue
            self._objects[path] = InstanceInterface(exported, state, self._announce)
            if self._bus is not None:
                self._bus.export(path, self._objects[path])

    def state_changed(self, name: str, state: str) -> None:
        """VrrpStatusChange, and the property with it."""
        for shown in self._objects.values():
            if shown.exported.name == name:
                shown.state = state
                if self._bus is not None:
                    shown.VrrpStatusChange(STATE_NUMBERS.get(state, 0))
                    shown.emit_properties_changed({"State": state_property(state)})

    def reloaded(self) -> None:
        """VrrpReloaded."""
        if self._bus is not None:
            self._daemon.VrrpReloaded()

    async def stopped(self) -> None:
        """VrrpStopped, and off the bus."""
        bus, self._bus = self._bus, None
        if bus is not None:
            self._daemon.VrrpStopped()
            await bus.release_name(self._service_name)  # its answer comes after the signal has left
            bus.disconnect()

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            bus: MessageBus | None = None
            try:
                bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
                await self._serve(bus)
                failures = 0
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
            except (OSError, EOFError, DBusError, ValueError) as error:
                self._log.limited("dbus", f"D-Bus: {error or type(error).__name__}; tried again")
            finally:
                self._bus = None
                if bus is not None:
                    for path in (f"{self._root}/Vrrp", *self._objects):
                        bus.unexport(path)
                    bus.disconnect()
            await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
            failures += 1

    async def _serve(self, bus: MessageBus) -> None:
        bus.export(f"{self._root}/Vrrp", self._daemon)
        for path, shown in self._objects.items():
            bus.export(path, shown)
        reply = await bus.request_name(self._service_name, NameFlag.DO_NOT_QUEUE)
        if reply is not RequestNameReply.PRIMARY_OWNER:
            raise OSError(f"the name {self._service_name} belongs to another process; is keepalived running? set dbus_service_name")
        self._bus = bus
        self._log.info(f"D-Bus: {self._service_name} is on the bus")
        self._daemon.VrrpStarted()
