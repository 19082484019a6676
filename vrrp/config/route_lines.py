"""Lines of virtual_routes, static_routes, virtual_rules and static_rules: the words of ``ip route`` and ``ip rule``."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterable, Iterator

from vrrp.config.keyword import REJECTED, Reading, Rejected, Value, nearest
from vrrp.config.model.common import Family, IpAddress, IpNetwork
from vrrp.config.model.routing import ENCAP_OPTIONS, TARGETED_ENCAPS, NextHop, Route, Rule
from vrrp.config.syntax import Statement, Word
from vrrp.config.values import UINT32, check_interface, line_list, parse_address, read_integer

ROUTE_KINDS = ("unicast", "local", "broadcast", "multicast", "throw", "unreachable", "prohibit", "blackhole", "nat", "anycast")
_DROPPING = ("blackhole", "unreachable", "prohibit", "throw")
_METRICS = (
    "mtu", "hoplimit", "advmss", "rtt", "rttvar", "reordering", "window", "cwnd", "ssthresh", "rto_min", "initcwnd", "initrwnd",
    "quickack", "fastopen_no_cookie",
)  # fmt: skip
_OPTIONS_WITH_VALUE = ("realms", "features", "congctl", "pref", "expires", "ttl-propagate")
_FLAGS = ("onlink", "add", "prepend", "append")
_ROUTE_WORDS = (
    "to", "src", "via", "gw", "or", "dev", "oif", "scope", "table", "metric", "priority", "preference", "tos", "dsfield", "protocol",
    "proto", "nexthop", "encap", "vrf", "inet", "inet6", "no_track", "track_group", "weight",
    *ROUTE_KINDS, *_METRICS, *_OPTIONS_WITH_VALUE, *_FLAGS,
)  # fmt: skip

_SELECTORS_WITH_VALUE = (
    "from", "to", "iif", "dev", "oif", "tos", "dsfield", "fwmark", "realms", "suppress_prefixlength", "suppress_ifgroup",
    "tunnel-id", "uidrange", "protocol", "ipproto", "ip_proto", "sport", "dport",
)  # fmt: skip
_ACTIONS_WITH_VALUE = ("table", "lookup", "goto", "nat", "map-to")
_ACTIONS = ("nop", "l3mdev", *_DROPPING)
_RULE_WORDS = (
    *_SELECTORS_WITH_VALUE, *_ACTIONS_WITH_VALUE, *_ACTIONS, "not", "preference", "priority", "order", "type", "inet", "inet6",
    "no_track", "track_group",
)  # fmt: skip


def routes(static: bool = False) -> Value:
    """A block of route lines, as a tuple of Route."""
    return line_list("[to] NETWORK|default [via GATEWAY] [dev INTERFACE] …", lambda reading, line: _RouteLine(reading, line, static).read())


def rules(static: bool = False) -> Value:
    """A block of rule lines, as a tuple of Rule."""
    return line_list("[from NETWORK] [to NETWORK] table TABLE …", lambda reading, line: _RuleLine(reading, line, static).read())


def parse_network(text: str) -> IpNetwork | None:
    """``ADDRESS[/LENGTH]`` with host bits allowed, or None."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


