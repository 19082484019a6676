"""keepalived's JSON dump, so that its exporters and scripts go on working."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from base.channel import JsonObject
from vrrp.config.model.addresses import VirtualAddress
from vrrp.config.model.common import ScriptCommand
from vrrp.config.model.configuration import VrrpConfig
from vrrp.config.model.instance import AuthKind, VrrpInstance
from vrrp.config.model.tracking import TrackProcess
from vrrp.dump_text import address_line, command_line, other_interfaces
from vrrp.system.routes import describe

_STATES = {"INIT": 0, "BACKUP": 1, "MASTER": 2, "FAULT": 3}

_AUTH_TYPES = {AuthKind.NONE: 0, AuthKind.PASS: 1, AuthKind.AH: 2}

_HMAC_COUNTERS = {
    "missing": "hmac_missing",
    "malformed": "hmac_malformed",
    "unknown_key": "hmac_unknown_key",
    "invalid_hmac": "hmac_invalid",
    "stale": "hmac_stale",
    "replay": "hmac_replay",
}
"""keepalived's word to ours."""


def _flag(value: bool) -> int:
    return int(value)


def _script(command: ScriptCommand | None) -> str | None:
    return None if command is None else command_line(command)


def _data(snapshot: JsonObject, model: VrrpInstance, config: VrrpConfig, epoch_ns: int) -> JsonObject:
    state = _STATES[snapshot["state"]]
    held, devices = set(snapshot["held"]), snapshot["devices"]

    def lines(addresses: tuple[VirtualAddress, ...]) -> list[str]:
        texts = [(line, str(line.address)) for line in addresses]
        return [address_line(line, held=text in held, device=devices.get(text, "")) for line, text in texts]

    notify, garp = model.notify, model.garp
    scripts = {script.name: script for script in config.scripts}
    found: JsonObject = {
        "iname": model.name,
        "dont_track_primary": _flag(not model.track_primary),
        "skip_check_adv_addr": _flag(model.skip_check_adv_addr),
        "strict_mode": _flag(model.strict),
        "vmac_ifname": snapshot["virtual_interface"] or "",
        "ifp_ifname": snapshot["virtual_interface"] or model.interface,
        "master_priority": (snapshot["master"] or {}).get("priority", 0),
        "last_transition": (epoch_ns + snapshot["since_ns"]) / 1e9,
        "garp_delay": garp.master_delay_ns / 1e9,
        "garp_refresh": garp.refresh_ns // 10**9,
        "garp_rep": garp.master_repeat,
        "garp_refresh_rep": garp.refresh_repeat,
        "garp_lower_prio_delay": garp.lower_priority_delay_ns // 10**9,
        "garp_lower_prio_rep": garp.lower_priority_repeat,
        "lower_prio_no_advert": _flag(model.lower_prio_no_advert),
        "higher_prio_send_advert": _flag(snapshot["last_word"]),
        "vrid": model.vrid,
        "base_priority": snapshot["base_priority"],
        "effective_priority": snapshot["priority"],
        "vipset": bool(held),
        "promote_secondaries": model.promote_secondaries,
        "adver_int": snapshot["advert_interval_ms"] / 1000,
        "master_adver_int": snapshot["master_interval_ms"] / 1000,
        "accept": _flag(model.accept),
        "nopreempt": model.nopreempt,
        "preempt_delay": model.preempt_delay_ns // 10**9,
        "state": state,
        "wantstate": 2 if snapshot["wants_master"] else state,
        "version": model.version,
        "smtp_alert": model.smtp_alert,
        "notify_deleted": model.notify_deleted,
    }
    optional: JsonObject = {
        "script_backup": _script(notify.backup),
        "script_master": _script(notify.master),
        "script_fault": _script(notify.fault),
        "script_stop": _script(notify.stop),
        "script_deleted": _script(notify.deleted),
        "script": _script(notify.any_state),
        "script_master_rx_lower_pri": _script(notify.master_rx_lower_priority),
        "vips": lines(model.addresses),
        "evips": lines(model.excluded_addresses),
        "vroutes": [describe(route).removeprefix("route ") for route in model.routes],
        "vrules": [describe(rule).removeprefix("rule ") for rule in model.rules],
        "track_ifp": [track.name for track in other_interfaces(model)],
        "track_script": [_script(scripts[track.name].command) for track in model.track.scripts if track.name in scripts],
    }
    found |= {name: value for name, value in optional.items() if value}
    return {**found, "auth_type": _AUTH_TYPES[model.authentication.kind]}


