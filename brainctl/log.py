"""The record as lines: verdicts, incidents, actions, fences, alerts; works without braind too.

brainctl log --since 2h --kind fence --kind action
brainctl log --follow
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from brainctl.maintenance import duration_ms
from brainctl.options import add_common, database
from brainctl.output import complain, paint
from watchdog.record.queries import LOG_KINDS, LogLine, RecordUnavailable, open_record

FOLLOW_INTERVAL_S = 0.5
_COLOURS = {"fence": "red", "incident": "magenta", "alert": "yellow", "action": "cyan", "verdict": "green"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl log``."""
    parser.add_argument(
        "--kind", action="append", choices=LOG_KINDS, default=[], help="only this kind; repeat for more (default: all but evidence)"
    )
    parser.add_argument("--since", default="", help="only the last 90s, 30m, 2h")
    parser.add_argument("--incident", default="", help="only this incident")
    parser.add_argument("--subject", default="", help="only where the subject contains this")
    parser.add_argument("--lines", "-n", type=int, default=50, help="at most so many (%(default)s)")
    parser.add_argument("--follow", "-f", action="store_true", help="go on until Ctrl-C")
    add_common(parser, config=False)


def run(args: argparse.Namespace) -> int:
    """Print lines; 0, or 3 when the record cannot be read."""
    since = None
    try:
        if args.since:
            since = time.time_ns() - duration_ms(args.since) * 1_000_000
        with open_record(database(args)) as record:
            position = record.position()
            for line in record.log(
                kinds=args.kind, since_wall_ns=since, incident=args.incident, subject=args.subject, limit=max(0, args.lines)
            ):
                _print(args, line)
            while args.follow:
                time.sleep(FOLLOW_INTERVAL_S)
                for line in record.log(kinds=args.kind, incident=args.incident, subject=args.subject, after=position, limit=1000):
                    position[line.kind] = max(position.get(line.kind, 0), line.row_id)
                    _print(args, line)
                sys.stdout.flush()
    except ValueError as error:
        complain(str(error), as_json=args.json)
        return 3
    except RecordUnavailable as error:
        complain(str(error), error.remedy, as_json=args.json)
        return 3
    return 0


def _print(args: argparse.Namespace, line: LogLine) -> None:
    if args.json:
        print(json.dumps(asdict(line)))
        return
    seconds, rest = divmod(line.wall_ns, 1_000_000_000)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f".{rest // 1_000_000:03d}"
    kind = paint(line.kind.ljust(8), _COLOURS.get(line.kind, "grey"))
    incident = f"  [{line.incident}]" if line.incident else ""
    print(f"{stamp} {line.node} {kind} {line.subject}: {line.text}{incident}")
