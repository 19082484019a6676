"""A field failure becomes a test by copying a file.

    brainctl replay --dump FILE      ask the running braind for its journal
    brainctl replay FILE             run it through the same core; every command must come out byte for byte

The file holds the text of brain.toml and every input with its time. The cluster key is not in it: it is read from the file that
brain.toml names
(or --key). Exit status: 0 the same, 1 a difference (printed), 2 the file cannot be replayed, 3 no daemon.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from base.control import ControlClient, RequestError
from base.diagnostics import ConfigError
from base.journal import canonical
from base.secrets import SecretError, read_secret_file
from brainctl.options import add_common, control_socket, no_daemon
from brainctl.output import complain, paint, waiting
from watchdog.config.load import parse_brain
from watchdog.event_codec import EventError, event_from_json
from watchdog.judgement.watcher import WatcherCore

FORMAT = "brainctl-journal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl replay``."""
    parser.add_argument("file", nargs="?", help="a journal")
    parser.add_argument("--dump", metavar="FILE", help="write the running braind's journal to FILE")
    parser.add_argument("--key", help="cluster key (default: the one that the journal's brain.toml names)")
    add_common(parser)


class ReplayError(Exception):
    """The file cannot be replayed; says why and what to do."""


def run(args: argparse.Namespace) -> int:
    """Dump or replay."""
    try:
        if args.dump:
            return dump(args)
        if not args.file:
            complain("name a journal, or --dump FILE", as_json=args.json)
            return 3
        return replay(args)
    except (ReplayError, EventError, ConfigError, SecretError, RequestError) as error:
        complain(str(error), as_json=args.json)
        return 2


def dump(args: argparse.Namespace) -> int:
    """Fetch the journal page by page."""
    try:
        with open(args.config, encoding="utf-8") as config:
            text = config.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(f"{args.config} cannot be read: {error}; name braind's own with --config") from None
    try:
        with ControlClient(control_socket(args)) as client, waiting("reading the journal of braind"):
            lines: list[str] = []
            while True:
                page = client.call("journal", **{"from": len(lines)})
                lines += page["lines"]
                if not page["lines"] or len(lines) >= page["total"]:
                    break
    except OSError as error:
        complain(*no_daemon(control_socket(args), error), as_json=args.json)
        return 3
    header = {"format": FORMAT, "v": 1, "node": page["node"], "dropped": page["dropped"], "brain_toml": text}
    try:
        with open(args.dump, "w", encoding="utf-8") as out:
            out.write(json.dumps(header) + "\n")
            out.writelines(line + "\n" for line in lines)
    except OSError as error:
        raise ReplayError(f"{args.dump} cannot be written: {error.strerror}; name another file") from None
    print(json.dumps({"inputs": len(lines), "file": args.dump}) if args.json else f"{len(lines)} inputs written to {args.dump}")
    return 0


def replay(args: argparse.Namespace) -> int:
    """Run the file through a fresh core."""
    header, entries = read_journal(args.file)
    brain = parse_brain(header["brain_toml"], f"{args.file} (brain.toml)", header["node"]).settings
    key = read_secret_file(args.key or brain.key_file).strip()
    core = WatcherCore(brain, key=key)
    with waiting(f"replaying {args.file}"):
        return _compare(args, core, entries)


def _compare(args: argparse.Namespace, core: WatcherCore, entries: Iterator[tuple[int, int, Any, list[Any]]]) -> int:
    count = 0
    for number, at_ns, event, expected in entries:
        commands = core.on_deadline(at_ns) if event is None else core.handle(at_ns, event_from_json(event))
        actual = [_line(canonical(c)) for c in commands]
        wanted = [_line(c) for c in expected]
        if actual != wanted:
            _show(args, number, at_ns, event, wanted, actual)
            return 1
        count += 1
    result = {"inputs": count, "same": True, "verdict": "every command came out the same"}
    print(json.dumps(result) if args.json else paint(f"{count} inputs: every command came out the same", "green"))
    return 0


def read_journal(path: str) -> tuple[dict[str, Any], Iterator[tuple[int, int, Any, list[Any]]]]:
    """The header and an iterator over (line number, time, event or None, commands). Raises ReplayError."""
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
        header = json.loads(lines[0]) if lines else {}
    except (OSError, ValueError) as error:
        raise ReplayError(f"{path}: {error}; is it a journal?") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT or header.get("v") != 1:
        raise ReplayError(f"{path}:1: not a journal of this version; make one with brainctl replay --dump")
    if header.get("dropped"):
        raise ReplayError(
            f"{path}: the ring had dropped its first {header['dropped']} inputs, so the state at its start is not known; "
            "dump sooner after the start of braind"
        )
    return header, _entries(path, lines)


def _entries(path: str, lines: list[str]) -> Iterator[tuple[int, int, Any, list[Any]]]:
    for number, line in enumerate(lines[1:], 2):
        try:
            entry = json.loads(line)
            yield number, int(entry["at_ns"]), entry["event"], list(entry["commands"])
        except (ValueError, KeyError, TypeError) as error:
            raise ReplayError(f"{path}:{number}: damaged line ({error})") from None


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _show(args: argparse.Namespace, number: int, at_ns: int, event: Any, wanted: list[str], actual: list[str]) -> None:
    if args.json:
        print(json.dumps({"same": False, "line": number, "at_ns": at_ns, "event": event, "expected": wanted, "actual": actual}))
        return
    print(paint(f"{args.file}:{number}: the commands differ at {at_ns} ns after {_line(event)[:200]}", "red"))
    for line in wanted:
        print(f"  - {line}")
    for line in actual:
        print(f"  + {line}")
