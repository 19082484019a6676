"""What the watcher's shell and the recorder say to each other, one JSON object a line.

From the shell:

- ``{"op":"restore","incarnation": n|null}``: first message of a run; asks what must be known at start and opens run ``n``
- ``{"op":"persist","rows":[[kind, {field: value}]…],"barrier": n|null,"wall_ns","boottime_ns"}``: one transaction
- ``{"op":"packets","incident","packets":[{"interface","direction","link_type","at_ns","data": hex}…],"wall_ns","boottime_ns"}``:
  evidence bytes
- ``{"op":"journal","incident","core","part","lines": text,"wall_ns","boottime_ns"}``: a part of a journal dump
- any of these three may carry ``"session"`` and ``"seq"`` (watchdog/record/link.py): then it is written exactly once
- ``{"op":"health"}``: how is the record?
- ``{"op":"check"}``: read the file through for damage now (a reader found some)
- ``{"op":"goodbye"}``: orderly end; recorded, answered, then the recorder exits

From the recorder:

- ``{"ready": {"session","seq"}}``: first; the last numbered message that is on the disk
- ``{"written": seq}``: numbered messages up to this one are on the disk
- ``{"restored": {…}}``: see ``Restored``
- ``{"persisted": n,"took_ms"}``: everything up to barrier n is on the disk (after fsync)
- ``{"trouble": {"code","detail","remedy","queued_rows"}}``: nothing can be written now; it is kept in memory and tried again
- ``{"recovered": {"lost_rows": {table: n}}}``: writing works again; what did not fit in memory meanwhile
- ``{"set_aside": {"path","why","salvaged": {table: n}}}``: a damaged database was renamed, a new one is in use
- ``{"space": {"low","free_bytes"}}``: the disk of the state directory has become nearly full, or has room again
- ``{"rejected": {"why","barrier"}}``: a message that could not be understood; its barrier is never answered
- ``{"health": {…}}``, ``{"goodbye": true}``: answers
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from base.channel import JsonObject
from watchdog.judgement.commands import Persist
from watchdog.judgement.events import OpenFence, OpenIncident


def persist_message(command: Persist, wall_ns: int, boottime_ns: int) -> JsonObject:
    """A Persist command as the recorder takes it."""
    return {
        "op": "persist",
        "rows": [[row.kind.value, dict(row.fields)] for row in command.rows],
        "barrier": command.barrier,
        "wall_ns": wall_ns,
        "boottime_ns": boottime_ns,
    }


@dataclass(frozen=True, slots=True)
class Restored:
    """What a new run must know; the fields of the Started event that only the record has.

    ``incarnation`` is this run's number (at least the asked one, and over every recorded one). ``same_boot``:
    the last recorded run was in this boot. ``clean_stop``: the last run said goodbye (True if there was
    none). ``last_incident``: the highest number in an incident id. ``durable`` False: the run
    could not be written down (``problem`` says why). ``record_lost`` is "" or why earlier facts are missing:
    then ``latched`` is True, because the fence budget is unknown.
    """

    incarnation: int
    same_boot: bool
    clean_stop: bool
    quarantined: bool
    latched: bool
    seen_peer: bool
    open_fences: tuple[OpenFence, ...]
    recent_fence_wall_ns: tuple[int, ...]
    last_incident: int
    facts: dict[str, Any]
    durable: bool = True
    problem: str = ""
    record_lost: str = ""
    open_incidents: tuple[OpenIncident, ...] = ()

    def to_message(self) -> JsonObject:
        """As the recorder sends it."""
        return {
            "restored": {
                "incarnation": self.incarnation,
                "same_boot": self.same_boot,
                "clean_stop": self.clean_stop,
                "quarantined": self.quarantined,
                "latched": self.latched,
                "seen_peer": self.seen_peer,
                "open_fences": [[f.order_id, f.target, f.level, f.intent_wall_ns] for f in self.open_fences],
                "recent_fence_wall_ns": list(self.recent_fence_wall_ns),
                "last_incident": self.last_incident,
                "facts": self.facts,
                "durable": self.durable,
                "problem": self.problem,
                "record_lost": self.record_lost,
                "open_incidents": [[i.id, i.scope, i.verdict, i.summary, i.paged] for i in self.open_incidents],
            }
        }

    @staticmethod
    def from_message(body: JsonObject) -> Restored:
        """From the object under ``restored``."""
        return Restored(
            incarnation=int(body["incarnation"]),
            same_boot=bool(body["same_boot"]),
            clean_stop=bool(body["clean_stop"]),
            quarantined=bool(body["quarantined"]),
            latched=bool(body["latched"]),
            seen_peer=bool(body["seen_peer"]),
            open_fences=tuple(OpenFence(str(f[0]), str(f[1]), int(f[2]), int(f[3])) for f in body["open_fences"]),
            recent_fence_wall_ns=tuple(int(v) for v in body["recent_fence_wall_ns"]),
            last_incident=int(body["last_incident"]),
            facts=dict(body["facts"]),
            durable=bool(body["durable"]),
            problem=str(body["problem"]),
            record_lost=str(body["record_lost"]),
            open_incidents=tuple(OpenIncident(str(i[0]), str(i[1]), str(i[2]), str(i[3]), bool(i[4])) for i in body["open_incidents"]),
        )