class _LineWords:
    """The words of one line with the reports that routes and rules share."""

    def __init__(self, reading: Reading, line: Statement, known: tuple[str, ...]) -> None:
        self.reading = reading
        self.line = line
        self.failed = False
        self._known = known
        self._rest: deque[Word] = deque(line.words)

    def __iter__(self) -> Iterator[Word]:
        while self._rest:
            yield self._rest.popleft()

    def follows(self, words: Iterable[str]) -> bool:
        """Is the next word one of these? It stays the next."""
        return bool(self._rest) and self._rest[0].text in words

    def fail(self, where: Word | Statement, message: str, remedy: str) -> None:
        """Report an error and remember it."""
        self.reading.error(where, message, remedy, "route")
        self.failed = True

    def value(self, option: Word) -> Word | None:
        """The word after ``option``."""
        value = self._rest.popleft() if self._rest else None
        if value is None:
            self.fail(option, f"'{option.text}' has no value", f"write: {option.text} VALUE")
        return value

    def unknown(self, word: Word) -> None:
        """Report a word that means nothing here, with the nearest that does."""
        near = nearest(word.text, self._known)
        self.fail(
            word,
            f"'{word.text}' is unknown here",
            f"did you mean '{near}'?" if near else "remove it; the words are those of 'ip route' and 'ip rule'",
        )

    def address(self, option: Word) -> IpAddress | None:
        """The address after ``option``."""
        value = self.value(option)
        if value is None:
            return None
        address = parse_address(value.text)
        if address is None:
            self.fail(value, f"'{value.text}' after {option.text} is no IP address", "write one such as 192.0.2.1")
        return address

    def gateway(self, option: Word) -> tuple[IpAddress | None, bool]:
        """``[inet|inet6] ADDRESS`` after ``option``, and whether the family was given."""
        given = self.follows(("inet", "inet6"))
        if not given:
            return self.address(option), False
        family = self.value(option)
        assert family is not None
        address = self.address(family)
        if address is not None and address.version != (6 if family.text == "inet6" else 4):
            self.fail(
                family, f"{address} is not of the family {family.text}", "write inet before an IPv4 address, inet6 before an IPv6 one"
            )
        return address, True

    def encap(self, option: Word) -> tuple[str, ...]:
        """The words of a tunnel after ``encap``."""
        kind = self.value(option)
        if kind is None:
            return ()
        if kind.text not in ENCAP_OPTIONS:
            self.fail(kind, f"'encap {kind.text}' is unknown", f"write one of {', '.join(ENCAP_OPTIONS)}")
            return ()
        words = [kind.text]
        if kind.text in TARGETED_ENCAPS and (target := self.value(kind)) is not None:
            words.append(target.text)
        while self.follows(ENCAP_OPTIONS[kind.text]):
            name = self._rest.popleft()
            if (value := self.value(name)) is not None:
                words += [name.text, value.text]
        return tuple(words)

    def interface(self, option: Word) -> str:
        """The interface after ``option``."""
        value = self.value(option)
        if value is None:
            return ""
        name = check_interface(self.reading, value)
        self.failed |= isinstance(name, Rejected)
        return "" if isinstance(name, Rejected) else name

    def number(self, option: Word, high: int = UINT32) -> int | None:
        """The number after ``option``."""
        value = self.value(option)
        if value is None:
            return None
        number = read_integer(self.reading, value, option.text, 0, high)
        self.failed |= isinstance(number, Rejected)
        return None if isinstance(number, Rejected) else number


