"""keepalived.data and keepalived.stats in keepalived 2.2.7's text form: the lines that exporters and operators' scripts look for.

Labels, order and units are keepalived's; what it prints about its own memory (socket pool, netlink buffers, interfaces) is left out, and a
password is only said to be there. The parent writes them from its configuration and from what the vrrp process says of itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from base.channel import JsonObject
from base.core import NS_PER_MS, NS_PER_S, NS_PER_US
from vrrp.config.model.addresses import AddressFlag, VirtualAddress
from vrrp.config.model.common import NotifyCommands, ScriptCommand
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import AuthKind, SyncGroup, VrrpInstance
from vrrp.config.model.tracking import BfdInstance, Track, TrackFile, TrackProcess, TrackSet, VrrpScript
from vrrp.system.routes import describe
from vrrp.system.scripts import CannotRun, account

_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_FLAGS = (
    (AddressFlag.HOMEADDRESS, "home"),
    (AddressFlag.MANAGETEMPADDR, "mngtmpaddr"),
    (AddressFlag.NOPREFIXROUTE, "noprefixroute"),
    (AddressFlag.MCAUTOJOIN, "autojoin"),
)


def address_line(address: VirtualAddress, *, held: bool = False, device: str = "") -> str:
    """``10.0.0.1/24 dev eth0 scope global set``: one address as keepalived prints it. ``device``: its macvlan, if it has one."""
    place = f"{device}@{address.interface}" if device and device != address.interface else address.interface
    alone = address.prefix_length == address.address.max_prefixlen
    words = [str(address.address) if alone else str(address)]
    words += [f"brd {address.broadcast}"] if address.broadcast is not None else []
    words += [f"dev {place}", *(["use_vmac"] if address.use_vmac else []), f"scope {_SCOPES.get(address.scope, address.scope)}"]
    words += [f"label {address.label}"] if address.label else []
    words += [f"peer {address.peer}/{address.prefix_length}"] if address.peer is not None else []
    words += [word for flag, word in _FLAGS if address.flags & flag]
    words += ["no_track"] if address.no_track else []
    words += [f"track_group {address.track_group}"] if address.track_group else []
    if address.address.version == 6:
        preferred = address.preferred_lft_s
        words.append("deprecated" if preferred == 0 else f"preferred_lft {'forever' if preferred is None else preferred}")
    return " ".join([*words, *(["set"] if held else [])])


def other_interfaces(model: VrrpInstance) -> tuple[Track, ...]:
    """What track_interface names besides the instance's own interface, which is tracked anyway."""
    return tuple(track for track in model.track.interfaces if track.name != model.interface or track.weight)


def command_line(command: ScriptCommand) -> str:
    """``'/path/to/script' 'argument'``, as keepalived prints a command."""
    return " ".join(f"'{argument}'" for argument in command.arguments)


def _flag(value: bool, yes: str = "yes", no: str = "no") -> str:
    return yes if value else no


def _when(wall_ns: int) -> str:
    seconds, rest = divmod(wall_ns, NS_PER_S)
    stamp = time.strftime("%a %b %e %H:%M:%S", time.localtime(seconds))
    return f"{seconds}.{rest // NS_PER_US:06} ({stamp}.{rest // NS_PER_US:06} {time.strftime('%Y', time.localtime(seconds))})"


def _seconds(value_ns: int) -> int:
    return value_ns // NS_PER_S


def _identity(command: ScriptCommand) -> str:
    try:
        found = account(command)
    except CannotRun:
        found = None
    return "0:0" if found is None else f"{found[0]}:{found[1]}"


def _scripts(notify: NotifyCommands) -> Iterator[str]:
    named = (
        (notify.backup, "Backup"),
        (notify.master, "Master"),
        (notify.fault, "Fault"),
        (notify.stop, "Stop"),
        (notify.deleted, "Deleted"),
        (notify.any_state, "Generic"),
        (notify.master_rx_lower_priority, "Master rx lower pri"),
    )
    for command, name in named:
        if command is not None:
            yield f"   {name} state transition script = {command_line(command)}, uid:gid {_identity(command)}"


_SEPARATORS = {"files": ",", "processes": ",", "BFDs": ":"}


