"""Somebody has taken the incident: it goes into the record with who and why, and receivers that would be told later
(``escalate_after_ms``) are not told. Only an open incident can be taken; braind keeps acting on it.

brainctl ack I1-ab12cd34ef --note "on my way to the data centre"
"""

from __future__ import annotations

import argparse

from brainctl.maintenance import operate
from brainctl.options import add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl ack``."""
    parser.add_argument("incident", help="its id, as brainctl status shows it")
    parser.add_argument("--note", default="", help="goes into the record")
    add_common(parser, config=False)


def run(args: argparse.Namespace) -> int:
    """Ask braind; 0 done, 2 refused, 3 no daemon."""
    return operate(args, "acknowledge", subject=args.incident, note=args.note)
