"""What a new run of braind learns from the record."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlite_utils import Database

from base.core import NS_PER_S, JsonValue
from watchdog.durable import MAX_INCARNATION
from watchdog.judgement.events import OpenFence, OpenIncident
from watchdog.record.messages import Restored

FINAL_FENCE_STATES = ("proved", "refuted", "unknown", "not_done")
"""States of a whole fence (level 0) after which nothing is open."""

MAX_OPEN_INCIDENTS = 512
BUDGET_WINDOW_NS = 3_600 * NS_PER_S
_EPISODE = re.compile(r"^I(\d{1,15})-|(\d{1,15})$")
_FALSE_WORDS = ("", "0", "no", "off", "false", "none", "open", "cleared")


def is_set(value: JsonValue) -> bool:
    """Whether a durable fact holds: false values and the words for them do not."""
    if isinstance(value, str):
        return value.strip().lower() not in _FALSE_WORDS
    return bool(value)


def node_facts(db: Database) -> dict[str, Any]:
    """The newest value of every durable fact."""
    facts: dict[str, Any] = {}
    for key, text in db.execute(
        "SELECT key, value FROM node_facts WHERE id IN (SELECT max(id) FROM node_facts GROUP BY key) ORDER BY id"
    ).fetchall():
        try:
            facts[key] = json.loads(text)
        except (ValueError, RecursionError):
            facts[key] = text
    return facts


def open_fences(db: Database) -> tuple[OpenFence, ...]:
    """Fences whose intent is durable and whose end is not."""
    opened: dict[str, OpenFence] = {}
    for order_id, target, level, state, wall_ns in db.execute(
        "SELECT order_id, target, level, state, wall_ns FROM fences ORDER BY id"
    ).fetchall():
        if level == 0 and state in FINAL_FENCE_STATES:
            opened.pop(order_id, None)
        elif state == "requested" or order_id in opened:
            known = opened.get(order_id)
            opened[order_id] = OpenFence(
                order_id, target, level or (known.level if known else 0), known.intent_wall_ns if known else wall_ns
            )
    return tuple(opened.values())


def open_incidents(db: Database) -> tuple[OpenIncident, ...]:
    """Incidents that nobody has closed, oldest first: their pages want to be resolved one day, by whichever run sees the end."""
    rows = db.execute(
        "SELECT i.incident, i.scope, i.verdict, i.summary,"
        " EXISTS (SELECT 1 FROM alerts a WHERE a.incident = i.incident AND a.action = 'trigger') FROM incidents i"
        " WHERE i.id IN (SELECT max(id) FROM incidents GROUP BY incident) AND i.state <> 'closed' ORDER BY i.id DESC LIMIT ?",
        [MAX_OPEN_INCIDENTS],
    ).fetchall()
    return tuple(OpenIncident(row[0], row[1], row[2], row[3], bool(row[4])) for row in reversed(rows))


def recent_fences(db: Database, wall_ns: int) -> tuple[int, ...]:
    """When fences were started in the last hour; one with a time in the future (the clock was set back) counts too."""
    rows = db.execute(
        "SELECT min(wall_ns) FROM fences GROUP BY order_id HAVING min(wall_ns) > ? ORDER BY 1", [wall_ns - BUDGET_WINDOW_NS]
    ).fetchall()
    return tuple(row[0] for row in rows)


def last_incident(db: Database) -> int:
    """The highest number of an incident id ("I7-ab12cd34ef", or a number at the end), 0 if there is none."""
    highest = 0
    for (incident,) in db.execute("SELECT DISTINCT incident FROM incidents").fetchall():
        if match := _EPISODE.search(incident):
            highest = max(highest, int(match.group(1) or match.group(2)))
    return highest


def read_restored(db: Database, *, asked_incarnation: int | None, boot: str, wall_ns: int, watcher: str = "") -> Restored:
    """Everything a new run must know, as recorded so far.

    ``watcher`` identifies the watcher's process: if it is the one that opened the last run, only the recorder was restarted, and the run
    goes on under its number.
    """
    facts = node_facts(db)
    run = facts.get("run")
    run = run if isinstance(run, dict) else {}
    last = run.get("incarnation")
    last = last if isinstance(last, int) and 0 < last < MAX_INCARNATION else 0
    clean = facts.get("clean_stop")
    return Restored(
        incarnation=max(asked_incarnation or 0, last if last and watcher and run.get("watcher") == watcher else last + 1),
        same_boot=bool(run) and run.get("boot") == boot,
        clean_stop=not run or clean == last,
        quarantined=is_set(facts.get("quarantine")),
        latched=is_set(facts.get("latch")),
        seen_peer=is_set(facts.get("seen_peer")),
        open_fences=open_fences(db),
        recent_fence_wall_ns=recent_fences(db, wall_ns),
        last_incident=last_incident(db),
        open_incidents=open_incidents(db),
        facts=facts,
    )