class _RouteLine:
    """One route while it is read."""

    def __init__(self, reading: Reading, line: Statement, static: bool) -> None:
        self._words = _LineWords(reading, line, _ROUTE_WORDS)
        self._line = line
        self._static = static
        self._destination: IpNetwork | None = None
        self._destination_given = False
        self._kind = "unicast"
        self._source: IpAddress | None = None
        self._hops: list[NextHop] = []
        self._fields: dict[str, str] = {}
        self._priority: int | None = None
        self._metrics: list[tuple[str, str]] = []
        self._options: list[str] = []
        self._no_track = False
        self._interface = ""
        self._family: Family | None = None
        self._encap: tuple[str, ...] = ()
        self._other_family = False
        """A gateway's family is given, so that it may differ from the route's."""

    def read(self) -> object:
        """A Route or REJECTED."""
        gateway: IpAddress | None = None
        onlink = False
        for word in self._words:
            name = word.text
            if name in ("via", "gw"):
                if name == "gw":
                    self._words.reading.warning(word, "'gw' in a route is deprecated", "write 'via'", "deprecated")
                gateway, other_family = self._words.gateway(word)
                self._other_family |= other_family
            elif name == "or":
                self._words.reading.warning(word, "'or' in a route is deprecated", "write 'nexthop via …' twice", "deprecated")
                self._hops.append(NextHop(self._words.address(word)))
            elif name in ("dev", "oif"):
                self._interface = self._words.interface(word)
            elif name == "nexthop":
                self._next_hop()
            elif name == "onlink":
                onlink = True
            else:
                self._word(word)
        if gateway is not None or self._interface or not self._hops:
            self._hops.insert(0, NextHop(gateway, self._interface, 1, onlink, encap=self._encap))
        return self._finish()

    def _word(self, word: Word) -> None:
        name = word.text
        if name == "to":
            value = self._words.value(word)
            if value is not None:
                self._set_destination(value)
        elif name == "src":
            self._source = self._words.address(word)
        elif name in ("scope", "table", "vrf", "track_group"):
            self._field(name, word)
        elif name in ("tos", "dsfield"):
            self._field("tos", word)
        elif name in ("protocol", "proto"):
            self._field("protocol", word)
        elif name in ("metric", "priority", "preference"):
            self._priority = self._words.number(word)
        elif name in ROUTE_KINDS:
            self._kind = name
            if name == "blackhole" and self._line.words[0] is not word:
                self._words.reading.warning(word, "'blackhole' belongs in front of the destination", "write: blackhole NETWORK", "route")
        elif name in _METRICS:
            self._metric(word)
        elif name in _OPTIONS_WITH_VALUE:
            value = self._words.value(word)
            self._options += [name, value.text if value is not None else ""]
        elif name == "encap":
            self._encap = self._words.encap(word)
        elif name in _FLAGS:
            self._options.append(name)
        elif name in ("inet", "inet6"):
            self._family = Family.IPV6 if name == "inet6" else Family.IPV4
        elif name == "no_track":
            self._no_track = True
        elif not self._destination_given:
            self._set_destination(word)
        else:
            self._words.unknown(word)

    def _field(self, field: str, word: Word) -> None:
        if field == "track_group" and not self._static:
            self._words.fail(word, "track_group only works for static routes", "use no_track, or remove it")
        value = self._words.value(word)
        if value is not None:
            self._fields[field] = value.text

    def _metric(self, word: Word) -> None:
        value = self._words.value(word)
        lock = ""
        if value is not None and value.text == "lock":
            lock = " lock"
            value = self._words.value(word)
        if value is None:
            return
        if not value.text.rstrip("ms").isdigit():
            self._words.fail(value, f"'{value.text}' after {word.text} is no number", f"write: {word.text} NUMBER")
        self._metrics.append((word.text, value.text + lock))

    def _next_hop(self) -> None:
        """``nexthop via … dev … weight … onlink``: all words up to the next ``nexthop`` belong to it."""
        gateway: IpAddress | None = None
        interface, realms, weight, onlink = "", "", 1, False
        encap: tuple[str, ...] = ()
        options: list[str] = []
        for word in self._words:
            if word.text == "nexthop":
                self._hops.append(NextHop(gateway, interface, weight, onlink, realms, encap, tuple(options)))
                gateway, interface, realms, weight, onlink, encap, options = None, "", "", 1, False, (), []
            elif word.text == "via":
                gateway, other_family = self._words.gateway(word)
                self._other_family |= other_family
            elif word.text == "encap":
                encap = self._words.encap(word)
            elif word.text in ("dev", "oif"):
                interface = self._words.interface(word)
            elif word.text == "weight":
                weight = self._words.number(word, 256) or 1
            elif word.text == "onlink":
                onlink = True
            elif word.text == "realms":
                value = self._words.value(word)
                realms = value.text if value is not None else ""
            elif word.text in ("no_track", "table", "metric", "proto", "protocol", "scope", "track_group"):
                self._word(word)
            else:
                options.append(word.text)
        self._hops.append(NextHop(gateway, interface, weight, onlink, realms, encap, tuple(options)))

    def _set_destination(self, word: Word) -> None:
        self._destination_given = True
        if word.text in ("default", "default6", "any", "all"):
            if word.text == "default6":
                self._words.reading.warning(word, "'default6' is deprecated", "write 'inet6 default'", "deprecated")
                self._family = Family.IPV6
            return
        self._destination = parse_network(word.text)
        if self._destination is None:
            near = nearest(word.text, _ROUTE_WORDS)
            remedy = f"did you mean '{near}'?" if near else "write one such as 192.0.2.0/24, or default"
            self._words.fail(word, f"'{word.text}' is no network", remedy)

    def _finish(self) -> object:
        if not self._destination_given and not self._words.failed:
            self._words.fail(self._line, "a route without a destination", "write: NETWORK via GATEWAY dev INTERFACE")
        addresses: list[IpAddress] = [hop.gateway for hop in self._hops if hop.gateway is not None and not self._other_family]
        if self._source is not None:
            addresses.append(self._source)
        versions = {address.version for address in addresses} | ({self._destination.version} if self._destination is not None else set())
        if len(versions) > 1 and not self._words.failed:
            self._words.fail(self._line, "a route mixes IPv4 and IPv6 addresses", "use addresses of one family")
        if self._words.failed:
            return REJECTED
        family = self._family or Family(versions.pop() if versions else 4)
        if not self._interface and not self._no_track:
            self._words.reading.warning(
                self._line, "a route without an interface cannot be tracked", "add 'dev INTERFACE', or 'no_track'", "route"
            )
        return Route(
            family=family,
            destination=self._destination,
            kind=self._kind,
            source=self._source,
            next_hops=() if self._kind in _DROPPING else tuple(self._hops),
            scope=self._fields.get("scope", ""),
            table=self._fields.get("table", ""),
            protocol=self._fields.get("protocol", ""),
            priority=self._priority,
            tos=self._fields.get("tos", ""),
            vrf=self._fields.get("vrf", ""),
            metrics=tuple(self._metrics),
            options=tuple(self._options),
            no_track=self._no_track,
            track_group=self._fields.get("track_group", ""),
            position=self._line.position,
        )


