"""no_accept by nftables: packets to and from the virtual addresses are dropped, neighbour discovery is let through.

The rules stand as long as the daemon runs, not only while MASTER as keepalived's: they only concern packets to and from addresses of
this node, so a BACKUP's change nothing, and a takeover waits for no ``nft``. One transaction replaces the whole table: there is no
moment with half of the rules, and after an error the old ones are still there. Tables, sets and chains have keepalived's names.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address

from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.daemon import FirewallSettings

IndexOf = Callable[[str], int | None]
"""Interface name → index, None if there is no such interface now."""
DEFAULT_TABLE = "keepalived"
NFT_PATIENCE_S = 5.0


def guarded_addresses(config: VrrpConfig) -> tuple[VirtualAddress, ...]:
    """The addresses, in adverts and excluded, of every instance that does not accept packets for them; an owner always does."""
    models = [model for model in config.instances if not model.accept and not model.owner]
    return tuple(address for model in models for address in (*model.addresses, *model.excluded_addresses))


def interface_index(name: str) -> int | None:
    """The index of an interface of this namespace."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def ruleset(addresses: Sequence[VirtualAddress], settings: FirewallSettings, index_of: IndexOf = interface_index) -> str:
    """The tables for ``nft -f -``, "" for no address. With ``nftables_ifindex`` an interface that does not exist has no elements."""
    v4 = [str(address.address) for address in addresses if address.address.version == 4]
    v6 = [address for address in addresses if isinstance(address.address, IPv6Address)]
    local = [(address.address, address.interface) for address in v6 if address.address.is_link_local]
    others = [str(address.address) for address in v6 if not address.address.is_link_local]
    if settings.nft_ifindex:
        key, words = "iface_index", ("iif", "oif")
        elements = [f"{address} . {index}" for address, name in local if (index := index_of(name)) is not None]
    else:
        key, words = "ifname", ("iifname", "oifname")
        elements = [f'{address} . "{name}"' for address, name in local]
    drop = "counter drop" if settings.nft_counters else "drop"
    return "".join(
        [
            _table("ip", settings, _set("vips", "ipv4_addr", v4), [f"ip daddr @vips {drop}"], [f"ip saddr @vips {drop}"]) if v4 else "",
            _table(
                "ip6",
                settings,
                _set("vips", "ipv6_addr", others) + _set("vips_link_local", f"ipv6_addr . {key}", elements),
                _v6_rules("daddr", words[0], drop),
                _v6_rules("saddr", words[1], drop),
            )
            if v6
            else "",
        ]
    )


def _set(name: str, kind: str, elements: Sequence[str]) -> str:
    # An address of two instances stands in the set once; the order is kept.
    content = f" elements = {{ {', '.join(dict.fromkeys(elements))} }};" if elements else ""
    return f"\tset {name} {{ type {kind};{content} }}\n"


def _v6_rules(direction: str, interface: str, drop: str) -> list[str]:
    return [
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
        f"ip6 {direction} . {interface} @vips_link_local {drop}",
        f"ip6 {direction} @vips {drop}",
    ]


def _table(family: str, settings: FirewallSettings, sets: str, inward: Sequence[str], outward: Sequence[str]) -> str:
    chains = ""
    for chain, hook, rules in (("in", "input", inward), ("out", "output", outward)):
        lines = "".join(f"\t\t{rule}\n" for rule in rules)
        chains += f"\tchain {chain} {{\n\t\ttype filter hook {hook} priority {settings.nft_priority};\n{lines}\t}}\n"
    return f"table {family} {settings.nft_table or DEFAULT_TABLE} {{\n{sets}{chains}}}\n"


class Firewall:
    """The tables of one daemon. Methods that act return what went wrong, in words, or ""."""

    def __init__(self) -> None:
        self._table = ""
        self._rules = ""
        self._listed = ("", "", "")
        """Table, rules, and how nft prints them."""
        self._config: VrrpConfig | None = None

    @property
    def active(self) -> bool:
        """Are there rules of ours?"""
        return bool(self._rules)

    def apply(self, config: VrrpConfig) -> str:
        """Make the kernel's tables those of ``config``; nothing is run if nothing differs."""
        settings = config.global_defs.firewall
        rules = ruleset(guarded_addresses(config), settings)
        table = settings.nft_table or DEFAULT_TABLE
        self._config = config
        if rules == self._rules and (table == self._table or not rules):
            return ""
        names = ({self._table} if self._rules else set()) | ({table} if rules else set())
        problem = run_nft(removal(names) + rules)
        if not problem:
            self._table, self._rules = table, rules
            # Once for the same rules: when they are put back, somebody is at work who may be quicker than a second look.
            if rules and self._listed[:2] != (table, rules):
                self._listed = (table, rules, listing(table))
        return problem

    def in_place(self) -> bool:
        """Are the kernel's tables what ``apply`` made, and would it make the same today?"""
        if self._config is None or not self._rules:
            return True
        wanted = ruleset(guarded_addresses(self._config), self._config.global_defs.firewall)
        return wanted == self._rules and listing(self._table) == self._listed[2]

    def put_back(self) -> str:
        """Make the tables again, whatever is there."""
        if self._config is None:
            return ""
        before, self._rules = self._rules, ""
        problem = self.apply(self._config)
        if problem:
            self._rules = before
        return problem

    def remove(self) -> str:
        """Take the tables out."""
        if not self._rules:
            return ""
        self._rules = ""
        return run_nft(removal({self._table}))


def removal(names: set[str]) -> str:
    """Adding first makes the deletion of a table that is not there no error."""
    return "".join(f"add table {family} {name}\ndelete table {family} {name}\n" for name in sorted(names) for family in ("ip", "ip6"))


def listing(table: str) -> str:
    """Our tables as nft prints them, without counters."""
    found = ""
    for family in ("ip", "ip6"):
        command = ["nft", "--stateless", "list", "table", family, table]
        try:
            found += subprocess.run(command, capture_output=True, text=True, timeout=NFT_PATIENCE_S, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            return ""
    return found


def run_nft(script: str) -> str:
    """Let ``nft`` work a script off; what went wrong, or ""."""
    try:
        done = subprocess.run(["nft", "-f", "-"], input=script, text=True, capture_output=True, timeout=NFT_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nft: {error}"
    return f"nft: {' '.join(done.stderr.split())[:300]}" if done.returncode else ""
