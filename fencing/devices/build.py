"""From configuration to an armed device. Each device's library is imported only where such a device is armed."""

from __future__ import annotations

from fencing.devices.device import Device, DeviceConfigError
from fencing.devices.parameters import nearest
from fencing.plan.settings import DEVICE_TYPES, FenceDevice


def build_device(settings: FenceDevice) -> Device:
    """Arm a device: import its library, read its secrets. Raises DeviceConfigError or SecretError."""
    match settings.type:
        case "ssh":
            from fencing.devices.ssh import SshDevice

            return SshDevice(settings)
        case "agent":
            from fencing.devices.agent import AgentDevice

            return AgentDevice(settings)
        case "redfish":
            from fencing.devices.redfish import RedfishDevice

            return RedfishDevice(settings)
        case "snmp_pdu":
            from fencing.devices.snmp import SnmpPduDevice

            return SnmpPduDevice(settings)
        case "snmp_port":
            from fencing.devices.snmp import SnmpPortDevice

            return SnmpPortDevice(settings)
        case "libvirt":
            from fencing.devices.libvirt import LibvirtDevice

            return LibvirtDevice(settings)
        case "wake_on_lan":
            from fencing.devices.wake_on_lan import WakeOnLanDevice

            return WakeOnLanDevice(settings)
        case "ipmi":
            from fencing.devices.ipmi import IpmiDevice

            return IpmiDevice(settings)
        case "exec":
            from fencing.devices.exec import ExecDevice

            return ExecDevice(settings)
    raise DeviceConfigError(f"device type {settings.type!r} is unknown; {nearest(settings.type, DEVICE_TYPES)}")
