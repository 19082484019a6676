"""Stories and options of the wider world, told from seed ``WIDER_FROM`` on: the seeds below keep the runs that they always had."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from watchdog.config.model import Mode
from watchdog.simulator.options import MEASURED_F_MS, NODES, Options

if TYPE_CHECKING:
    from collections.abc import Callable

WIDER_FROM = 1_000
"""Every seed from here on draws the options of the wider world, and two of three one of its stories."""


def _at(rng: random.Random, low: int = 10, high: int = 20) -> str:
    return f"{rng.randint(low * 1000, high * 1000)}ms"


def _for(rng: random.Random, low: int, high: int) -> str:
    return f"{rng.randint(low * 10, high * 10) * 100}ms"


def _dead_port(rng: random.Random, options: Options) -> list[str]:
    """A service port carries nothing, the heartbeats live."""
    lan = rng.choice(options.lan_names)
    return [f"{rng.choice(('cut', 'cut', 'pull'))} {lan} of {rng.choice(NODES)} at {_at(rng)} for {_for(rng, 15, 35)}"]


def _shutdown(rng: random.Random, _options: Options) -> list[str]:
    return [f"shut down {rng.choice(NODES)} at {_at(rng)} for {_for(rng, 15, 40)}"]


def _one_way_paths(rng: random.Random, options: Options) -> list[str]:
    """Each kind of traffic fails by itself, one way or both."""
    lines = []
    kinds = [name for name in options.paths if name != "serial"]
    for what in rng.sample([*kinds, "arp", "vrrp", "serial"], rng.randint(2, 3)):
        source, target = rng.choice((("A", "B"), ("B", "A")))
        way = rng.choice(("", f" from {source} to {target}"))
        verb = "cut" if what == "serial" else "drop"
        lines.append(f"{verb} {what}{way} at {_at(rng)} for {_for(rng, 8, 30)}")
    return lines


def _asymmetric(rng: random.Random, _options: Options) -> list[str]:
    """Both directions go, one after the other: the nodes learn of it at different times."""
    source, target = rng.choice((("A", "B"), ("B", "A")))
    at_ms = rng.randint(10_000, 14_000)
    gap_ms = rng.randint(200, 16_000)
    lines = [f"cut everything from {source} to {target} at {at_ms}ms for 45s"]
    lines.append(f"cut everything from {target} to {source} at {at_ms + gap_ms}ms for {45_000 - gap_ms}ms")
    if rng.random() < 0.4:
        node, when_ms = rng.choice(NODES), at_ms + rng.randint(-1_000, 4_000)
        lines.append(f"kill braind of {node} at {when_ms}ms for {rng.randint(10, 40) * 100}ms")
    return lines + _device_times(rng, _options)


def _device_times(rng: random.Random, options: Options) -> list[str]:
    """As slow as F allows."""
    slowest_ms = options.measured_ms - 600
    return [f"device 1 of {node} acts in {rng.randint(slowest_ms // 2, slowest_ms)}ms at 0s" for node in NODES if rng.random() < 0.7]


def _children(rng: random.Random, _options: Options) -> list[str]:
    node, peer = rng.choice((("A", "B"), ("B", "A")))
    child = rng.choice((f"kill recorder of {node}", f"kill runner of {node}", f"fill disk of {node}"))
    trouble = rng.choice((f"crash {peer}", "cut everything", "drop vrrp", f"pause all of {peer}"))
    return [f"{child} at {_at(rng)} for {_for(rng, 2, 20)}", f"{trouble} at {_at(rng)} for {_for(rng, 12, 30)}"]


def _machine(rng: random.Random, _options: Options) -> list[str]:
    node = rng.choice(NODES)
    what = rng.choice((f"suspend {node} at {_at(rng)} for {_for(rng, 1, 25)}", f"freeze {node} at {_at(rng)} for {_for(rng, 1, 25)}"))
    if rng.random() < 0.3:
        what = f"revert {node} by {rng.randint(2, 8)}s at {_at(rng)}"
    return [what]


def _settings(rng: random.Random, options: Options) -> list[str]:
    """One side has another brain.toml, and then something happens."""
    node = rng.choice(NODES)
    modes = ["resolve" if options.mode is Mode.OBSERVE else "observe"]
    delay_ms = rng.choice((3_000, 20_000))
    if options.mode is Mode.STRICT:
        modes = ["strict"]  # its gate files belong to it: a reload without a change
    change = rng.choice((f"mode of {node} to {rng.choice(modes)}", f"delay of {node} to {delay_ms}", f"key of {node} to other"))
    lines = [f"set {change} at {_at(rng, 8, 12)}"]
    if rng.random() < 0.7:
        lines.append(f"{rng.choice(('drop vrrp', 'cut everything', 'cut eth0'))} at {_at(rng, 14, 24)} for {_for(rng, 8, 20)}")
    return lines


def _stranger(rng: random.Random, _options: Options) -> list[str]:
    node = rng.choice(NODES)
    lines = []
    for what in rng.sample(
        (f"forge adverts of {node}", f"forge goodbye of {node}", f"forge arp of {node}", f"forge gateway of {node}", "flood arp"),
        rng.randint(1, 2),
    ):
        lines.append(f"{what} at {_at(rng)} for {_for(rng, 2, 15)}")
    if rng.random() < 0.3:
        lines.append(f"replay frames of {node} at {_at(rng)} for {_for(rng, 2, 15)}")
    return lines


def _stranger_and_trouble(rng: random.Random, options: Options) -> list[str]:
    node = rng.choice(NODES)
    trouble = rng.choice((f"kill braind of {node}", f"crash {node}", "drop vrrp", "cut everything", f"cut eth0 of {node}"))
    return [*_stranger(rng, options), f"{trouble} at {_at(rng)} for {_for(rng, 6, 25)}"]


def _restarts(rng: random.Random, _options: Options) -> list[str]:
    """Reloads, restarts and a person's hand: nothing but planned changes."""
    lines = []
    for index in range(rng.randint(1, 3)):
        verb = rng.choice(("reload braind of {n}", "stop braind of {n} at {t} for 2s", "handover of {n}", "reload vrrp of {n}"))
        line = verb.format(n=rng.choice(NODES), t=(when := _at(rng, 12 + 12 * index, 15 + 12 * index)))
        lines.append(line if " at " in line else f"{line} at {when}")
    return lines


