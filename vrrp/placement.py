"""PURE: which macvlans and ipvlans a configuration needs, how they are called, and which address lives on which of them.

Keepalived's rules, tried with 2.2.7: ``use_vmac`` takes the addresses without ``dev`` (or with the instance's own interface) and of the
instance's family; ``use_vmac_addr``, or ``use_vmac`` in the address line, gives any other address a macvlan on its own interface. A macvlan
that is there already and has the MAC is taken as it is called; names that the file wants come first; then vrrp.VRID, vrrp1.VRID, … (IPv6:
vrrp6.VRID second).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import VmacSettings, VrrpInstance
from vrrp.config.model.links import LinkKind, VirtualLink

NAME_BYTES = 15
"""Of an interface (IFNAMSIZ without the NUL)."""
_LinkKey = tuple[str, bytes, str]
"""(base interface, MAC, instance): an ipvlan has no MAC of its own and belongs to one instance."""


def virtual_mac(vrid: int, family: int) -> bytes:
    """RFC 5798 section 7.3: 00:00:5e:00:01:VRID for IPv4, 00:00:5e:00:02:VRID for IPv6."""
    return bytes((0, 0, 0x5E, 0, 1 if family == 4 else 2, vrid))


def mac_of(settings: VmacSettings | None, vrid: int, family: int) -> bytes:
    """The MAC that the file wants: its own, or the virtual router's."""
    given = b"" if settings is None else settings.mac
    return given[:5] + bytes([vrid]) if len(given) == 5 else given or virtual_mac(vrid, family)


@dataclass
class _Names:
    """Gives out names. ``seen``: the interfaces of this kernel and their MACs."""

    seen: Mapping[str, bytes]
    taken: set[str]
    former: Mapping[_LinkKey, str]
    """What is in use now keeps its name across a reload."""

    def choose(self, key: _LinkKey, wanted: str, prefix: str, vrid: int, family: int) -> str:
        reserved = {name for other, name in self.former.items() if other != key} | self.taken
        candidates = list(itertools.islice(_candidates(prefix, vrid, family), 256))
        adoptable = [
            name for name in (*candidates, *sorted(self.seen)) if key[1] and self.seen.get(name) == key[1] and name not in reserved
        ]
        if wanted and (wanted in self.seen or key in self.former or not adoptable):
            name = wanted
        elif key in self.former:
            name = self.former[key]
        elif adoptable:
            name = adoptable[0]
        else:
            name = next(name for name in candidates if name not in reserved and name not in self.seen)
        self.taken.add(name)
        return name


def _key(link: VirtualLink) -> _LinkKey:
    return link.base, link.mac, link.owner if link.kind is LinkKind.IPVLAN else ""


def _candidates(prefix: str, vrid: int, family: int) -> Iterator[str]:
    numbers: list[object] = ["", *([6] if family == 6 else []), *(n for n in range(1, 1000) if family == 4 or n != 6)]
    for number in numbers:
        tail = f"{number}.{vrid}"
        yield prefix[: NAME_BYTES - len(tail)] + tail


def place(config: VrrpConfig, seen: Mapping[str, bytes], former: Iterable[VirtualLink] = ()) -> VrrpConfig:
    """``config`` with its ``links``, and with every address on the interface where it will live.

    ``seen``: interface → MAC, in this kernel. ``former``: the links of the configuration that a reload replaces.
    """
    wanted = {model.vmac.name for model in config.instances if model.vmac is not None and model.vmac.name}
    names = _Names(seen, set(wanted), {_key(link): link.name for link in former if link.name not in wanted})
    links: dict[_LinkKey, VirtualLink] = {}
    instances = tuple(_place_instance(config, model, names, links) for model in config.instances)
    return replace(config, instances=instances, links=tuple(links.values()))


def _place_instance(config: VrrpConfig, model: VrrpInstance, names: _Names, links: dict[_LinkKey, VirtualLink]) -> VrrpInstance:
    defs, settings = config.global_defs.vrrp, model.vmac
    link = ""
    if settings is not None and model.interface:
        mac = b"" if settings.ipvlan else mac_of(settings, model.vrid, int(model.family))
        key = (model.interface, mac, model.name if settings.ipvlan else "")
        if key not in links:
            name = names.choose(key, settings.name, defs.vmac_prefix, model.vrid, int(model.family))
            links[key] = VirtualLink(
                name,
                model.interface,
                model.name,
                LinkKind.IPVLAN if settings.ipvlan else LinkKind.MACVLAN,
                mac,
                int(model.family) == 6,
                settings.group,
                settings.netlink_notify,
                _own_address(settings, name),
                settings.ipvlan_mode,
            )
        link = links[key].name

    def placed(address: VirtualAddress) -> VirtualAddress:
        at_home = address.interface == model.interface and address.family is model.family
        if at_home and link and settings is not None and not settings.ipvlan:
            return replace(address, interface=link)
        if not address.interface or not (address.use_vmac or (model.vmac_addresses and not at_home)):
            return address
        family = int(address.family)
        specified = None if settings is None or settings.ipvlan else settings
        key = (address.interface, mac_of(specified, model.vrid, family), "")
        if key not in links:
            name = names.choose(key, "", defs.vmac_address_prefix or defs.vmac_prefix, model.vrid, family)
            links[key] = VirtualLink(name, address.interface, model.name, mac=key[1], ipv6=family == 6)
        return replace(address, interface=links[key].name)

    return replace(
        model,
        virtual_interface=link,
        addresses=tuple(map(placed, model.addresses)),
        excluded_addresses=tuple(map(placed, model.excluded_addresses)),
    )


def _own_address(settings: VmacSettings, name: str) -> VirtualAddress | None:
    if settings.ipvlan_address is None:
        return None
    length = settings.ipvlan_prefix_length
    return VirtualAddress(settings.ipvlan_address, length, interface=name)
