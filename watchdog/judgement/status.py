"""PURE: the status document: what ``brainctl status --json`` prints and the status page shows.

Top level: ``started``, ``cluster``, ``self`` and ``peer`` (name, rank, epoch, flags, health …), ``mode``, ``settled``, ``pair`` and each of
``groups`` (verdict, stage, reason, evidence with ages, owner as seen, gate, yield), ``paths``, ``surroundings`` (daemon, carriers,
references), ``fence``, ``witness`` (None without one), ``incidents``, ``quarantined``, ``maintenance_ms``, ``recorder_up``, ``runner_up``,
``failures``. Ages are in ms; a key is never removed while its meaning holds.
"""

from __future__ import annotations

from base.core import NS_PER_MS, JsonValue
from watchdog.frames.heartbeat import GroupReport, NodeFlags
from watchdog.judgement.arbitration import health
from watchdog.judgement.device_watch import DeviceWatch
from watchdog.judgement.evidence import Owner
from watchdog.judgement.fence_control import FenceControl
from watchdog.judgement.group_view import Advert, GroupView
from watchdog.judgement.self_fencing import SelfFencing
from watchdog.judgement.stages import Track
from watchdog.judgement.state import WatcherState
from watchdog.judgement.terms import differences
from watchdog.judgement.verdict import PAIR_SCOPE

SCHEMA_VERSION = 1


def status_document(
    state: WatcherState, fence: FenceControl, devices: DeviceWatch, self_fence: SelfFencing, now_ns: int
) -> dict[str, JsonValue]:
    """The whole document as of ``now_ns``."""
    groups: list[JsonValue] = [group_status(state, view, now_ns) for view in state.groups.values()]
    incidents: list[JsonValue] = [incident.to_json(now_ns) for incident in state.incidents.open.values()]
    maintenance = state.maintenance_until_ns
    return {
        "schema": SCHEMA_VERSION,
        "started": True,
        "cluster": state.settings.cluster,
        "mode": state.mode.value,
        "uptime_ms": (now_ns - state.started_ns) // NS_PER_MS,
        "settled": state.settled(now_ns) and state.trusted(now_ns),
        "self": _self(state, now_ns),
        "peer": _peer(state, now_ns),
        "pair": {**_track(state.pair, now_ns), "evidence": state.ledger.to_json(now_ns, PAIR_SCOPE)},
        "groups": groups,
        "paths": state.contact.to_json(now_ns),
        "surroundings": state.surroundings.to_json(now_ns),
        "isolation": state.isolation(now_ns).value,
        "fence": {**fence.to_json(now_ns), "devices": devices.to_json(now_ns)},
        "self_fence": self_fence.to_json(now_ns),
        "witness": state.witness.to_json(now_ns),
        "incidents": incidents,
        "episode": state.incidents.episodes.number,
        "quarantined": state.quarantined,
        "suspect": state.suspect,
        "differences": list(_differences(state)),
        "maintenance_ms": None if maintenance is None else max(0, maintenance - now_ns) // NS_PER_MS,
        "recorder_up": state.recorder_up,
        "runner_up": state.runner_up,
        "failures": dict(sorted(state.failures.items())),
    }


def owner_seen(state: WatcherState, view: GroupView, now_ns: int) -> list[str]:
    """Everybody who owns the group as far as this node can see: node names and foreign MACs."""
    owners = [state.settings.self_name] if view.own else []
    if state.ledger.kinds(now_ns, view.scope, Owner.PEER):
        owners.append(state.settings.peer.name)
    owners += [f.source.split(" ")[0] for f in state.ledger.fresh(now_ns, view.scope, Owner.OTHER)]
    return owners


