"""Planned work on this node or the pair: until it ends, nothing is fenced and nobody is paged. It always ends by itself.

brainctl maintenance on --for 30m --why "kernel update"
brainctl maintenance off
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from base.control import ControlClient, RequestError
from brainctl.options import add_common, control_socket, no_daemon
from brainctl.output import complain

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000}
LONGEST_MS = 24 * 3_600_000


def duration_ms(text: str) -> int:
    """``90s``, ``30m``, ``2h`` → ms; raises ValueError."""
    if not text[:-1].isdigit() or text[-1] not in _UNITS_MS:
        raise ValueError(f"{text!r}: write a number and s, m or h, for example 30m")
    value = int(text[:-1]) * _UNITS_MS[text[-1]]
    if not 0 < value <= LONGEST_MS:
        raise ValueError(f"{text!r}: between 1s and 24h")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl maintenance``."""
    parser.add_argument("switch", choices=("on", "off"))
    parser.add_argument("--for", dest="duration", default="30m", help="how long: 90s, 30m, 2h (%(default)s)")
    parser.add_argument("--why", default="", help="goes into the record")
    add_common(parser, config=False)


def run(args: argparse.Namespace) -> int:
    """Ask braind; 0 done, 2 refused, 3 no daemon."""
    try:
        until_ms = duration_ms(args.duration) if args.switch == "on" else 0
    except ValueError as error:
        complain(str(error), as_json=args.json)
        return 3
    return operate(args, f"maintenance_{args.switch}", until_ms=until_ms, note=args.why)


def operate(args: argparse.Namespace, action: str, **fields: str | int) -> int:
    """Send an operator's action to braind and print the answer; 0 done, 2 refused, 3 no daemon."""
    status, answer = order(args, action, **fields)
    if status == 0:
        print(json.dumps(answer) if args.json else answer.get("message", "done"))
    return status


def order(args: argparse.Namespace, action: str, **fields: str | int) -> tuple[int, dict[str, Any]]:
    """The same without a word when it was taken: exit status and braind's answer ({} if there is none)."""
    try:
        with ControlClient(control_socket(args)) as client:
            answer: dict[str, Any] = client.call("operate", action=action, **fields)
    except RequestError as error:
        why = error.remedy if error.code == "refused" else f"{error.code}; {error.remedy}"
        complain(f"refused: {error.where}: {why}", as_json=args.json)
        return 2, {}
    except OSError as error:
        complain(*no_daemon(control_socket(args), error), as_json=args.json)
        return 3, {}
    return 0, answer
