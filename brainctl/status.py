"""Who owns each VIP, the verdict and why.

Exit status, as Nagios expects: 0 OK, 1 warning, 2 critical, 3 unknown (also when braind does not answer and only the record speaks).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

from base.control import ControlClient, RequestError
from brainctl import outside
from brainctl.options import add_common, control_socket, database, no_daemon
from brainctl.output import age, paint, table
from watchdog.frames.heartbeat import VERSION as NEWEST_FRAMES
from watchdog.judgement.verdict import Verdict, severity

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
_WORDS = {OK: ("OK", "green"), WARNING: ("WARNING", "yellow"), CRITICAL: ("CRITICAL", "red"), UNKNOWN: ("UNKNOWN", "magenta")}

_GRADE = {v.value: OK if v is Verdict.HEALTHY else WARNING if severity(v) == "warning" else CRITICAL for v in Verdict}
WATCH_INTERVAL_S = 1.0


def word_of(code: int) -> tuple[str, str]:
    """The word of an exit status, and its colour."""
    return _WORDS[code]


Document = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl status``."""
    parser.add_argument("--audit", action="store_true", help="add the evidence with its ages, and the record's health")
    parser.add_argument("--watch", action="store_true", help="redraw every second until Ctrl-C")
    add_common(parser, config=False)


def run(args: argparse.Namespace) -> int:
    """Print the status; the return value is the exit status."""
    if not args.watch:
        return show(args)
    while True:
        if not args.json:
            sys.stdout.write("\x1b[H\x1b[2J" if sys.stdout.isatty() else "")
        show(args)
        sys.stdout.flush()
        time.sleep(WATCH_INTERVAL_S)


def show(args: argparse.Namespace) -> int:
    """One status."""
    try:
        with ControlClient(control_socket(args), timeout_s=3.0) as client:
            document: Document = client.call("status")
    except (OSError, RequestError) as error:
        return _without_daemon(args, error)
    record = _record(args) if args.audit or args.json else _record(args, check=False)
    code, problems = grade(document, record)
    if args.json:
        print(json.dumps({"exit": code, "word": _WORDS[code][0], "problems": problems, **document, "record": record}))
    elif document["status"].get("watch_only"):
        print(outside.render(document["status"], code, problems))
    else:
        print(render(document, record, code, problems, audit=args.audit))
    return code


def grade(document: Document, record: Document) -> tuple[int, list[str]]:
    """The exit status and every reason for it, worst first."""
    status = document["status"]
    found: list[tuple[int, str]] = []
    if status.get("watch_only"):
        return outside.grade(status)
    if not status.get("started"):
        return UNKNOWN, ["braind has not finished starting"]
    for scope in (status["pair"], *status["groups"]):
        level = _GRADE.get(scope["verdict"], CRITICAL)
        if scope["verdict"] == "UNKNOWN" and not status.get("settled"):
            level = UNKNOWN
        if level is CRITICAL and scope.get("stage") == "suspected":
            level = WARNING
        if level is not OK:
            found.append(
                (level, f"{_scope_name(scope)}: {scope['verdict']} {scope.get('stage') or ''}: {scope['reason']}".replace(" : ", ": "))
            )
    found += _gates(status)
    fence = status["fence"]
    if fence["latched"]:
        found.append((CRITICAL, "the fence latch is shut: brainctl fence clear latch"))
    if fence["open"]:
        found.append((CRITICAL, "an earlier fence is still unknown"))
    if status["quarantined"]:
        found.append((WARNING, "this node was fenced and is in quarantine: brainctl fence clear quarantine"))
    if status.get("suspect"):
        found.append(
            (CRITICAL, "this node ended without an orderly stop and hears nobody: it takes nothing over before it does, or a person says")
        )
    found += [(WARNING, f"settings differ: {text}") for text in status.get("differences", [])]
    found += _peer_release(status["peer"])
    if status["maintenance_ms"] is not None:
        found.append((WARNING, f"maintenance for another {age(status['maintenance_ms'])}"))
    if not status["recorder_up"]:
        found.append((WARNING, "the record cannot be written: nothing will be fenced"))
    if fence["enabled"] and not status["runner_up"]:
        found.append((WARNING, "the fence runner is not armed"))
    if (status.get("witness") or {}).get("out"):
        found.append((WARNING, f"the witness is out: {status['witness']['detail']}"))
    if record.get("problem"):
        found.append((WARNING, f"record: {record['problem']}"))
    if record.get("undelivered") and document["daemon"]["receivers"]:
        found.append((WARNING, f"{record['undelivered']} alert(s) are not delivered yet"))
    found.sort(key=lambda item: -item[0] if item[0] is not UNKNOWN else -1.5)
    return (found[0][0] if found else OK), [text for _, text in found]