class _RuleLine:
    """One policy rule while it is read."""

    def __init__(self, reading: Reading, line: Statement, static: bool) -> None:
        self._words = _LineWords(reading, line, _RULE_WORDS)
        self._line = line
        self._static = static
        self._selectors: list[tuple[str, str]] = []
        self._actions: list[tuple[str, str]] = []
        self._inverted = False
        self._priority: int | None = None
        self._no_track = False
        self._track_group = ""
        self._versions: set[int] = set()

    def read(self) -> object:
        """A Rule or REJECTED."""
        for word in self._words:
            self._word(word)
        if len(self._actions) > 1:
            self._words.fail(self._line, "a rule with more than one of table, goto, nop, blackhole, …", "keep one of them")
        if len(self._versions) > 1:
            self._words.fail(self._line, "a rule mixes IPv4 and IPv6 networks", "use networks of one family")
        if not self._actions and not self._words.failed:
            self._words.fail(self._line, "a rule without an action", "add 'table TABLE'")
        if self._words.failed:
            return REJECTED
        if self._priority is None:
            self._words.reading.warning(
                self._line, "a rule without preference", "add 'preference N', so that its place is certain", "route"
            )
        family = Family(self._versions.pop() if self._versions else 4)
        return Rule(
            family,
            tuple(self._selectors),
            tuple(self._actions),
            self._inverted,
            self._priority,
            self._no_track,
            self._track_group,
            self._line.position,
        )

    def _word(self, word: Word) -> None:
        name = word.text
        if name == "not":
            self._inverted = True
        elif name in ("preference", "priority", "order"):
            self._priority = self._words.number(word)
        elif name in ("inet", "inet6"):
            self._versions.add(6 if name == "inet6" else 4)
        elif name == "no_track":
            self._no_track = True
        elif name == "track_group" and self._static:
            value = self._words.value(word)
            self._track_group = value.text if value is not None else ""
        elif name in _SELECTORS_WITH_VALUE:
            self._selector(word)
        elif name in _ACTIONS_WITH_VALUE or name == "type":
            value = self._words.value(word)
            if value is not None:
                self._actions.append((value.text, "") if name == "type" else ("table" if name == "lookup" else name, value.text))
        elif name in _ACTIONS:
            self._actions.append((name, ""))
        else:
            self._words.unknown(word)

    def _selector(self, word: Word) -> None:
        value = self._words.value(word)
        if value is None:
            return
        if word.text in ("from", "to") and value.text not in ("all", "any", "default"):
            network = parse_network(value.text)
            if network is None:
                self._words.fail(value, f"'{value.text}' after {word.text} is no network", "write one such as 192.0.2.0/24")
                return
            self._versions.add(network.version)
        self._selectors.append((word.text, value.text))