def _instance(snapshot: JsonObject, model: VrrpInstance, config: VrrpConfig, epoch_ns: int) -> JsonObject:
    counters = snapshot["counters"]
    return {
        "data": _data(snapshot, model, config, epoch_ns),
        "stats": {
            "advert_rcvd": counters["adverts_received"],
            "advert_sent": counters["adverts_sent"],
            "become_master": counters["become_master"],
            "release_master": counters["release_master"],
            "packet_len_err": snapshot["rejected"].get("length", 0),
            "advert_interval_err": snapshot["rejected"].get("interval", 0),
            "ip_ttl_err": snapshot["rejected"].get("ttl", 0),
            "invalid_type_rcvd": snapshot["rejected"].get("type", 0),
            "addr_list_err": counters["addresses_differ"],
            "invalid_authtype": 0,
            "authtype_mismatch": snapshot["rejected"].get("auth_type", 0),
            "auth_failure": snapshot["rejected"].get("password", 0),
            "pri_zero_rcvd": counters["priority_zero_received"],
            "pri_zero_sent": counters["priority_zero_sent"],
            **{f"auth_ext_{word}": snapshot["rejected"].get(reason, 0) for word, reason in _HMAC_COUNTERS.items()},
        },
    }


def keepalived_json(status: JsonObject, config: VrrpConfig, wall_ns: int, running: Mapping[str, int]) -> Any:
    """The content of keepalived.json: a bare list (json_version 1) or an object (2). A password is left out.

    ``status``: of the vrrp process; ``wall_ns``: the wall clock now (keepalived gives times as seconds since 1970);
    ``running``: how many processes of each vrrp_track_process there are.
    """
    epoch_ns = wall_ns - int(status["now_ns"])
    models = {model.name: model for model in config.instances}
    found = [s for s in status["instances"] if s["name"] in models]
    instances = [_instance(snapshot, models[snapshot["name"]], config, epoch_ns) for snapshot in found]
    if config.global_defs.json_version == 1:
        return instances
    return {"vrrp": instances, "track_process": [_process(process, status, running) for process in config.track_processes]}


def _process(process: TrackProcess, status: JsonObject, running: Mapping[str, int]) -> JsonObject:
    up = any(bool(t["value"]) for t in status["tracked"] if (t["kind"], t["name"]) == ("process", process.name))
    found: JsonObject = {"process": process.name}
    if process.parameters:
        found["parameters"] = " ".join(process.parameters)
    found |= {"param_match": process.match.value, "min_processes": process.quorum}
    if process.quorum_max is not None:
        found["max_processes"] = process.quorum_max
    return {
        **found,
        "current_processes": running.get(process.name, 0),
        "have_quorum": up,
        "weight": -process.weight if process.reverse else process.weight,
        "terminate_delay": process.terminate_delay_ns / 1e9,
        "fork_delay": process.fork_delay_ns / 1e9,
        "full_command": process.full_command,
    }


def without_secrets(value: Any) -> Any:
    """A configuration object as JSON values; fields that are kept out of repr (passwords, keys) show only whether they are set."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: without_secrets(getattr(value, field.name))
            if field.repr or not isinstance(getattr(value, field.name), (str, bytes))
            else ("(set)" if getattr(value, field.name) else "")
            for field in dataclasses.fields(value)
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    if isinstance(value, dict):
        return {str(key): without_secrets(item) for key, item in value.items()}
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)