def _peer_release(peer: Document) -> list[tuple[int, str]]:
    """What is on its way between the nodes: an upgrade, a change of the key, a machine that was replaced."""
    found = []
    if (peer.get("frame_version") or NEWEST_FRAMES) < NEWEST_FRAMES:
        found.append((WARNING, f"{peer['name']} runs an older release: it is watched, and neither node fences the other"))
    if peer.get("old_key"):
        found.append(
            (WARNING, f"{peer['name']} still sends with the second key of the key file: docs/UPGRADE.md, changing the cluster key")
        )
    if peer.get("another_machine"):
        found.append((WARNING, f"{peer['name']} counts its starts anew: it was reinstalled, or another machine has its name"))
    return found


def _gates(status: Document) -> list[tuple[int, str]]:
    """Holds that do not hold, and daemons that could not be held. strict without a gate that is obeyed is not armed: two may own."""
    found = []
    strict, runs = status["mode"] == "strict", status["surroundings"]["daemon"] == "running"
    for group in status["groups"]:
        gate = group["gate"]
        if gate["fails"]:
            found.append((CRITICAL, f"{_scope_name(group)}: held ({gate['reason']}), but the VRRP daemon owns it all the same"))
        if gate["obedience"].startswith("not_") and status["mode"] != "observe" and runs:
            what = "strict is not armed: " if strict else ""
            words = f"{_scope_name(group)}: {what}the VRRP daemon cannot be held: {gate['obedience_detail']}"
            found.append((CRITICAL if strict else WARNING, words))
    return found


def _gate_word(gate: Document) -> str:
    if gate["fails"] or gate["obedience"].startswith("not_"):
        return paint(f"{gate['state']}, not obeyed", "red")
    return str(gate["state"])


def _scope_name(scope: Document) -> str:
    return f"{scope['name']} {scope['group']}" if "group" in scope else "pair"


def _record(args: argparse.Namespace, *, check: bool = True) -> Document:
    """The record's health; never raises."""
    from watchdog.record.queries import RecordClosed, RecordUnavailable, open_record  # sqlite-utils is slow to import

    try:
        with open_record(database(args)) as record:
            return asdict(record.health(check=check))
    except RecordClosed as error:
        return {"closed": str(error)}  # members of the group brainctl see the status; braind itself says whether it can write
    except RecordUnavailable as error:
        return {"problem": str(error), "remedy": error.remedy}


def _without_daemon(args: argparse.Namespace, error: Exception) -> int:
    """braind is dead: the record is all that speaks."""
    from watchdog.record.queries import RecordUnavailable, open_record

    sentence = "; ".join(no_daemon(control_socket(args), error))
    last: list[Document] = []
    problem = ""
    try:
        with open_record(database(args)) as record:
            last = [asdict(v) for v in record.last_verdicts()]
            incidents = [asdict(i) for i in record.incidents(open_only=True)]
    except RecordUnavailable as unavailable:
        problem, incidents = f"{unavailable}; {unavailable.remedy}", []
    if args.json:
        print(
            json.dumps(
                {
                    "exit": UNKNOWN,
                    "word": "UNKNOWN",
                    "problems": [sentence],
                    "last_verdicts": last,
                    "incidents": incidents,
                    "record": {"problem": problem},
                }
            )
        )
        return UNKNOWN
    print(f"{paint('UNKNOWN', 'magenta')} {sentence}")
    if problem:
        print(f"the record does not speak either: {problem}")
        return UNKNOWN
    print("\nwhat it believed last, by the record:")
    now = time.time_ns()
    rows = [[v["scope"], v["verdict"], v["stage"], f"{age((now - v['wall_ns']) / 1e6)} ago", v["reason"]] for v in last]
    print(table(rows, ("scope", "verdict", "stage", "when", "reason"), "  "))
    for incident in incidents:
        print(f"  open incident {incident['incident']}: {incident['verdict']}: {incident['summary']}")
    return UNKNOWN


