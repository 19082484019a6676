"""``brainctl``: one file per subcommand, imported only when it is called (``status`` must be quick)."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import NoReturn

SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "init": ("brainctl.init", "write brain.toml, key, keepalived stanza and firewall rules for a pair"),
    "check": ("brainctl.check", "check both configurations, paths, permissions and the bounds they give"),
    "status": ("brainctl.status", "who owns each VIP, the verdict and why; Nagios exit codes"),
    "log": ("brainctl.log", "the record: verdicts, actions, fences, alerts"),
    "explain": ("brainctl.explain", "one incident: evidence, times, rule, action"),
    "fence": ("brainctl.fence", "fence devices: list, status, check, enroll, off, on, ack"),
    "witness": ("brainctl.witness", "the witness that gives turns to fence: reach it, format a shared disk"),
    "ack": ("brainctl.ack", "take an incident: nobody else is woken for it"),
    "handover": ("brainctl.handover", "move this node's addresses to the peer in an orderly way"),
    "maintenance": ("brainctl.maintenance", "planned work: nothing is fenced or paged until it ends"),
    "lvs": ("brainctl.lvs", "virtual servers: who takes traffic and why; drain a server by hand"),
    "replay": ("brainctl.replay", "run a journal through the same core and compare every command"),
    "demo": ("brainctl.demo.command", "a whole data centre in namespaces: split it and watch"),
    "simulate": ("brainctl.simulate", "the same cores in a virtual world with seeded faults"),
    "search": ("brainctl.search", "every short schedule of faults, tried on the same cores"),
}


class UsageParser(argparse.ArgumentParser):
    """Exits with 3 (Nagios: unknown) on wrong usage; argparse's own 2 would read as critical."""

    def error(self, message: str) -> NoReturn:
        """Print usage and the error, exit 3."""
        self.print_usage(sys.stderr)
        self.exit(3, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, SUBCOMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in SUBCOMMANDS.items())
    parser = UsageParser(
        prog="brainctl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Watches a pair of Linux HA nodes for split brain, ends it, and proves that it ended.",
        epilog=f"commands:\n{lines}\n\nbrainctl COMMAND -h tells more about one of them.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("command", nargs="?", metavar="COMMAND", choices=SUBCOMMANDS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def version() -> str:
    """The version of the installed distribution, or of the checkout."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("brainctl")
    except PackageNotFoundError:
        return "unknown (not installed)"


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if options.version:
        print(f"brainctl {version()}")
        return 0
    if options.command is None:
        parser.print_help()
        return 3
    module_name, text = SUBCOMMANDS[options.command]
    module = import_module(module_name)
    subparser = UsageParser(
        prog=f"brainctl {options.command}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=module.__doc__
    )
    module.add_arguments(subparser)
    try:
        status: int = module.run(subparser.parse_args(options.rest))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # a full disk, a file that may not be read: never a traceback for the operator
        if error.filename is None:
            raise
        print(f"brainctl {options.command}: {error.filename}: {error.strerror}", file=sys.stderr)
        return 3
    return status


if __name__ == "__main__":
    sys.exit(main())