def _tracks(track: TrackSet) -> Iterator[str]:
    kinds: tuple[tuple[str, tuple[Track, ...]], ...] = (
        ("interfaces", track.interfaces),
        ("scripts", track.scripts),
        ("files", track.files),
        ("processes", track.processes),
        ("BFDs", track.bfds),
    )
    for word, lines in kinds:
        if lines:
            yield f"   Tracked {word} :"
            for line in lines:
                yield f"     {line.name}{_SEPARATORS.get(word, '')} weight {line.weight}{' reverse' if line.reverse else ''}"


class _Dump:
    """``wall_ns``: the wall clock at ``status["now_ns"]``."""

    def __init__(self, status: JsonObject, config: VrrpConfig, wall_ns: int, running: Mapping[str, int]) -> None:
        self._status = status
        self._running = running
        self._config = config
        self._epoch_ns = wall_ns - int(status["now_ns"])
        self._snapshots = {snapshot["name"]: snapshot for snapshot in status["instances"]}

    def lines(self) -> Iterator[str]:
        config = self._config
        yield "------< Global definitions >------"
        yield f" Network namespace = {config.daemon.net_namespace or '(default)'}"
        if config.daemon.instance:
            yield f" Instance name = {config.daemon.instance}"
        yield f" Router ID = {self._status['router_id']}"
        yield from self._static()
        yield "------< VRRP Topology >------"
        for model in config.instances:
            if model.name in self._snapshots:
                yield from self._instance(model, self._snapshots[model.name])
        if config.sync_groups:
            yield "------< VRRP Sync groups >------"
            states = {group["name"]: group["state"] for group in self._status["groups"]}
            for group in config.sync_groups:
                yield from self._group(group, states.get(group.name, "INIT"))
        yield from self._tracked()

    def _static(self) -> Iterator[str]:
        config = self._config
        if config.static_addresses:
            yield "------< Static Addresses >------"
            yield from (f"     {address_line(address, held=True)}" for address in config.static_addresses)
        if config.static_routes:
            yield "------< Static Routes >------"
            yield from (f"     {describe(route).removeprefix('route ')}" for route in config.static_routes)
        if config.static_rules:
            yield "------< Static Rules >------"
            yield from (f"     {describe(rule).removeprefix('rule ')}" for rule in config.static_rules)
        if config.track_groups:
            yield "------< Static Track groups >------"
            for group in config.track_groups:
                yield f" Static Track Group = {group.name}"
                yield "   VRRP member instances :"
                yield from (f"     {member}" for member in group.members)

    # ---- one instance -----------------------------------------------------------------------------------------------

    def _instance(self, model: VrrpInstance, now: JsonObject) -> Iterator[str]:
        backup = now["state"] == "BACKUP"
        yield f" VRRP Instance = {model.name}"
        yield f"   VRRP Version = {model.version}"
        if model.sync_group:
            yield f"   Sync group = {model.sync_group}"
        if int(model.family) == 6:
            yield "   Using Native IPv6"
        yield f"   State = {now['state']}"
        master = now["master"]
        if backup:
            yield f"   Master router = {master['address'] if master else ('::' if int(model.family) == 6 else '0.0.0.0')}"
            yield f"   Master priority = {master['priority'] if master else 0}"
            if model.version == 3:
                yield f"   Master advert int = {now['master_interval_ms'] / 1000:.2f} sec"
        if model.unicast:
            yield from ("   Flags:", "     Using unicast")
        else:
            yield "   Flags:" if now["virtual_interface"] else "   Flags: none"
        yield f"   Wantstate = {'MASTER' if now['wants_master'] else now['state']}"
        yield f"   Number of config faults = {sum(cause.startswith('no unicast_peer') for cause in now['faults'])}"
        yield f"   Number of interface and track script faults = {len(now['faults'])}"
        yield f"   Number of track scripts init = {self._undecided(model)}"
        yield f"   Last transition = {_when(self._epoch_ns + now['since_ns'])}"
        due_ns = now["timers"].get("master_down", now["timers"].get("advert"))
        yield f"   Read timeout = {'DISABLED' if due_ns is None else _when(self._epoch_ns + due_ns)}"
        yield f"   Master down timer = {now['master_down_us']} usecs"
        yield from self._link(model, now)
        yield from self._settings(model, now)
        yield from self._addresses(model, now)
        yield from _tracks(replace(model.track, interfaces=other_interfaces(model)))
        yield f"   Using smtp notification = {_flag(model.smtp_alert)}"
        yield f"   Notify deleted = {_flag(model.notify_deleted, 'Deleted', 'Fault')}"
        yield from _scripts(model.notify)
        yield f"   Notify priority changes = {_flag(model.notify_priority_changes, 'true', 'false')}"

    def _undecided(self, model: VrrpInstance) -> int:
        known = {script["name"] for script in self._status["scripts"] if script["up"] is not None}
        return sum(not track.weight and track.name not in known for track in model.track.scripts)

    def _link(self, model: VrrpInstance, now: JsonObject) -> Iterator[str]:
        link = now["virtual_interface"]
        base_transmits = _flag(model.vmac_xmit_base, "true", "false")
        if link and model.vmac is not None and not model.vmac.ipvlan:
            is_up = _flag(self._status["links"].get(link) == "ok", "true", "false")
            yield f"   Use VMAC, i/f name {link}, is_up = {is_up}, xmit_base = {base_transmits}"
        if model.vmac_addresses:
            yield "   Use VMAC for VIPs on other interfaces"
        if link and model.vmac is not None:
            kind = "ipvlan" if model.vmac.ipvlan else "vmac"
            yield f"   Interface = {link}, {kind} on {model.interface}{', xmit base i/f' if model.vmac_xmit_base else ''}"
        else:
            yield f"   Interface = {model.interface or 'not configured'}"
        if model.vrf:
            yield f"   VRF = {model.vrf}"
        if not model.track_primary:
            yield "   VRRP interface tracking disabled"
        if model.skip_check_adv_addr:
            yield "   Skip checking advert IP addresses"
        if model.strict:
            yield "   Enforcing strict VRRP compliance"
        yield f"   Using src_ip = {now['local_address'] or '(none)'}{' (from configuration)' if model.source is not None else ''}"
        if now["multicast_group"] is not None:
            yield f"   Multicast address {now['multicast_group']}"

    def _settings(self, model: VrrpInstance, now: JsonObject) -> Iterator[str]:
        garp = model.garp
        yield f"   Gratuitous ARP delay = {_seconds(garp.master_delay_ns)}"
        yield f"   Gratuitous ARP repeat = {garp.master_repeat}"
        yield f"   Gratuitous ARP refresh = {_seconds(garp.refresh_ns)}"
        yield f"   Gratuitous ARP refresh repeat = {garp.refresh_repeat}"
        yield f"   Gratuitous ARP lower priority delay = {_seconds(garp.lower_priority_delay_ns)}"
        yield f"   Gratuitous ARP lower priority repeat = {garp.lower_priority_repeat}"
        yield f"   Down timer adverts = {model.down_timer_adverts}"
        yield f"   Send advert after receive lower priority advert = {_flag(model.lower_prio_no_advert, 'false', 'true')}"
        yield f"   Send advert after receive higher priority advert = {_flag(now['last_word'], 'true', 'false')}"
        yield f"   Virtual Router ID = {model.vrid}"
        yield f"   Priority = {model.priority}"
        yield f"   Effective priority = {now['priority']}"
        yield f"   Total priority = {now['priority']}"
        unit, word = (NS_PER_S, "sec") if model.version == 2 else (NS_PER_MS, "milli-sec")
        yield f"   Advert interval = {model.advert_interval_ns // unit} {word}"
        if now["state"] == "BACKUP" and model.version == 3:
            yield f"   Master advert interval = {now['master_interval_ms']} milli-sec"
        yield f"   Accept = {_flag(model.accept, 'enabled', 'disabled')}"
        yield f"   Preempt = {_flag(model.nopreempt, 'disabled', 'enabled')}"
        if model.preempt_delay_ns:
            yield f"   Preempt delay = {model.preempt_delay_ns / NS_PER_S:g} secs"
        yield f"   Promote_secondaries = {_flag(model.promote_secondaries, 'enabled', 'disabled')}"
        kind = model.authentication.kind
        if kind is not AuthKind.NONE:
            yield f"   Authentication type = {_flag(kind is AuthKind.AH, 'IPSEC_AH', 'SIMPLE_PASSWORD')}"
            if kind is AuthKind.PASS:
                yield "   Password = (set)"
        elif model.version == 2:
            yield "   Authentication type = none"
        if model.receive_buffer_bytes:
            yield f"   Kernel rx buffer size = {model.receive_buffer_bytes}"

    def _addresses(self, model: VrrpInstance, now: JsonObject) -> Iterator[str]:
        held = set(now["held"])
        for head, lines in (
            (f"Virtual IP ({len(model.addresses)}):", model.addresses),
            ("Virtual IP Excluded :", model.excluded_addresses),
        ):
            if lines:
                yield f"   {head}"
                for line in lines:
                    text = str(line.address)
                    yield f"     {address_line(line, held=text in held, device=now['devices'].get(text, ''))}"
        if model.unicast:
            if model.unicast_ttl is not None or int(model.family) == 4:
                yield f"   Unicast TTL = {255 if model.unicast_ttl is None else model.unicast_ttl}"
            yield f"   Check unicast src : {_flag(model.check_unicast_source)}"
            yield "   Unicast Peer :"
            for peer in model.unicast_peers:
                yield f"     {peer.address} min_ttl {peer.min_ttl or 0} max_ttl {255 if peer.max_ttl is None else peer.max_ttl}"
            old = {None: "no", True: "config", False: "never"}[model.old_unicast_checksum]
            yield f"   Unicast checksum compatibility = {'auto' if now['old_checksum'] and old == 'no' else old}"
        if model.routes:
            yield "   Virtual Routes :"
            yield from (f"     {describe(route).removeprefix('route ')}" for route in model.routes)
        if model.rules:
            yield "   Virtual Rules :"
            yield from (f"     {describe(rule).removeprefix('rule ')}" for rule in model.rules)

    # ---- groups and what is tracked ----------------------------------------------------------------------------------

    def _group(self, group: SyncGroup, state: str) -> Iterator[str]:
        members = [self._snapshots[name] for name in group.members if name in self._snapshots]
        faults, starting = (sum(member["state"] == word for member in members) for word in ("FAULT", "INIT"))
        yield f" VRRP Sync Group = {group.name}, {state}"
        yield f"   Num member fault {faults}, num member init {starting}"
        yield "   VRRP member instances :"
        yield from (f"     {name}" for name in group.members)
        if group.tracking_weight:
            yield "   sync group tracking weight set"
        yield f"   Using smtp notification = {_flag(group.smtp_alert)}"
        if group.notify_priority_changes is not None:
            yield f"   Notify priority changes = {_flag(group.notify_priority_changes)}"
        yield from _tracks(group.track)
        yield from _scripts(group.notify)

    def _tracked(self) -> Iterator[str]:
        config = self._config
        if config.scripts:
            yield "------< VRRP Scripts >------"
            for script in config.scripts:
                yield from self._script(script)
        if config.track_files:
            yield "------< VRRP Track files >------"
            for file in config.track_files:
                yield from self._file(file)
        if config.track_processes:
            yield "------< VRRP Track processes >------"
            for process in config.track_processes:
                yield from self._process(process)
        bfds = [bfd for bfd in config.bfd_instances if bfd.for_vrrp]
        if bfds:
            yield "------< VRRP Track BFDs >------"
            for bfd in bfds:
                yield from self._bfd(bfd)

    def _users(self, kind: str, name: str) -> Iterator[str]:
        groups = {group.name: getattr(group.track, kind) for group in self._config.sync_groups}
        for model in self._config.instances:
            for track in (*getattr(model.track, kind), *groups.get(model.sync_group, ())):
                if track.name == name:
                    yield f"     {model.name}, weight {track.weight}{' reverse' if track.reverse else ''}"

    def _value(self, kind: str, name: str) -> int | None:
        return next((entry["value"] for entry in self._status["tracked"] if (entry["kind"], entry["name"]) == (kind, name)), None)

    def _script(self, script: VrrpScript) -> Iterator[str]:
        up = next((entry["up"] for entry in self._status["scripts"] if entry["name"] == script.name), None)
        yield f" VRRP Script = {script.name}"
        yield f"   Command = {command_line(script.command)}"
        yield f"   Interval = {_seconds(script.interval_ns)} sec"
        yield f"   Timeout = {_seconds(script.timeout_ns)} sec"
        yield f"   Weight = {script.weight}{' reverse' if script.reverse else ''}"
        yield f"   Rise = {script.rise}"
        yield f"   Fall = {script.fall}"
        yield f"   Result = {script.rise + script.fall - 1 if up else 0}"
        yield "   Insecure = no"
        yield f"   Init state = {'INIT' if up is None else 'INIT/FAILED' if script.init_fail and not up else 'unknown'}"
        yield f"   Status = {'GOOD' if up else 'BAD'}"
        yield f"   Script uid:gid = {_identity(script.command)}"
        yield "   VRRP instances :"
        yield from self._users("scripts", script.name)

    def _file(self, file: TrackFile) -> Iterator[str]:
        yield f" Track file = {file.name}"
        yield f"   File = {file.path}"
        yield f"   Status = {self._value('file', file.name) or 0}"
        yield f"   Weight = {file.weight}{' reverse' if file.reverse else ''}"
        yield "   Tracking instances :"
        yield from self._users("files", file.name)

    def _process(self, process: TrackProcess) -> Iterator[str]:
        yield f" VRRP Track process = {process.name}"
        yield f"   Process = {process.process}"
        yield f"   Min processes = {process.quorum}"
        if process.quorum_max is not None:
            yield f"   Max processes = {process.quorum_max}"
        yield f"   Current processes = {self._running.get(process.name, 0)}"
        yield f"   Have quorum = {_flag(bool(self._value('process', process.name)), 'true', 'false')}"
        yield f"   Weight = {process.weight}{' reverse' if process.reverse else ''}"
        yield f"   Terminate delay = {process.terminate_delay_ns / NS_PER_S:f}s"
        yield f"   Fork delay = {process.fork_delay_ns / NS_PER_S:f}s"
        yield f"   Full command = {_flag(process.full_command, 'true', 'false')}"
        yield "   Tracking instances :"
        yield from self._users("processes", process.name)

    def _bfd(self, bfd: BfdInstance) -> Iterator[str]:
        yield f" VRRP Track BFD = {bfd.name}"
        yield f"   Weight = {bfd.weight}{' reverse' if bfd.reverse else ''}"
        yield f"   Bfd is {_flag(bool(self._value('bfd', bfd.name)), 'up', 'down')}"
        yield "   Tracking VRRP instances :"
        yield from self._users("bfds", bfd.name)