# ---- drawing ----------------------------------------------------------------------------------------------------------


def render(document: Document, record: Document, code: int, problems: list[str], *, audit: bool) -> str:
    """The whole page as text."""
    status = document["status"]
    word, colour = _WORDS[code]
    head = f"{paint(word, colour)} {status['cluster']}: {problems[0] if problems else 'one owner for every address'}"
    if not status.get("started"):
        return f"{head}\n  ask again in a moment; what it waits for stands in its log"
    parts = [
        head,
        _nodes(status),
        _groups(status),
        _paths(status),
        _references(status),
        _fence(status) + _self_fence(status) + _witness(status),
        _incidents(status),
        _tail(document, record),
    ]
    parts += [f"  {paint('•', 'yellow')} {text}" for text in problems[1:]]
    if audit:
        parts.append(_audit(status, record))
    return "\n\n".join(p for p in parts[:8] if p) + ("\n" + "\n".join(p for p in parts[8:] if p) if parts[8:] else "")


def _nodes(status: Document) -> str:
    me, peer = status["self"], status["peer"]
    rows = [
        [f"{me['name']} (this node)", f"rank {me['rank']}", f"health {me['health']}", " ".join(me["flags"]), ""],
        [
            peer["name"],
            f"rank {peer['rank']}",
            f"health {peer['health'] if peer['health'] is not None else '–'}",
            " ".join(peer["flags"]),
            f"heard {age(peer['age_ms'])} ago" if peer["age_ms"] is not None else paint("not heard", "yellow"),
        ],
    ]
    pair = status["pair"]
    return f"mode {paint(status['mode'], 'bold')}   pair {_verdict(pair)} {pair['reason']}\n" + table(rows, indent="  ")


def _verdict(scope: Document) -> str:
    level = _GRADE.get(scope["verdict"], CRITICAL)
    colour = {OK: "green", WARNING: "yellow"}.get(level, "red")
    stage = f" {scope['stage']}" if scope.get("stage") else ""
    return paint(scope["verdict"] + stage, colour)


def _groups(status: Document) -> str:
    rows = []
    for group in status["groups"]:
        owners = group["owners"]
        shown = paint(" + ".join(owners) or "nobody", "green" if len(owners) == 1 else "red")
        rows.append(
            [
                f"{group['name']} {group['group']}",
                ", ".join(group["vips"]) or "–",
                shown,
                group["state"],
                str(group["priority"]),
                _gate_word(group["gate"]),
                f"{_verdict(group)} {group['reason']}",
            ]
        )
    return table(rows, ("group", "addresses", "owner", "here", "prio", "gate", "verdict"), "  ")


def _paths(status: Document) -> str:
    rows = []
    for path in status["paths"]:
        state = path["status"]
        colour = {"hearing": "green", "silent": "red", "flapping": "yellow"}.get(state, "yellow")
        rows.append(
            [
                path["name"],
                path["kind"],
                path["medium"],
                paint(state, colour),
                age(path["age_ms"]),
                f"{path['loss_percent']} %" if path["loss_percent"] is not None else "–",
                age(path["delay_ms"]),
            ]
        )
    return table(rows, ("path", "type", "medium", "state", "last beat", "loss", "delay"), "  ")


def _references(status: Document) -> str:
    surroundings = status["surroundings"]
    rows = [
        [r["name"], r["address"], paint("answers", "green") if r["answers"] else paint("silent", "red"), age(r["age_ms"])]
        for r in surroundings["references"]
    ]
    text = f"  local VRRP daemon: {surroundings['daemon']}   isolated: {status['isolation']}"
    return text + ("\n" + table(rows, ("reference", "address", "state", "last answer"), "  ") if rows else "")


