"""``nftables_ipvs``: nftables marks the packets to the addresses of a group, so that one kernel service by mark serves all of them.

One transaction replaces the whole table, as with no_accept (vrrp.system.firewall): there is no moment with half of the rules. Marks are
counted from ``nftables_ipvs_start_fwmark``, one for each virtual server of a group, in the order of the file. Tables, maps and chains have
keepalived's names. Addresses without a port have a map of their own (keepalived looks for port 0 there, which no packet has).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from vrrp.config.model.daemon import FirewallSettings
from vrrp.lvs.model.settings import MarkedRange, VirtualServerSettings
from vrrp.system.firewall import listing, removal, run_nft
from vrrp.system.namespaces import inside, path_of

_FAMILIES = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}


def ruleset(wanted: Iterable[VirtualServerSettings], settings: FirewallSettings) -> str:
    """The tables for ``nft -f -``, "" if there is nothing to mark."""
    maps: dict[tuple[int, str, bool], list[str]] = {}
    for service in wanted:
        for marked in service.marked:
            key = (marked.first.version, service.transport.name.lower(), bool(marked.port))
            maps.setdefault(key, []).append(f"{_element(marked)} : {marked.mark:#x}")
    return "".join(
        _table(family, settings, {key: elements for key, elements in maps.items() if key[0] == family})
        for family in sorted({key[0] for key in maps})
    )


def _element(marked: MarkedRange) -> str:
    addresses = str(marked.first) if marked.first == marked.last else f"{marked.first}-{marked.last}"
    return f"{addresses} . {marked.port}" if marked.port else addresses


def _table(version: int, settings: FirewallSettings, maps: dict[tuple[int, str, bool], list[str]]) -> str:
    family, kind = _FAMILIES[version]
    text, rules = "", ""
    # An address with a port is more than one without: it is looked up first.
    for (_, protocol, with_port), elements in sorted(maps.items(), key=lambda item: (not item[0][2], item[0][1])):
        name, types = (f"{protocol}_map", f"{kind} . inet_service") if with_port else (f"{protocol}_addresses", kind)
        text += f"\tmap {name} {{\n\t\ttype {types} : mark; flags interval;\n\t\telements = {{ {', '.join(elements)} }};\n\t}}\n"
        key = f"{family} daddr . {protocol} dport" if with_port else f"{family} daddr"
        match = "" if with_port else f"meta l4proto {protocol} "
        rules += f"\t\t{match}meta mark set {key} map @{name} return\n"
    chain = f"\tchain in {{\n\t\ttype filter hook input priority {settings.nft_ipvs_priority};\n{rules}\t}}\n"
    return f"table {family} {settings.nft_ipvs_table} {{\n{text}{chain}}}\n"


class Marker:
    """The tables of one checker process. ``namespace`` as in LazyIpvs. ``problem``: why the kernel's tables are not as wanted, or ""."""

    def __init__(self) -> None:
        self.namespace: str | None = None
        self.problem = ""
        self._table = ""
        self._rules = ""
        self._listing = ""

    @property
    def active(self) -> bool:
        """Are there rules of ours?"""
        return bool(self._rules)

    def apply(self, wanted: Iterable[VirtualServerSettings], settings: FirewallSettings) -> None:
        """Make the kernel's tables those of the configuration; nothing is run if nothing differs."""
        rules = ruleset(wanted, settings) if settings.nft_ipvs_table else ""
        if rules != self._rules or (rules and settings.nft_ipvs_table != self._table):
            names = {self._table} if self._rules else set()
            self._table, self._rules = settings.nft_ipvs_table, rules
            self._set(names)

    def look(self) -> bool:
        """Put the tables back if somebody has changed them, or if they could not be set; True if that was so and went well."""
        if not self._rules:
            return False
        with self._there():
            in_place = not self.problem and listing(self._table) == self._listing
        if in_place:
            return False
        self._set(set())
        return not self.problem

    def remove(self) -> None:
        """Take the tables out."""
        if self._rules:
            self._rules = ""
            self._set({self._table})

    def _set(self, old: set[str]) -> None:
        names = old | ({self._table} if self._rules else set())
        try:
            with self._there():
                self.problem = run_nft(removal(names) + self._rules)
                self._listing = listing(self._table) if self._rules and not self.problem else ""
        except OSError as error:
            self.problem = f"nftables_ipvs: {error.strerror or error}"

    def _there(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.namespace is None else inside(path_of(self.namespace))
