"""Recordings of the VRRP cores: readable files with timed inputs and, indented below each, what came out.

    A BACKUP takes over when its master falls silent.
    RFC 5798 section 6.4.2 (600-640)

    router V priority 100; version 3

    0 start
        V remove addresses
        V notify BACKUP
        V is BACKUP 100: master_down 3.609375
    3.609375 wait
        3.609375 master_down
        V send 100: 313364010064b8e40a000064
        ...

The first line says what is shown, the lines up to the blank one where it is written. Then comes what an operator configures and after that
one input a line. Times are seconds; deadlines fire exactly when they are due, those at the very time of an input after it (the daemon
drains its sockets before it believes in a silence).

Setup
    ``router NAME keywords; of a; vrrp_instance`` (with defaults: eth0, VRID 51, 10.0.0.100) · ``global keywords; …`` ·
    ``config any; other { block; }`` · ``gate closed``
Packets
    ``hear NAME priority=150 from=10.0.0.6`` and any of interval (s) addresses vrid version type ttl to auth sequence checksum cut pad
    signed (KEY-ID:KEY) clock (the signer's, in seconds of the recording) trailer (its type), or raw (hex with its IP header).
    What is not given is as NAME itself would send it. It passes the daemon's receive checks.
    ``repeat NAME``: the very packet accepted last came again.
Everything
    ``start`` ``stop`` ``wait`` · ``oversleep`` and ``stall SECONDS``: nothing fired since the last input, all of it is late now ·
    ``reload`` followed by router and other lines, which replace those of the same name; ``reload without NAME``
One router, each followed by its name
    ``started`` ``priority N`` ``fault CAUSE`` ``clear CAUSE`` ``address IP|none`` ``lost IP`` ``refused ERROR`` ``unsent ERROR``
    ``sent`` ``announce`` ``promote``
    ``demote`` ``grant epoch=1 expires=20`` ``yield until=30`` ``unyield`` ``bridge priority=150 age=0.5 valid=3``
Trackers
    ``script NAME ok|failed`` · ``track interface|file|process|bfd NAME VALUE``
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from vrrp.config.load import read_config
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import VrrpInstance as InstanceModel
from vrrp.conversion import (
    authenticator,
    checksum_style,
    destinations,
    expectations,
    hmac_session,
    instance_parameters,
    node_parameters,
    successors,
)
from vrrp.protocol import events as ev
from vrrp.protocol.authentication_header import IPPROTO_AH, Authenticator, OutdatedError
from vrrp.protocol.commands import (
    AddAddresses,
    AnnounceElsewhere,
    AnnounceSource,
    ProbeEgress,
    RefitAddresses,
    RemoveAddresses,
    Report,
    ReportKind,
    RunNotify,
    SendAdvert,
    SendGarp,
)
from vrrp.protocol.hmac_session import HmacSession, clock_sequence
from vrrp.protocol.hmac_trailer import make_trailer
from vrrp.protocol.instance import VrrpInstance
from vrrp.protocol.node import (
    InstanceEventHappened,
    NodeCommand,
    NodeReconfigured,
    NodeStalled,
    NodeStarted,
    NodeStopped,
    RunGroupNotify,
    ScriptFinished,
    TrackChanged,
    VrrpNode,
)
from vrrp.protocol.packet import (
    Advert,
    AuthType,
    ChecksumStyle,
    DecodeError,
    IPAddress,
    RejectReason,
    build_ipv4_header,
    build_ipv6_header,
    encode_advert,
    internet_checksum,
    parse_packet,
    pass_auth_data,
    receive_advert,
)
from vrrp.protocol.states import State, Timer
from vrrp.protocol.trackers import TrackKind

S = 1_000_000_000
INDENT = "    "
WALL_NS = 1_700_000_000 * S
"""The wall clock at 0 seconds."""
SOURCE = re.compile(r"RFC \d{4}|keepalived|docs/adr/\d{4}|docs/\w+\.md")


@dataclass
class Seen:
    """What a replay went through; the coverage tests ask for all of it."""

    events: set[tuple[State, type]] = field(default_factory=set)
    timers: set[tuple[State, Timer]] = field(default_factory=set)
    adverts: set[tuple[State, str, bool]] = field(default_factory=set)
    """(state, kind of advert, preempting)."""
    refused: set[RejectReason] = field(default_factory=set)
    reports: set[ReportKind] = field(default_factory=set)


@dataclass(frozen=True)
class Recording:
    """A file: its head (title, sources, setup) and its steps with the expected lines."""

    path: Path
    title: str
    sources: tuple[str, ...]
    lines: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Raises ValueError when the head is not as it must be."""
        lines = path.read_text(encoding="utf-8").splitlines()
        end = lines.index("") if "" in lines else 0
        title, *sources = lines[:end] or [""]
        if not title.endswith(".") or not sources or not all(SOURCE.search(source) for source in sources):
            raise ValueError(f"{path.name}: a sentence, then lines that cite an RFC, keepalived or an ADR, then a blank line")
        return cls(path, title, tuple(sources), tuple(lines))

    def replayed(self) -> tuple[str, Seen]:
        """The text of the file as it is when everything comes out as it does now."""
        replay = Replay()
        head = len(self.sources) + 1
        out = list(self.lines[:head])
        for line in (*(line for line in self.lines[head:] if not line.startswith(INDENT)), ""):
            is_input = line[:1].isdigit()
            if replay.pending and (is_input or not line or line.startswith("#")):
                out += replay.finish(seconds(line.split()[0]) if is_input else None)
            out.append(line)
            if is_input:
                replay.input(line)
            elif line and not line.startswith("#"):
                replay.configure(line)
        return "\n".join(out).rstrip("\n") + "\n", replay.seen