def keepalived_data(status: JsonObject, config: VrrpConfig, wall_ns: int, running: Mapping[str, int]) -> str:
    """The content of keepalived.data. ``status``: of the vrrp process; ``wall_ns``: the wall clock now; ``running``: how many processes
    of each vrrp_track_process there are."""
    return "".join(f"{line}\n" for line in _Dump(status, config, wall_ns, running).lines())


def keepalived_stats(status: JsonObject) -> str:
    """The content of keepalived.stats."""
    return "".join(f"{line}\n" for snapshot in status["instances"] for line in _statistics(snapshot))


def _statistics(snapshot: JsonObject) -> Iterator[str]:
    counters, rejected = snapshot["counters"], snapshot["rejected"]
    yield f"VRRP Instance: {snapshot['name']}"
    yield "  Advertisements:"
    yield f"    Received: {counters['adverts_received']}"
    yield f"    Sent: {counters['adverts_sent']}"
    yield f"  Became master: {counters['become_master']}"
    yield f"  Released master: {counters['release_master']}"
    yield "  Packet Errors:"
    yield f"    Length: {rejected.get('length', 0)}"
    yield f"    TTL: {rejected.get('ttl', 0)}"
    yield f"    Invalid Type: {rejected.get('type', 0)}"
    yield f"    Advertisement Interval: {rejected.get('interval', 0)}"
    yield f"    Address List: {counters['addresses_differ']}"
    yield "  Authentication Errors:"
    yield "    Invalid Type: 0"
    yield f"    Type Mismatch: {rejected.get('auth_type', 0)}"
    yield f"    Failure: {rejected.get('password', 0)}"
    yield "  Priority Zero:"
    yield f"    Received: {counters['priority_zero_received']}"
    yield f"    Sent: {counters['priority_zero_sent']}"