def _hiccup(rng: random.Random, _options: Options) -> list[str]:
    """The owner dies, and while the fence is due something else is away for a moment."""
    node, peer = rng.choice((("A", "B"), ("B", "A")))
    at_ms = rng.randint(10_000, 14_000)
    faults = ("stall disk of {n}", "cut management of {n}", "silence gateway", "kill braind of {n}", "device 1 of {p} unreachable")
    hiccup = rng.choice((*faults, "device 1 of {p} busy", "kill runner of {n}", "kill recorder of {n}")).format(n=node, p=peer)
    return [f"crash {peer} at {at_ms}ms", f"{hiccup} at {at_ms + rng.randint(300, 8_000)}ms for {_for(rng, 2, 8)}"]


def _outlets(rng: random.Random, _options: Options) -> list[str]:
    node = rng.choice(NODES)
    habit = rng.choice(("wrong-outlet", "shared-outlet", "busy", "late"))
    return [f"device 1 of {node} {habit} at 0s", f"cut everything at {_at(rng)} for {_for(rng, 15, 30)}"]


def _by_hand(rng: random.Random, _options: Options) -> list[str]:
    node, peer = rng.choice((("A", "B"), ("B", "A")))
    lines = [f"address by hand on {node} at {_at(rng)} for {_for(rng, 3, 20)}"]
    if rng.random() < 0.5:
        lines.append(f"pause vrrp of {peer} at {_at(rng)} for {_for(rng, 3, 12)}")
    return lines


def _gateway_moves(rng: random.Random, _options: Options) -> list[str]:
    lines = [f"move gateway at {_at(rng)} for {_for(rng, 5, 20)}"]
    if rng.random() < 0.6:
        lines.append(f"{rng.choice(('cut everything', 'cut eth0', 'crash A', 'crash B'))} at {_at(rng, 14, 26)} for {_for(rng, 8, 20)}")
    return lines


def _witness(rng: random.Random, _options: Options) -> list[str]:
    """The witness is lost or slow for one or both, in a cut."""
    what = rng.choice(("lose witness", f"lose witness of {rng.choice(NODES)}", "slow witness"))
    trouble = rng.choice(("cut everything", "cut everything", "drop vrrp", f"crash {rng.choice(NODES)}"))
    return [f"{what} at {_at(rng)} for {_for(rng, 5, 30)}", f"{trouble} at {_at(rng)} for {_for(rng, 12, 30)}"]


WIDER_STORIES: dict[str, tuple[int, Callable[[random.Random, Options], list[str]]]] = {
    "dead-port": (9, _dead_port),
    "shutdown": (5, _shutdown),
    "one-way-paths": (7, _one_way_paths),
    "asymmetric": (10, _asymmetric),
    "children": (6, _children),
    "machine": (6, _machine),
    "settings": (6, _settings),
    "stranger": (6, _stranger),
    "stranger-and-trouble": (8, _stranger_and_trouble),
    "restarts": (5, _restarts),
    "hiccup": (8, _hiccup),
    "outlets": (4, _outlets),
    "by-hand": (4, _by_hand),
    "gateway-moves": (3, _gateway_moves),
    "witness": (6, _witness),
}
"""Name -> (weight, what goes wrong)."""


def widen(rng: random.Random, options: Options) -> Options:
    """The options that the seeds below WIDER_FROM never have."""
    lans = rng.choice((1, 1, 1, 2))
    groups = rng.choice((2, 3, 4)) if lans == 2 else rng.choices((options.groups, 8, 30), weights=(20, 2, 1))[0]
    interval_ms = options.advert_interval_ms
    if options.vrrp_version == 3:
        interval_ms = rng.choice((100, 200, 500, 1_000, 1_000, 1_000, 3_000))
    mode_b = rng.choice((Mode.OBSERVE, Mode.RESOLVE)) if rng.random() < 0.06 else None
    return replace(
        options,
        lans=lans,
        groups=groups,
        advert_interval_ms=interval_ms,
        mode_b=None if mode_b is options.mode or options.mode is Mode.STRICT else mode_b,
        references=rng.choice((1, 1, 2)),
        node_addresses=rng.random() < 0.9,
        answers_arp=rng.random() < 0.93,
        yield_deadline_ms=rng.choice((1_500, 1_500, 1_500, 5_000)),
        witness=rng.random() < 0.25,
        measured_ms=rng.choice((MEASURED_F_MS, MEASURED_F_MS, 3_000)),
    )
