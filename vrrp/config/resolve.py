"""From collected blocks to the model: names are looked up, defaults are resolved as keepalived resolves them.

``resolve_config`` is called once the whole file is read, because an instance may stand before the global_defs and the
scripts that it uses. Instances themselves are resolved in ``resolve_instance``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from vrrp.config.defaults import GarpDefaults, with_default_user, with_default_users, with_script_users
from vrrp.config.keyword import Collected, Reading, apply, nearest
from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.common import NO_NOTIFY, ScriptCommand
from vrrp.config.model.configuration import TrackGroup, VrrpConfig
from vrrp.config.model.daemon import DEFAULT_DAEMON, DEFAULT_GLOBALS, GlobalDefs, SslSettings, SyncDaemon
from vrrp.config.model.instance import GarpGroup, SyncGroup, VrrpInstance
from vrrp.config.model.tracking import BfdInstance, Track, TrackFile, TrackProcess, TrackSet, VrrpScript
from vrrp.config.resolve_instance import InstanceResolver
from vrrp.config.syntax import Word
from vrrp.config.tables.top_level import RawBlock
from vrrp.config.track_lines import TrackLine

NamedT = TypeVar("NamedT", VrrpScript, TrackFile, TrackProcess, BfdInstance)


def blocks(top: Collected, keyword: str) -> tuple[RawBlock, ...]:
    """The raw blocks of one top-level keyword, in the order of the file."""
    return cast("tuple[RawBlock, ...]", top.by_keyword.get(keyword, ()))


def _entries(top: Collected, keyword: str) -> tuple[Any, ...]:
    return cast("tuple[Any, ...]", top.by_keyword.get(keyword, ()))


def resolve_config(reading: Reading, top: Collected) -> VrrpConfig:
    """The whole model; every problem is reported, and what cannot be used is left out."""
    return _Resolver(reading, top).config()


class _Resolver:
    def __init__(self, reading: Reading, top: Collected) -> None:
        self._reading = reading
        self._top = top
        self._globals, self._garp_defaults = _globals(blocks(top, "global_defs"))
        self._instance_names = [block.name.text for block in blocks(top, "vrrp_instance") if block.name is not None]

    def config(self) -> VrrpConfig:
        scripts = self._unique("vrrp_script", self._script)
        files = self._unique("track_file", self._track_file) + self._unique("vrrp_track_file", self._track_file)
        processes = self._unique("vrrp_track_process", self._track_process)
        bfds = self._unique("bfd_instance", self._bfd)
        tracks = TrackResolver(self._reading, scripts, files, processes, bfds, self._defined(), dynamic=self._globals.dynamic_interfaces)
        groups = self._sync_groups(tracks)
        group_of = {member: group for group in groups for member in group.members}
        resolver = InstanceResolver(self._reading, self._globals, self._garp_defaults, tracks.track_set)
        instances: list[VrrpInstance] = []
        seen: dict[str, RawBlock] = {}
        for block in blocks(self._top, "vrrp_instance"):
            assert block.name is not None
            name = block.name.text
            if name in seen:
                self._duplicate("vrrp_instance", block, seen[name])
                continue
            seen[name] = block
            instance = resolver.resolve(block, group_of.get(name))
            if instance is not None:
                instances.append(instance)
        self._adopt_sync_daemon()
        return VrrpConfig(
            daemon=apply(DEFAULT_DAEMON, {k: v for k, v in self._top.values.items() if k in DEFAULT_DAEMON.__dataclass_fields__}),
            global_defs=self._globals,
            instances=tuple(instances),
            sync_groups=groups,
            scripts=scripts,
            track_files=files,
            track_processes=processes,
            track_groups=tuple(self._track_group(block) for block in blocks(self._top, "track_group")),
            bfd_instances=bfds,
            garp_groups=tuple(self._garp_group(block) for block in blocks(self._top, "garp_group")),
            static_addresses=tuple(self._static_address(address) for address in _entries(self._top, "static_ipaddress")),
            static_routes=_entries(self._top, "static_routes"),
            static_rules=_entries(self._top, "static_rules"),
            virtual_servers=_entries(self._top, "virtual_server"),
            virtual_server_groups=_entries(self._top, "virtual_server_group"),
            ssl=_ssl(blocks(self._top, "SSL")),
        )

    def _adopt_sync_daemon(self) -> None:
        """lvs_sync_daemon_interface of a vrrp_instance: lvs_sync_daemon that follows this instance; the first counts, as in keepalived."""
        for block in blocks(self._top, "vrrp_instance"):
            given = block.collected.by_keyword.get("lvs_sync_daemon_interface")
            if block.name is None or not isinstance(given, str):
                continue
            if self._globals.lvs.sync_daemon is not None:
                message = (
                    f"{block.name.text}: lvs_sync_daemon_interface has no effect: {self._globals.lvs.sync_daemon.interface} came first"
                )
                self._reading.warning(block.collected.positions["lvs_sync_daemon_interface"], message, "remove the line", "repeated")
                continue
            self._globals = replace(self._globals, lvs=replace(self._globals.lvs, sync_daemon=SyncDaemon(given, block.name.text)))

    def _defined(self) -> dict[str, frozenset[str]]:
        """Names of every kind that the file defines, well or badly: a name that was reported once is enough."""
        kinds = ("vrrp_script", "track_file", "vrrp_track_file", "vrrp_track_process", "bfd_instance")
        return {kind: frozenset(b.name.text for b in blocks(self._top, kind) if b.name is not None) for kind in kinds}

    # -- blocks with a name ------------------------------------------------------------------------------------------

    def _unique(self, keyword: str, build: Callable[[RawBlock], NamedT | None]) -> tuple[NamedT, ...]:
        built: dict[str, NamedT] = {}
        seen: dict[str, RawBlock] = {}
        for block in blocks(self._top, keyword):
            assert block.name is not None
            name = block.name.text
            if name in seen:
                self._duplicate(keyword, block, seen[name])
                continue
            seen[name] = block
            value = build(block)
            if value is not None:
                built[name] = value
        return tuple(built.values())

    def _duplicate(self, keyword: str, block: RawBlock, first: RawBlock) -> None:
        assert block.name is not None
        message = (
            f"{keyword} {block.name.text} is already defined in line {first.statement.position.line} of {first.statement.position.file}"
        )
        self._reading.error(block.name, message, "rename or remove one of them", "duplicate")

    def _missing(self, block: RawBlock, keyword: str, example: str) -> None:
        assert block.name is not None
        if not block.collected.has(keyword):
            message = f"{block.statement.keyword} {block.name.text} has no {keyword}"
            self._reading.error(block.name, message, f"add: {keyword} {example}", "missing-value")

    def _script(self, block: RawBlock) -> VrrpScript | None:
        assert block.name is not None
        values = dict(block.collected.values)
        command = values.pop("command", None)
        if not isinstance(command, ScriptCommand):
            self._missing(block, "script", '"/path/to/check arguments"')
            return None
        user, group = str(values.pop("user", "")), str(values.pop("group", ""))
        if user:
            command = replace(command, user=user, group=group)
        script = VrrpScript(block.name.text, with_default_user(command, self._globals), position=block.statement.position)
        script = apply(script, values)
        return script if "timeout_ns" in values else replace(script, timeout_ns=script.interval_ns)

    def _track_file(self, block: RawBlock) -> TrackFile | None:
        assert block.name is not None
        if "path" not in block.collected.values:
            self._missing(block, "file", "/path/to/file")
            return None
        return apply(TrackFile(block.name.text, "", position=block.statement.position), block.collected.values)

    def _track_process(self, block: RawBlock) -> TrackProcess | None:
        assert block.name is not None
        if "process" not in block.collected.values:
            self._missing(block, "process", "NAME")
            return None
        process = apply(TrackProcess(block.name.text, "", position=block.statement.position), block.collected.values)
        if process.quorum_max is not None and process.quorum_max < process.quorum:
            message = f"quorum_max {process.quorum_max} of {process.name} is below its quorum {process.quorum}"
            self._reading.error(block.name, message, "raise quorum_max or lower quorum", "out-of-range")
        return process

    def _bfd(self, block: RawBlock) -> BfdInstance | None:
        assert block.name is not None
        values = dict(block.collected.values)
        neighbor = values.pop("neighbor", None)
        if neighbor is None:
            self._missing(block, "neighbor_ip", "192.0.2.1")
            return None
        only_vrrp, only_checker = bool(values.pop("only_vrrp", False)), bool(values.pop("only_checker", False))
        bfd = apply(BfdInstance(block.name.text, cast(Any, neighbor), position=block.statement.position), values)
        if "hop_limit" not in values and bfd.neighbor.version == 6:
            bfd = replace(bfd, hop_limit=64)
        if bfd.source is not None and bfd.source.version != bfd.neighbor.version:
            self._reading.error(block.name, f"source_ip and neighbor_ip of {bfd.name} differ in family", "use one family", "family")
        both = only_vrrp == only_checker
        return replace(bfd, for_vrrp=both or only_vrrp, for_checker=both or only_checker)

    def _track_group(self, block: RawBlock) -> TrackGroup:
        assert block.name is not None
        members = cast("tuple[str, ...]", block.collected.values.get("members", ()))
        return TrackGroup(block.name.text, members, block.statement.position)

    def _garp_group(self, block: RawBlock) -> GarpGroup:
        values = block.collected.values
        interfaces = cast("tuple[str, ...]", values.get("interfaces", ()))
        single = values.get("interface")
        if isinstance(single, str):
            interfaces = (single, *interfaces)
        if not interfaces:
            self._reading.error(block.statement, "garp_group has no interface", "add: interface NAME", "missing-value")
        arp, advert = values.get("garp_interval_ns", 0), values.get("gna_interval_ns", 0)
        return GarpGroup(cast(int, arp), cast(int, advert), interfaces, block.statement.position)

    def _static_address(self, address: VirtualAddress) -> VirtualAddress:
        if not address.interface:
            return replace(address, interface=self._globals.default_interface)
        if not self._reading.interface_exists(address.interface) and not self._globals.dynamic_interfaces:
            message = f"the interface {address.interface} of the static address {address.address} does not exist"
            self._reading.error(address.position, message, "correct the name ('ip link' lists them)", "interface")
        return address

    # -- sync groups ---------------------------------------------------------------------------------------------------

    def _sync_groups(self, tracks: TrackResolver) -> tuple[SyncGroup, ...]:
        groups: list[SyncGroup] = []
        seen: dict[str, RawBlock] = {}
        group_of: dict[str, str] = {}
        for block in blocks(self._top, "vrrp_sync_group"):
            assert block.name is not None
            name = block.name.text
            if name in seen:
                self._duplicate("vrrp_sync_group", block, seen[name])
                continue
            seen[name] = block
            groups.append(self._sync_group(block, tracks, group_of))
        return tuple(groups)

    def _sync_group(self, block: RawBlock, tracks: TrackResolver, group_of: dict[str, str]) -> SyncGroup:
        assert block.name is not None
        values = {k: v for k, v in block.collected.values.items() if not k.startswith("track_") and k != "members"}
        members: list[str] = []
        names = cast("tuple[Word, ...]", block.collected.values.get("members", ()))
        for word in names:
            if self._check_member(block.name.text, word, group_of):
                members.append(word.text)
                group_of[word.text] = block.name.text
        if not block.collected.has("group"):
            self._missing(block, "group", "{ INSTANCE … }")
        elif len(members) < 2 and len(members) == len(names):
            message = f"sync group {block.name.text} has {len(members)} instance(s)"
            self._reading.warning(block.name, message, "a group makes sense with two or more", "group")
        smtp_alert = values.pop("smtp_alert", self._globals.mail.alert_vrrp or self._globals.mail.alert or False)
        group = apply(
            SyncGroup(block.name.text, tuple(members), tracks.track_set(block.collected), position=block.statement.position),
            {**values, "smtp_alert": smtp_alert},
        )
        return replace(group, notify=with_default_users(group.notify, self._globals)) if group.notify != NO_NOTIFY else group

    def _check_member(self, group: str, word: Word, group_of: dict[str, str]) -> bool:
        if word.text not in self._instance_names:
            near = nearest(word.text, self._instance_names)
            remedy = f"did you mean {near}?" if near else "define the vrrp_instance, or remove the name"
            self._reading.error(word, f"sync group {group} names the unknown vrrp_instance {word.text}", remedy, "unknown-name")
            return False
        if word.text in group_of:
            message = f"vrrp_instance {word.text} is in the sync groups {group_of[word.text]} and {group}"
            self._reading.error(word, message, "an instance can be in one group only", "duplicate")
            return False
        return True


class TrackResolver:
    """Looks tracked names up and resolves their weights."""

    def __init__(
        self,
        reading: Reading,
        scripts: Collection[VrrpScript],
        files: Collection[TrackFile],
        processes: Collection[TrackProcess],
        bfds: Collection[BfdInstance],
        defined: Mapping[str, frozenset[str]],
        *,
        dynamic: bool,
    ) -> None:
        """``dynamic``: dynamic_interfaces is set."""
        self._reading = reading
        self._known: dict[str, dict[str, tuple[int, bool]]] = {
            "track_script": {item.name: (item.weight, item.reverse) for item in scripts},
            "track_file": {item.name: (item.weight, item.reverse) for item in files},
            "track_process": {item.name: (item.weight, item.reverse) for item in processes},
            "track_bfd": {item.name: (item.weight, item.reverse) for item in bfds},
        }
        self._places = {
            "track_script": {item.name: item.position for item in scripts},
            "track_file": {item.name: item.position for item in files},
            "track_process": {item.name: item.position for item in processes},
            "track_bfd": {item.name: item.position for item in bfds},
        }
        self._dynamic = dynamic
        self._defined = defined
        self._kinds = {
            "track_script": "vrrp_script",
            "track_file": "track_file",
            "track_process": "vrrp_track_process",
            "track_bfd": "bfd_instance",
        }

    def track_set(self, collected: Collected) -> TrackSet:
        """Everything that a block tracks."""

        def resolved(keyword: str) -> tuple[Track, ...]:
            return self._resolve(keyword, cast("tuple[TrackLine, ...]", collected.values.get(keyword, ())))

        return TrackSet(
            interfaces=resolved("track_interface"),
            scripts=resolved("track_script"),
            files=resolved("track_file"),
            processes=resolved("track_process"),
            bfds=resolved("track_bfd"),
        )

    def _resolve(self, keyword: str, lines: tuple[TrackLine, ...]) -> tuple[Track, ...]:
        tracks: dict[str, Track] = {}
        for line in lines:
            name = line.name.text
            if name in tracks:
                self._reading.warning(line.name, f"{keyword} names {name} twice; the first counts", "remove one of them", "duplicate")
                continue
            default = self._default(keyword, line)
            if default is not None:
                weight = default[0] if line.weight is None else line.weight
                reverse = (default[1] if line.weight is None else False) if line.reverse is None else line.reverse
                tracks[name] = Track(name, weight, reverse, line.name.position)
        return tuple(tracks.values())

    def _default(self, keyword: str, line: TrackLine) -> tuple[int, bool] | None:
        """Weight and direction where the line gives none; None after reporting an unknown name."""
        name = line.name.text
        if keyword == "track_interface":
            if not self._reading.interface_exists(name):
                self._missing_interface(line.name)
            return 0, False
        known = self._known[keyword]
        if name in known:
            self._check_order(keyword, line.name)
            return known[name]
        kind = self._kinds[keyword]
        if name in self._defined[kind] or (kind == "track_file" and name in self._defined["vrrp_track_file"]):
            return None
        near = nearest(name, known)
        remedy = f"did you mean {near}?" if near else f"define it with: {kind} {name} {{"
        self._reading.error(line.name, f"{keyword} names the unknown {kind} {name}", remedy, "unknown-name")
        return None

    def _missing_interface(self, name: Word) -> None:
        message = f"the tracked interface {name.text} does not exist"
        if self._dynamic:
            self._reading.note(name, message, "vrrpd waits for it, because of dynamic_interfaces: FAULT until it comes", "interface")
        else:
            self._reading.error(name, message, "correct the name, or set dynamic_interfaces in global_defs", "interface")

    def _check_order(self, keyword: str, name: Word) -> None:
        """keepalived resolves a name where it stands: one that comes below is dropped there, and the election is another one."""
        place = self._places[keyword][name.text]
        if place.file == name.position.file and place.line > name.position.line:
            message = f"{keyword} {name.text} is defined below, in line {place.line}: keepalived drops it, vrrpd uses it"
            self._reading.warning(name, message, f"move the definition of {name.text} above this block", "order")


def _ssl(raw: tuple[RawBlock, ...]) -> SslSettings | None:
    return apply(SslSettings(), raw[-1].collected.values) if raw else None


def _globals(raw: tuple[RawBlock, ...]) -> tuple[GlobalDefs, GarpDefaults]:
    """All global_defs blocks together; a later line overrides an earlier one."""
    values: dict[str, object] = {}
    for block in raw:
        values.update(block.collected.values)
        if "script_user" in block.collected.positions:
            values["script_user_position"] = block.collected.positions["script_user"]
    delay, repeat = values.pop("garp_lower_prio_delay_ns", None), values.pop("garp_lower_prio_repeat", None)
    if values.get("vrrp.min_garp"):
        for path, value in (("master_delay_ns", 0), ("master_repeat", 1)):
            values.setdefault(f"vrrp.garp.{path}", value)
    defs = apply(DEFAULT_GLOBALS, values)
    garp = defs.vrrp.garp
    garp = replace(
        garp,
        lower_priority_delay_ns=garp.master_delay_ns if delay is None else cast(int, delay),
        lower_priority_repeat=garp.master_repeat if repeat is None else cast(int, repeat),
    )
    defs = replace(defs, vrrp=replace(defs.vrrp, garp=garp))
    if not defs.vrrp.vmac_address_prefix:
        defs = replace(defs, vrrp=replace(defs.vrrp, vmac_address_prefix=defs.vrrp.vmac_prefix))
    defs = with_script_users(defs)
    return defs, GarpDefaults(cast("int | None", delay), cast("int | None", repeat))
