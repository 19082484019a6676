"""use_vmac and use_ipvlan."""

from __future__ import annotations

import re
from dataclasses import replace

from vrrp.config.keyword import REJECTED, Reading, Rejected, Value
from vrrp.config.model.instance import VmacSettings
from vrrp.config.syntax import Statement
from vrrp.config.values import UINT32, check_interface, parse_address, read_integer

_MAC = re.compile(r"[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){4,5}")
_IPVLAN_MODES = ("bridge", "private", "vepa")


def vmac() -> Value:
    """``[[name] INTERFACE] [MAC] [netlink_notify_msg] [group N]`` as VmacSettings; a MAC of five bytes ends in the VRID."""
    return Value("[[name] INTERFACE] [MAC] [netlink_notify_msg] [group N]", _read_vmac)


def _read_vmac(reading: Reading, statement: Statement) -> object:
    name, mac, group, notify = "", b"", 0, False
    words = list(statement.arguments)
    while words:
        given = words.pop(0)
        if given.text == "netlink_notify_msg":
            notify = True
        elif given.text in ("group", "name") and not words:
            return reading.error(given, f"'{given.text}' has no value", f"write: {given.text} VALUE", "missing-value")
        elif given.text == "group":
            number = read_integer(reading, words.pop(0), "group", 0, UINT32)
            if isinstance(number, Rejected):
                return REJECTED
            group = number
        elif _MAC.fullmatch(given.text):
            mac = bytes(int(part, 16) for part in given.text.split(":"))
        elif name:
            return reading.error(given, f"'{given.text}' after use_vmac is unknown", "write: use_vmac [INTERFACE] [MAC]")
        else:
            checked = check_interface(reading, words.pop(0) if given.text == "name" else given)
            if isinstance(checked, Rejected):
                return REJECTED
            name = checked
    return VmacSettings(name=name, mac=mac, group=group, netlink_notify=notify)


def ipvlan() -> Value:
    """``[INTERFACE] [ADDRESS] [bridge|private|vepa]`` as VmacSettings with ``ipvlan``."""
    return Value("[INTERFACE] [ADDRESS] [bridge|private|vepa]", _read_ipvlan)


def _read_ipvlan(reading: Reading, statement: Statement) -> object:
    settings = VmacSettings(ipvlan=True)
    name, address, length, mode = "", None, 0, ""
    for given in statement.arguments:
        text, _, digits = given.text.partition("/")
        parsed = parse_address(text)
        if given.text in _IPVLAN_MODES:
            mode = given.text
        elif parsed is not None:
            address, length = parsed, parsed.max_prefixlen
            if digits:
                number = read_integer(reading, replace(given, text=digits), "prefix length", 0, parsed.max_prefixlen)
                if isinstance(number, Rejected):
                    return REJECTED
                length = number
        elif name:
            return reading.error(
                given, f"'{given.text}' after use_ipvlan is unknown", "write: use_ipvlan [INTERFACE] [ADDRESS] [bridge|private|vepa]"
            )
        else:
            checked = check_interface(reading, given)
            if isinstance(checked, Rejected):
                return REJECTED
            name = checked
    return replace(settings, name=name, ipvlan_address=address, ipvlan_mode=mode, ipvlan_prefix_length=length)