def group_status(state: WatcherState, view: GroupView, now_ns: int) -> dict[str, JsonValue]:
    """One group."""
    owners: list[JsonValue] = list(owner_seen(state, view, now_ns))
    vips: list[JsonValue] = list(view.settings.vips)
    held: list[JsonValue] = [*sorted(at.address for at in view.held)]
    return {
        "group": view.scope,
        "name": view.settings.name,
        "interface": view.settings.interface,
        "vips": vips,
        "owners": owners,
        **_track(view.track, now_ns),
        "evidence": state.ledger.to_json(now_ns, view.scope),
        "held": held,
        "priority": view.priority(),
        "state": view.state(now_ns, state.surroundings.daemon).name.lower(),
        "keeps": state.keeps(now_ns, view),
        "gate": {
            "state": view.gate.state.value if view.gate.state else "untouched",
            "why": view.gate.why.value if view.gate.why else "",
            "reason": view.gate.reason,
            "since_ms": (now_ns - view.gate.since_ns) // NS_PER_MS if view.gate.state else None,
            "obedience": view.trust.obedience.value,
            "obedience_detail": view.trust.detail,
            "fails": view.trust.fails,
        },
        "advert_sent": _advert(view.sent, now_ns),
        "advert_heard": _advert(view.heard, now_ns),
        "advert_problem": view.problem,
        "peer_report": _report(view.report, now_ns - view.report_ns),
        "asking": {
            "request": view.asking.request,
            "purpose": view.asking.purpose.value if view.asking.purpose else "",
            "answer": view.asking.answer.name.lower(),
            "failed": view.asking.failed,
        },
        "yielding": {"request": view.yielding.request, "answer": view.yielding.answer.name.lower()},
        "incident": state.incidents.id_of(view.scope),
    }


def _track(track: Track, now_ns: int) -> dict[str, JsonValue]:
    return {
        "verdict": track.verdict.value,
        "stage": track.stage.value,
        "reason": track.reason,
        "since_ms": (now_ns - track.since_ns) // NS_PER_MS,
    }


def _advert(advert: Advert | None, now_ns: int) -> dict[str, JsonValue] | None:
    if advert is None:
        return None
    return {
        "age_ms": advert.age_ms(now_ns),
        "priority": advert.priority,
        "source": advert.source_ip,
        "interval_ms": advert.interval_ms,
        "fresh": advert.is_fresh(now_ns),
    }


def _report(report: GroupReport | None, age_ns: int) -> dict[str, JsonValue] | None:
    if report is None:
        return None
    return {
        "age_ms": age_ns // NS_PER_MS,
        "state": report.state.name.lower(),
        "held": report.held,
        "priority": report.priority,
        "advert_sent_age_ms": report.advert_sent_age_ms,
        "advert_heard_age_ms": report.advert_heard_age_ms,
        "advert_heard_priority": report.advert_heard_priority,
    }


def _flag_names(flags: NodeFlags) -> list[JsonValue]:
    return [flag.name.lower() for flag in NodeFlags if flag in flags and flag.name and flag is not NodeFlags.NONE]


def _self(state: WatcherState, now_ns: int) -> dict[str, JsonValue]:
    return {
        "name": state.settings.self_name,
        "rank": state.settings.me.rank,
        "epoch": state.started.incarnation,
        "boot": state.started.boot.hex(),
        "health": health(state.health_facts(now_ns)),
        "flags": _flag_names(state.flags(now_ns)),
    }


def _differences(state: WatcherState) -> list[JsonValue]:
    """What the nodes do not agree on, with both values."""
    theirs = state.contact.turns.peer_terms
    if theirs is None:
        return []
    return [*differences(state.contact.turns.terms, theirs, state.settings.self_name, state.settings.peer.name)]


def _peer(state: WatcherState, now_ns: int) -> dict[str, JsonValue]:
    last, heard = state.contact.last, state.contact.last_ns
    macs: list[JsonValue] = list(state.neighbours.peer_macs())
    paths: list[JsonValue] = list(state.contact.heard_paths())
    return {
        "name": state.settings.peer.name,
        "rank": state.settings.peer.rank,
        "epoch": last.epoch if last else None,
        "boot": last.boot.hex() if last else None,
        "health": last.health if last else None,
        "flags": _flag_names(last.flags) if last else [],
        "heard_on": paths,
        "age_ms": None if heard is None else (now_ns - heard) // NS_PER_MS,
        "kernel_answered_ms": None if state.channels.last_ns is None else (now_ns - state.channels.last_ns) // NS_PER_MS,
        "macs": macs,
        "left": state.peer_left,
        "frame_version": state.contact.peer_version,
        "old_key": state.contact.peer_uses_second_key,
        "another_machine": state.contact.session.went_back,
        "proved_off": state.peer_proved_off,
    }