def _linked(model: InstanceModel) -> frozenset[IPAddress]:
    """The unicast peers in the /24 (IPv6: /64) of our own address."""
    local = _local(model)
    net = ip_network(f"{local}/{24 if local.version == 4 else 64}", strict=False)
    return frozenset(peer.address for peer in model.unicast_peers if peer.address in net)


class Replay:
    """A daemon's cores without a daemon."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.pending = False
        self._blocks: dict[str, str] = {}
        self._gate_closed = False
        self._config = VrrpConfig()
        self._before = VrrpConfig()
        self._node: VrrpNode | None = None
        self._keys: dict[str, Authenticator | None] = {}
        self._sessions: dict[str, HmacSession | None] = {}
        self._their_sequence = 0
        self._now = 0
        self._out: list[str] = []
        self._shown: dict[str, str] = {}
        self._reload = False

    # ---- setup ----------------------------------------------------------------------------------------------------

    def configure(self, line: str) -> None:
        """A line of setup."""
        word, _, rest = line.partition(" ")
        if word == "gate":
            self._gate_closed = rest == "closed"
        elif word in ("router", "global"):
            name, _, keywords = rest.partition(" ") if word == "router" else ("", "", rest)
            self._blocks[f"{word} {name}"] = _block(word, name, keywords.replace(";", "\n"))
        elif word == "config":
            self._blocks[rest.split("{", maxsplit=1)[0]] = rest.replace(";", "\n").replace("{", "{\n").replace("}", "\n}")
        else:
            raise ValueError(f"not understood: {line}")

    def _read(self) -> VrrpConfig:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "keepalived.conf"
            path.write_text("\n".join(self._blocks.values()) + "\n")
            loaded = read_config(str(path), config_id="x", interface_exists=lambda name: True)
        if loaded.errors:
            raise ValueError(f"{[str(error) for error in loaded.errors]} in {path.name}: {self._blocks}")
        return loaded.config

    @property
    def node(self) -> VrrpNode:
        """The core; made with the first input."""
        if self._node is None:
            self._config = self._read()
            self._node = VrrpNode(
                node_parameters(self._config),
                local_addresses={model.name: _local(model) for model in self._config.instances},
                gate_closed=self._gate_closed,
            )
            self._read_keys()
        return self._node

    def _read_keys(self) -> None:
        self._keys = {model.name: authenticator(model) for model in self._config.instances}
        self._sessions = {model.name: hmac_session(model) for model in self._config.instances}

    # ---- one input ------------------------------------------------------------------------------------------------

    def input(self, line: str) -> None:
        """Take a line; what comes of it is complete with ``finish``, because a reload goes on over the next lines."""
        when, word, *rest = line.split()
        at_ns = seconds(when)
        node = self.node
        if at_ns < self._now:
            raise ValueError(f"time runs backwards: {line}")
        if word not in ("oversleep", "stall"):
            self._fire(node, at_ns - 1)
        self._now = at_ns
        self.pending, self._reload = True, word == "reload"
        match word:
            case "start" | "stop":
                self._for_all(node, ev.Started if word == "start" else ev.Stopped)
                self._commands(node.handle(at_ns, NodeStarted() if word == "start" else NodeStopped()))
            case "stall":
                self._for_all(node, ev.ProcessStalled)
                self._commands(node.handle(at_ns, NodeStalled(seconds(rest[0]))))
            case "wait" | "oversleep":
                pass
            case "reload":
                for name in rest[1:]:
                    del self._blocks[f"router {name}"]
            case "script":
                self._commands(node.handle(at_ns, ScriptFinished(rest[0], rest[1] == "ok")))
            case "track":
                self._commands(node.handle(at_ns, TrackChanged(TrackKind(rest[0]), rest[1], int(rest[2]))))
            case "hear":
                self._hear(node, rest[0], dict(part.split("=", 1) for part in rest[1:]))
            case _:
                self._happened(node, rest[0], _event(word, rest[1:]))

    def finish(self, next_ns: int | None) -> list[str]:
        """The lines of the last input; nothing fires before everything that was there at the same time is read."""
        node = self.node
        if self._reload:
            before, self._config = self._config, self._read()
            self._before = before
            names = [model.name for model in self._config.instances]
            for name, instance in node.instances.items():
                self.seen.events.add((instance.state, ev.ParametersChanged if name in names else ev.Stopped))
            sources = {model.name: _local(model) for model in self._config.instances}
            event = NodeReconfigured(
                node_parameters(self._config), {old: new for old, new in successors(before, self._config).items() if old != new}, sources
            )
            self._commands(node.handle(self._now, event))
            self._read_keys()
        if next_ns != self._now:
            self._fire(node, self._now)
        self._states(node)
        lines, self._out, self.pending, self._reload = [INDENT + line for line in self._out], [], False, False
        return lines

    def _for_all(self, node: VrrpNode, event: type) -> None:
        self.seen.events |= {(instance.state, event) for instance in node.instances.values()}

    def _happened(self, node: VrrpNode, name: str, event: ev.InstanceEvent) -> None:
        instance = node.instances[name]
        self.seen.events.add((instance.state, type(event)))
        if isinstance(event, ev.AdvertReceived):
            self.seen.adverts.add((instance.state, advert_kind(instance, event), instance.parameters.preempt))
        self._commands(node.handle(self._now, InstanceEventHappened(name, event)))

    def _fire(self, node: VrrpNode, until_ns: int) -> None:
        """Every deadline up to ``until_ns``, each on time (those that an ``oversleep`` left are fired late, at once)."""
        while (due_ns := node.next_deadline()) is not None and due_ns <= until_ns:
            now_ns = max(due_ns, self._now)
            for name, instance in node.instances.items():
                for timer, timer_ns in _timers(instance).items():
                    if timer_ns <= now_ns:
                        self.seen.timers.add((instance.state, Timer(timer)))
                        late = "" if timer_ns == now_ns else f", {text(now_ns - timer_ns)} late"
                        self._out.append(f"{text(now_ns)} {name} {timer}{late}")
            self._commands(node.on_deadline(now_ns))
            self._states(node)

    # ---- packets --------------------------------------------------------------------------------------------------

    def _hear(self, node: VrrpNode, name: str, fields: dict[str, str]) -> None:
        model = self._config.instance(name)
        assert model is not None
        key = self._keys[name]
        data = bytes.fromhex(fields["raw"]) if "raw" in fields else self._packet(model, fields)
        try:
            sealed = key is not None and data[9] == IPPROTO_AH
            datagram = key.open(data) if key is not None and sealed else parse_packet(data)
            session = self._sessions[name]
            if session is not None:
                datagram = session.open(datagram, WALL_NS + self._now, None)
            advert = receive_advert(datagram, expectations(model, _local(model), _linked(model)))
        except DecodeError as error:
            self.seen.refused.add(error.reason)
            self._out.append(f"{name} refuses: {error.reason.value}")
            if isinstance(error, OutdatedError):
                advert = receive_advert(error.datagram, expectations(model, _local(model), _linked(model)))
                self._happened(node, name, ev.AdvertOutdated(error.datagram.source, advert))
            return
        self._happened(node, name, ev.AdvertReceived(datagram.source, advert))

    def _packet(self, model: InstanceModel, fields: dict[str, str]) -> bytes:
        fields = dict(fields)
        advert = replace(VrrpInstance(instance_parameters(model), local_address=None).advert(0), priority=int(fields.pop("priority", "0")))
        source = ip_address(fields.pop("from", "fe80::6" if advert.family == 6 else "10.0.0.6"))
        default = _local(model) if model.unicast else destinations(model)[0]
        destination = ip_address(fields.pop("to", str(default)))
        auth = fields.pop("auth", "")
        password = auth.partition(":")[2].encode() or model.authentication.password
        advert = replace(advert, version=int(fields.pop("version", advert.version)), vrid=int(fields.pop("vrid", advert.vrid)))
        if "interval" in fields:
            advert = replace(advert, interval_cs=seconds(fields.pop("interval")) // 10_000_000)
        if "addresses" in fields:
            addresses = tuple(ip_address(word) for word in fields.pop("addresses").split(",") if word)
            advert = replace(advert, addresses=addresses)
        if auth:
            kind = AuthType[auth.partition(":")[0].upper()]
            advert = replace(advert, auth_type=kind, auth_data=pass_auth_data(password) if kind is AuthType.PASS else bytes(8))
        elif advert.version == 3:
            advert = replace(advert, auth_type=AuthType.NONE, auth_data=b"")
        elif len(advert.auth_data) != 8:
            advert = replace(advert, auth_data=bytes(8))
        checksum = fields.pop("checksum", "")
        style = ChecksumStyle.PLAIN if checksum == "plain" else checksum_style(model)
        covered: IPAddress = ip_address("224.0.0.18") if checksum == "old" else destination
        payload = encode_advert(advert, source, covered, style)
        if "signed" in fields:
            key_id, _, key = fields.pop("signed").partition(":")
            clock_ns = WALL_NS + (seconds(fields.pop("clock")) if "clock" in fields else self._now)
            payload += make_trailer(payload, source, int(key_id), key.encode(), clock_sequence(clock_ns))
        payload = _bent(payload, fields, checksum)
        ttl = int(fields.pop("ttl", "255"))
        sequence = fields.pop("sequence", "")
        if fields:
            raise ValueError(f"not understood: {fields}")
        if advert.family == 6:
            return build_ipv6_header(source, destination, len(payload), hop_limit=ttl) + payload
        if advert.auth_type is not AuthType.AH or sequence == "bare":
            return build_ipv4_header(source, destination, len(payload), identification=1, ttl=ttl) + payload
        self._their_sequence = int(sequence) if sequence else self._their_sequence + 1
        header = bytearray(build_ipv4_header(source, destination, 24 + len(payload), identification=1, ttl=ttl))
        header[9] = IPPROTO_AH
        return Authenticator(password, unicast=model.unicast).seal(header, payload, self._their_sequence)

    # ---- what comes out -------------------------------------------------------------------------------------------

    def _commands(self, commands: list[NodeCommand]) -> None:
        for command in commands:
            if isinstance(command, Report):
                self.seen.reports.add(command.kind)
            self._out.append(self._said(command))

    def _said(self, command: NodeCommand) -> str:
        match command:
            case SendAdvert(name, advert):
                return f"{name} send {advert.priority}: {self._wire(name, advert)}"
            case AddAddresses(name):
                return f"{name} add addresses"
            case RefitAddresses(name):
                return f"{name} refit addresses"
            case RemoveAddresses(name):
                return f"{name} remove addresses"
            case ProbeEgress(name):
                return f"{name} probe"
            case SendGarp(name, repeat):
                return f"{name} announce {repeat} times"
            case AnnounceElsewhere(name):
                return f"{name} announce elsewhere"
            case AnnounceSource(name):
                return f"{name} announce its source"
            case RunNotify(name, state, priority):
                return f"{name} notify {state} {priority}"
            case Report(name, kind):
                return f"{name} report {kind.value}"
            case RunGroupNotify(name, state):
                return f"group {name} notify {state}"

    def _wire(self, name: str, advert: Advert) -> str:
        """The payload to the first destination, and the others' names."""
        model = self._config.instance(name) or self._before.instance(name)
        assert model is not None
        to = destinations(model)
        local = _local(model) or ip_address("0.0.0.0")
        payload = encode_advert(advert, local, to[0], checksum_style(model)).hex()
        return payload if len(to) == 1 and to[0].is_multicast else f"{payload} to {' '.join(map(str, to))}"

    def _states(self, node: VrrpNode) -> None:
        for name, instance in node.instances.items():
            timers = " ".join(f"{timer} {text(at_ns)}" for timer, at_ns in _timers(instance).items())
            shown = f"{name} is {instance.state.value} {instance.priority}" + (f": {timers}" if timers else "")
            if self._shown.get(name) != shown:
                self._shown[name] = shown
                self._out.append(shown)
        for gone in [name for name in self._shown if name not in node.instances]:
            del self._shown[gone]
            self._out.append(f"{gone} is gone")