def _fence(status: Document) -> str:
    fence = status["fence"]
    if not fence["levels"]:
        return "  fencing: no device configured"
    levels = " → ".join(f"{level['name']} ({', '.join(level['devices'])})" for level in fence["levels"])
    switch = paint("enabled", "green") if fence["enabled"] else paint("not enabled", "yellow")
    text = f"  fencing of {fence['target']}: {switch}   {levels}   budget left {fence['budget']['left']}"
    for device in fence["devices"]:
        if device["state"] not in ("good", "unknown"):
            what = device["state"].replace("_", " ")
            text += f"\n  {paint(device['device'], 'red')}: {what}{': ' + device['detail'] if device['detail'] else ''}"
    if fence["running"] is not None:
        text += f"\n  {paint('a fence is under way', 'red')}: {json.dumps(fence['running'])[:160]}"
    if fence["last"] is not None:
        last = fence["last"]
        text += f"\n  last fence: {last.get('order_id', '')} {last.get('state', '')} {age(last.get('age_ms'))} ago {last.get('detail', '')}"
    if fence["refused"]:
        text += f"\n  would not fence now: {fence['refused']}"
    return text


def _self_fence(status: Document) -> str:
    """One line under the fence; nothing without the arrangement."""
    arrangement = status.get("self_fence")
    if not arrangement:
        return ""
    if arrangement["starving"]:
        state = paint(f"starving: this machine is reset in {max(0, arrangement['resets_in_ms'] or 0)} ms", "red")
    else:
        state = paint("armed", "green") if arrangement["armed"] else paint("not armed", "yellow")
    return f"\n  {arrangement['node']} resets itself when it is not acknowledged: {state}"


def _witness(status: Document) -> str:
    """One line under the fence; nothing without a witness."""
    witness = status.get("witness")
    if not witness:
        return ""
    words = {
        "lease": "who holds the turn may fence",
        "both": "the turn and the peer's acknowledgement are needed until both nodes agree about the witness",
        "turns": "both nodes agreed to do without it",
    }
    state = paint("out", "yellow") if witness["out"] else paint("answers", "green") if witness["answers"] else "not asked yet"
    took = "" if witness["took_ms"] is None or witness["out"] else f" in {witness['took_ms']} ms"
    held = f"; turn held by {witness['holder']}" if witness["holder"] else ""
    left = f" for {age(witness['lease_left_ms'])}" if witness["lease_left_ms"] else ""
    return f"\n  witness ({witness['kind']}): {state}{took}{held}{left}; {words[witness['rule']]}"


def _incidents(status: Document) -> str:
    rows = [
        [i["id"], paint(i["verdict"], "red" if i["severity"] == "critical" else "yellow"), i["scope"], age(i["age_ms"]), i["summary"]]
        for i in status["incidents"]
    ]
    return table(rows, ("open incident", "verdict", "scope", "age", "summary"), "  ") if rows else ""


def _tail(document: Document, record: Document) -> str:
    daemon = document["daemon"]
    text = f"  braind pid {daemon['pid']}, up {age(daemon['up_ms'])}"
    if "bytes" in record:
        told = f"{record['undelivered']} undelivered alert(s)" if daemon["receivers"] else paint("no [[alert]]: nobody is told", "yellow")
        text += f"; record {record['bytes'] // 1024} KiB, {told}, {record['open_incidents']} open incident(s)"
    return text


def _audit(status: Document, record: Document) -> str:
    lines = [paint("evidence", "bold")]
    for scope in (status["pair"], *status["groups"]):
        rows = [
            [
                e["id"],
                e["kind"],
                e["owner"],
                e["source"],
                age(e["age_ms"]),
                paint("fresh", "green") if e["fresh"] else paint("stale", "grey"),
                e["detail"],
            ]
            for e in scope["evidence"]
        ]
        lines.append(f"  {_scope_name(scope)}")
        lines.append(table(rows, indent="    ") or "    none")
    lines.append(paint("record", "bold") + " " + json.dumps({k: v for k, v in record.items() if k != "rows"}))
    return "\n".join(lines)
