"""keepalived's JSON dump, so that its exporters and scripts go on working."""

from __future__ import annotations

import dataclasses
from typing import Any

from base.channel import JsonObject

_STATES = {"INIT": 0, "BACKUP": 1, "MASTER": 2, "FAULT": 3}

_HMAC_COUNTERS = {
    "missing": "hmac_missing",
    "malformed": "hmac_malformed",
    "unknown_key": "hmac_unknown_key",
    "invalid_hmac": "hmac_invalid",
    "stale": "hmac_stale",
    "replay": "hmac_replay",
}
"""keepalived's word to ours."""


def _instance(snapshot: JsonObject, now_ns: int) -> JsonObject:
    counters = snapshot["counters"]
    state = _STATES[snapshot["state"]]
    return {
        "data": {
            "iname": snapshot["name"],
            "ifp_ifname": snapshot["interface"],
            "state": state,
            "wantstate": 2 if snapshot["wants_master"] else state,
            "version": snapshot["version"],
            "vrid": snapshot["vrid"],
            "base_priority": snapshot["base_priority"],
            "effective_priority": snapshot["priority"],
            "adver_int": snapshot["advert_interval_ms"] / 1000,
            "vipset": bool(snapshot["held"]),
            "vips": snapshot["addresses"],
            "evips": snapshot["excluded_addresses"],
            "master_priority": (snapshot["master"] or {}).get("priority", 0),
            "last_transition": (now_ns - snapshot["since_ns"]) / 1e9,
        },
        "stats": {
            "advert_rcvd": counters["adverts_received"],
            "advert_sent": counters["adverts_sent"],
            "become_master": counters["become_master"],
            "release_master": counters["release_master"],
            "pri_zero_rcvd": counters["priority_zero_received"],
            "pri_zero_sent": counters["priority_zero_sent"],
            "authtype_mismatch": snapshot["rejected"].get("auth_type", 0),
            "auth_failure": snapshot["rejected"].get("password", 0),
            "packet_len_err": snapshot["rejected"].get("length", 0),
            "ip_ttl_err": snapshot["rejected"].get("ttl", 0),
            "invalid_type_rcvd": snapshot["rejected"].get("type", 0),
            "addr_list_err": counters["addresses_differ"],
            "advert_interval_err": snapshot["rejected"].get("interval", 0),
            **{f"auth_ext_{word}": snapshot["rejected"].get(reason, 0) for word, reason in _HMAC_COUNTERS.items()},
        },
    }


def keepalived_json(status: JsonObject, version: int) -> Any:
    """The content of keepalived.json: a bare list (version 1) or an object (version 2)."""
    instances = [_instance(snapshot, status["now_ns"]) for snapshot in status["instances"]]
    return instances if version == 1 else {"vrrp": instances, "track_process": []}


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