def advert_kind(instance: VrrpInstance, event: ev.AdvertReceived) -> str:
    """One of ADVERT_KINDS, as this instance sees it."""
    priority = event.advert.priority
    if priority == 0:
        return "zero"
    if priority != instance.priority:
        return "higher" if priority > instance.priority else "lower"
    ours = instance.local_address
    return "equal, higher address" if ours is None or int(event.source) > int(ours) else "equal, lower address"


ADVERT_KINDS = ("zero", "lower", "equal, lower address", "equal, higher address", "higher")


def seconds(word: str) -> int:
    """``3.609375`` as nanoseconds, exactly."""
    whole, _, rest = word.partition(".")
    return int(whole) * S + int(rest.ljust(9, "0"))


def text(at_ns: int) -> str:
    """Nanoseconds as seconds, exactly, without needless zeros."""
    whole, rest = divmod(at_ns, S)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def _block(word: str, name: str, keywords: str) -> str:
    keywords = keywords.replace("{", "{\n").replace("}", "\n}")
    if word == "global":
        return f"global_defs {{\n{keywords}\n}}"
    known = {line.split()[0] for line in keywords.splitlines() if line.split()}
    defaults = {"interface": "eth0", "virtual_router_id": "51", "virtual_ipaddress": "{\n10.0.0.100\n}"}
    lines = [f"{keyword} {value}" for keyword, value in defaults.items() if keyword not in known]
    return "\n".join([f"vrrp_instance {name} {{", *lines, keywords, "}"])


