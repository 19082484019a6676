"""PURE: which of the two nodes is fitter to serve a group, as both say it in their frames; and in words, for a person."""

from __future__ import annotations

from dataclasses import dataclass

from base.core import NS_PER_MS
from watchdog.frames.heartbeat import GroupReport, GroupState, NodeFlags
from watchdog.judgement.arbitration import Defect, defects_of
from watchdog.judgement.group_view import GateReason, GroupView
from watchdog.judgement.state import WatcherState
from watchdog.judgement.verdict import Fitness

PORT = Defect.SEGMENT_SILENT | Defect.REFERENCES_SILENT | Defect.ISOLATED | Defect.NO_CARRIER
"""What a group's interface can have."""
DEAF_INTERVALS = 4
"""A standby that hears no advert for so many intervals does not hear its master."""


def peer_is_fitter(state: WatcherState, now_ns: int, view: GroupView) -> bool:
    """Whether the peer's interface is the better one for this group, as both nodes say in their frames."""
    report = view.fresh_report(now_ns)
    if report is None or not state.contact.on_a_path(now_ns):
        return False
    return state.group_defects(now_ns, view) & PORT > defects_of(report.health) & PORT


def peer_is_less_fit(state: WatcherState, now_ns: int, view: GroupView) -> bool:
    """Whether the peer's interface is the worse one, or its VRRP daemon is gone."""
    report = view.fresh_report(now_ns)
    if report is None or not state.contact.on_a_path(now_ns):
        return False
    counted = PORT | Defect.DAEMON_DOWN
    return defects_of(report.health) & counted > state.group_defects(now_ns, view) & counted


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether the right node serves a group, and in words what is wrong with the other or with the owner."""

    fitness: Fitness
    words: str = ""


def fitness_of(state: WatcherState, now_ns: int, view: GroupView) -> Finding:
    """Judged only while the peer is heard; without its report nobody can compare."""
    report = view.fresh_report(now_ns)
    if report is None or not state.contact.on_a_path(now_ns) or not (view.own or report.held):
        return Finding(Fitness.GOOD)
    mine, theirs = state.group_defects(now_ns, view) & PORT, defects_of(report.health) & PORT
    if mine != theirs and (view.own if mine > theirs else report.held):
        return Finding(Fitness.UNFIT, describe(state, now_ns, view) if mine > theirs else describe_peer(state, view, report))
    if view.own and report.held:
        return Finding(Fitness.GOOD)
    words = _standby_missing_there(state, now_ns, view, report) if view.own else _standby_missing_here(state, now_ns, view)
    return Finding(Fitness.ALONE, f"no standby for {view.settings.name}: {words}") if words else Finding(Fitness.GOOD)


def _standby_missing_there(state: WatcherState, now_ns: int, view: GroupView, report: GroupReport) -> str:
    """Why the peer could not take over, "" if it could or if somebody planned it so."""
    peer, found = state.settings.peer.name, defects_of(report.health)
    if state.contact.flags() & (NodeFlags.MAINTENANCE | NodeFlags.STOPPING):
        return ""
    if found & (PORT | Defect.DAEMON_DOWN | Defect.QUARANTINED):
        return describe_peer(state, view, report)
    if report.state is GroupState.FAULT:  # a node that holds its daemon says itself why
        return f"the VRRP daemon of {peer} cannot become master (fault)"
    long = now_ns - view.owned_since_ns > DEAF_INTERVALS * view.settings.advert_interval_ms * NS_PER_MS
    sent = view.sent is not None and view.sent.is_fresh(now_ns) and long
    if sent and not _arrives(report.advert_heard_age_ms, view):
        return f"adverts of {state.settings.self_name} do not reach {peer} (a firewall that drops protocol 112, or the switch)"
    return ""


def _standby_missing_here(state: WatcherState, now_ns: int, view: GroupView) -> str:
    me, found = state.settings.self_name, state.group_defects(now_ns, view)
    if state.in_maintenance(now_ns) or state.stopping or view.gate.why is GateReason.HANDOVER:
        return ""
    if found & PORT:
        return describe(state, now_ns, view)
    if found & (Defect.DAEMON_DOWN | Defect.QUARANTINED):
        return f"{me}: {defect_words(found)}"
    if view.local_state is GroupState.FAULT:
        return f"the VRRP daemon of {me} cannot become master (fault)"
    report = view.fresh_report(now_ns)
    sent = report is not None and _arrives(report.advert_sent_age_ms, view)
    if sent and not _arrives(view.heard.age_ms(now_ns) if view.heard else None, view):
        return f"adverts of {state.settings.peer.name} do not reach {me} (a firewall that drops protocol 112, or the switch)"
    return ""


def _arrives(age_ms: int | None, view: GroupView) -> bool:
    return age_ms is not None and age_ms <= DEAF_INTERVALS * view.settings.advert_interval_ms


def describe(state: WatcherState, now_ns: int, view: GroupView) -> str:
    """What is wrong with this node's side of the group, for a person: the port by its name."""
    found = state.group_defects(now_ns, view)
    surroundings, parts = state.surroundings, []
    for interface in state.interfaces_of(view):
        if not surroundings.carrier(interface):
            parts.append(f"{interface} has no carrier")
        elif surroundings.suspect(now_ns, (interface,)):
            names = ", ".join(r.settings.name for r in surroundings.on_interfaces((interface,)))
            parts.append(f"no answer from {names} on {interface}: check the port, the cable and the switch behind {interface}")
        elif surroundings.segment_silent(now_ns, (interface,)):
            parts.append(f"nothing arrives on {interface}")
    if not parts and found & PORT:
        parts.append(defect_words(found & PORT))
    return "; ".join(parts)


def describe_peer(state: WatcherState, view: GroupView, report: GroupReport) -> str:
    """What the peer says is wrong with its side of the group."""
    return f"{view.settings.interface} of {state.settings.peer.name}: {defect_words(defects_of(report.health))}"


def defect_words(found: Defect) -> str:
    """The defects in words, gravest first."""
    return ", ".join(words for defect, words in _WORDS if found & defect)


_WORDS = (
    (Defect.QUARANTINED, "quarantined"),
    (Defect.NO_CARRIER, "no carrier"),
    (Defect.ISOLATED, "cut off"),
    (Defect.DAEMON_DOWN, "the VRRP daemon is down or hangs"),
    (Defect.REFERENCES_SILENT, "no reference answers (check the port, the cable and the switch behind it)"),
    (Defect.SEGMENT_SILENT, "nothing arrives"),
    (Defect.STOPPING, "its watcher stops"),
    (Defect.MAINTENANCE, "in maintenance"),
)
