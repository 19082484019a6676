"""This node's VRRP daemon is held so that the peer takes the address (modes resolve and strict), without alarm and without a fence.
A daemon that preempts does not take it back behind your back.

brainctl handover                every group that this node owns
brainctl handover VI_1           one group, by the name of its vrrp_instance or as status shows it (51/4)
"""

from __future__ import annotations

import argparse

from brainctl.maintenance import operate
from brainctl.options import add_common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl handover``."""
    parser.add_argument("group", nargs="?", default="", help="a vrrp_instance or VRID/family (default: all that this node owns)")
    parser.add_argument("--why", default="", help="goes into the record")
    add_common(parser, config=False)


def run(args: argparse.Namespace) -> int:
    """Ask braind; 0 begun, 2 refused, 3 no daemon."""
    return operate(args, "handover", subject=args.group, note=args.why)