def _local(model: InstanceModel) -> IPAddress:
    return model.source or ip_address("fe80::5" if int(model.family) == 6 else "10.0.0.5")


def _timers(instance: VrrpInstance) -> dict[str, int]:
    snapshot: Any = instance.snapshot()
    timers: dict[str, int] = snapshot["timers"]
    return timers


def _bent(payload: bytes, fields: dict[str, str], checksum: str) -> bytes:
    """Damage on purpose: ``type``, ``cut`` and ``pad`` bytes, ``checksum=bad``."""
    bent = bytearray(payload)
    if "type" in fields:
        bent[0] = bent[0] & 0xF0 | int(fields.pop("type"))
        bent[6:8] = b"\0\0"
        bent[6:8] = internet_checksum(bytes(bent)).to_bytes(2, "big")
    if checksum == "bad":
        bent[6] ^= 0x55
    if "trailer" in fields:
        bent[-28] = int(fields.pop("trailer"))
    del bent[len(bent) - int(fields.pop("cut", "0")) :]
    return bytes(bent) + bytes(int(fields.pop("pad", "0")))


def _event(word: str, rest: list[str]) -> ev.InstanceEvent:
    fields = dict(part.split("=", 1) for part in rest if "=" in part)
    match word:
        case "started":
            return ev.Started()
        case "repeat":
            return ev.AdvertRepeated()
        case "priority":
            return ev.PriorityChanged(int(rest[0]))
        case "fault":
            return ev.FaultRaised(" ".join(rest))
        case "clear":
            return ev.FaultCleared(" ".join(rest))
        case "address":
            return ev.LocalAddressChanged(None if rest[0] == "none" else ip_address(rest[0]))
        case "lost":
            return ev.AddressLost(ip_address(rest[0]))
        case "refused":
            return ev.AddressFailed(rest[0])
        case "unsent":
            return ev.AdvertUnsent(" ".join(rest))
        case "sent":
            return ev.AdvertSentAgain()
        case "grant":
            return ev.TakeoverGranted(int(fields["epoch"]), seconds(fields["expires"]))
        case "yield":
            return ev.YieldRequested(seconds(fields["until"]))
        case "unyield":
            return ev.YieldCancelled()
        case "bridge":
            source = ip_address(fields.get("from", "10.0.0.6"))
            return ev.AdvertBridged(int(fields["priority"]), source, seconds(fields["age"]), seconds(fields["valid"]))
        case "announce":
            return ev.AnnounceRequested()
        case "promote":
            return ev.PromotedByGroup()
        case "demote":
            return ev.DemotedByGroup()
    raise ValueError(f"not understood: {word} {' '.join(rest)}")
