"""The witness: ask it who has the turn to fence, or make a shared disk or file into one.

    brainctl witness look                     reaches it as braind does, changes nothing; who has the turn, how long it took
    brainctl witness format --yes             writes the shared disk of [witness] anew: everything on its first 132 KiB is lost

Exit status of look: 0 it answers, 2 it does not, 3 none is configured. docs/WITNESS.md tells how to set one up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time

from base.diagnostics import ConfigError
from base.secrets import SecretError, read_secret_file
from brainctl.options import add_common
from watchdog.config.load import load_brain
from watchdog.config.model import BrainSettings, WitnessKind
from watchdog.witness.child import configure_message
from watchdog.witness.disk import format_disk
from watchdog.witness.engine import WitnessSilentError
from watchdog.witness.lease.slots import SlotCodec
from watchdog.witness.process import open_engine

NO_WITNESS = "no [witness] is configured: turns to fence go by acknowledged frames (docs/FENCING.md)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``brainctl witness``."""
    parser.add_argument("action", choices=("look", "format"), help="look: reach it; format: write a shared disk anew")
    parser.add_argument("--yes", action="store_true", help="format: do it")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Look or format."""
    try:
        brain = load_brain(args.config, args.node).settings
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 3
    if brain.witness is None:
        print(NO_WITNESS, file=sys.stderr)
        return 3
    return _format(brain, args.yes) if args.action == "format" else _show(brain, args.json)


def look(brain: BrainSettings) -> tuple[str, int]:
    """Who has the turn ("" for nobody), and how long the answer took in ms. Raises WitnessSilentError."""

    async def ask() -> tuple[str, int]:
        engine = open_engine(configure_message(brain, 0), watching=True)
        start = time.monotonic()
        try:
            return await engine.look(), round((time.monotonic() - start) * 1000)
        finally:
            await engine.close()

    return asyncio.run(ask())


def _show(brain: BrainSettings, as_json: bool) -> int:
    assert brain.witness is not None
    try:
        holder, took_ms = look(brain)
    except WitnessSilentError as error:
        print(json.dumps({"answers": False, "detail": str(error)}) if as_json else f"the witness does not answer: {error}")
        return 2
    if as_json:
        print(json.dumps({"answers": True, "kind": brain.witness.kind.value, "took_ms": took_ms, "holder": holder}))
    else:
        print(f"the witness ({brain.witness.kind.value}) answers in {took_ms} ms; the turn is held by {holder or 'nobody'}")
    return 0


def _format(brain: BrainSettings, yes: bool) -> int:
    assert brain.witness is not None
    if brain.witness.kind is not WitnessKind.DISK:
        print("only a disk is formatted; etcd needs nothing", file=sys.stderr)
        return 3
    path = brain.witness.device.of(brain.self_name)
    if not yes:
        print(f"{path} would be written anew; stop braind on both nodes, then say --yes", file=sys.stderr)
        return 3
    nodes = sorted(node.name for node in brain.nodes)
    try:
        codec = SlotCodec(read_secret_file(brain.key_file).strip(), brain.cluster, (nodes[0], nodes[1]))
        format_disk(path, codec)
    except (SecretError, WitnessSilentError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{os.path.realpath(path)} is the witness of {brain.cluster} now; do this on one node only")
    return 0
