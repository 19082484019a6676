"""What goes wrong in a run: the scenarios of the demo, and worse, drawn from the seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from watchdog.config.model import Mode
from watchdog.simulator.faults import Fault, S, parse_fault
from watchdog.simulator.options import NODES, Options
from watchdog.simulator.wider import WIDER_FROM, WIDER_STORIES, widen

Story = Callable[[random.Random, "Options"], list[str]]
FIRST_FAULT_S = 10
"""Everything has settled by then."""


def _when(rng: random.Random, low: int = FIRST_FAULT_S, high: int = 20) -> str:
    return f"{rng.randint(low * 1000, high * 1000)}ms"


def _span(rng: random.Random, low: int, high: int) -> str:
    return f"{rng.randint(low * 10, high * 10) * 100}ms"


def _quiet(_rng: random.Random, _options: Options) -> list[str]:
    return []


def _cut_heartbeat(rng: random.Random, _options: Options) -> list[str]:
    return [f"drop vrrp at {_when(rng)} for {_span(rng, 12, 30)}"]


def _cut_ethernet(rng: random.Random, _options: Options) -> list[str]:
    at = _when(rng)
    return [f"cut eth0 at {at}", f"cut eth1 at {at}"]


def _cut_lan(rng: random.Random, _options: Options) -> list[str]:
    return [f"cut eth0 at {_when(rng)} for {_span(rng, 8, 30)}"]


def _cut_everything(rng: random.Random, _options: Options) -> list[str]:
    return [f"cut everything at {_when(rng)} for {_span(rng, 15, 40)}"]


def _cut_management_too(rng: random.Random, _options: Options) -> list[str]:
    at = _when(rng)
    return [f"cut management of A at {at}", f"cut management of B at {at}", f"cut everything at {at}"]


def _hang(rng: random.Random, _options: Options) -> list[str]:
    return [f"pause vrrp of {rng.choice(NODES)} at {_when(rng)} for {_span(rng, 4, 25)}"]


def _hang_all(rng: random.Random, _options: Options) -> list[str]:
    return [f"pause all of {rng.choice(NODES)} at {_when(rng)} for {_span(rng, 1, 30)}"]


def _orphan(rng: random.Random, _options: Options) -> list[str]:
    return [f"kill vrrp of {rng.choice(NODES)} at {_when(rng)} for {_span(rng, 2, 25)}"]


def _orphan_all(rng: random.Random, _options: Options) -> list[str]:
    return [f"kill all of {rng.choice(NODES)} at {_when(rng)} for {_span(rng, 3, 30)}"]


def _one_way(rng: random.Random, _options: Options) -> list[str]:
    source, target = rng.choice((("A", "B"), ("B", "A")))
    what = rng.choice(("drop vrrp", "cut eth0", "cut everything"))
    return [f"{what} from {source} to {target} at {_when(rng)} for {_span(rng, 8, 25)}"]


def _foreign(rng: random.Random, _options: Options) -> list[str]:
    return [f"foreign claims at {_when(rng)} for {_span(rng, 5, 20)}"]


def _planned(rng: random.Random, _options: Options) -> list[str]:
    lines = []
    for index in range(rng.randint(1, 3)):
        node = rng.choice(NODES)
        verb = rng.choice(
            ("stop vrrp of {n} at {t} for 3s", "reload vrrp of {n} at {t}", "handover of {n} at {t}", "maintenance of {n} at {t} for 6s")
        )
        lines.append(verb.format(n=node, t=_when(rng, FIRST_FAULT_S + 12 * index, FIRST_FAULT_S + 12 * index + 3)))
    return lines


def _watcher_dies(rng: random.Random, _options: Options) -> list[str]:
    return [f"{rng.choice(('kill', 'pause'))} braind of {rng.choice(NODES)} at {_when(rng)} for {_span(rng, 2, 20)}"]


def _lying_fence(rng: random.Random, _options: Options) -> list[str]:
    node = rng.choice(NODES)
    other = "B" if node == "A" else "A"
    habit = rng.choice(("lies", "lies", "late", "slow", "refuses", "unreachable", "lies-always"))
    # One channel still answers: the target's kernel (ARP), with every process stopped; or it comes back after the act.
    cause = rng.choice(
        (
            f"pause all of {node} at {_when(rng)}",
            f"kill all of {node} at {_when(rng)}",
            f"cut everything at {_when(rng)} for {_span(rng, 14, 30)}",
        )
    )
    lines = [f"device 1 of {node} {habit} at 0s", cause]
    if rng.random() < 0.5:
        lines.append(f"device 1 of {other} {habit} at 0s")
    for target in NODES:
        if rng.random() < 0.5:
            lines.append(f"device 2 of {target} {rng.choice(('lies', 'unreachable', 'refuses'))} at 0s")
    return lines


def _killed_in_the_act(rng: random.Random, _options: Options) -> list[str]:
    node = rng.choice(NODES)
    cause = rng.choice((f"cut everything at {_when(rng)}", f"pause all of {'B' if node == 'A' else 'A'} at {_when(rng)}"))
    return [cause, f"{rng.choice(('kill', 'kill', 'pause'))} braind of {node} on fence for {_span(rng, 1, 6)}"]


def _isolation(rng: random.Random, _options: Options) -> list[str]:
    node = rng.choice(("A", "A", "B"))
    at = _when(rng)
    lan = rng.choice((f"cut eth0 of {node} at {at}", f"pull eth0 of {node} at {at}"))
    if rng.random() < 0.3:
        return [f"{lan} for {_span(rng, 8, 25)}"]
    return [lan, f"cut eth1 of {node} at {at}", f"cut serial at {at}"]


def _late_trouble(rng: random.Random, options: Options) -> list[str]:
    """While a fence waits or is prepared, the fencer itself falls into trouble: only the second look sees it."""
    at_ms = rng.randint(10_000, 18_000)
    lines = [f"cut everything at {at_ms}ms"]
    if rng.random() < 0.6:
        silent_ms = 2_000 if "serial" in options.paths else 5 * options.beat_ms
        act_ms = at_ms + silent_ms + options.confirm_ms + 400
        return [*lines, f"silence gateway at {act_ms - rng.randint(1_900, 2_700)}ms"]
    trouble = rng.choice(("pause all of A", "pause braind of A", "pause braind of A", "pull eth0 of A"))
    lines.append(f"{trouble} on intent for {rng.randint(600, 1900)}ms")
    if rng.random() < 0.4:
        lines.append("cut management of A at 5s")
    return lines


def _believed(rng: random.Random, _options: Options) -> list[str]:
    """Every device says done and does nothing, and nothing is heard: only a word speaks for the fence."""
    lies = [f"device {level} of {node} lies at 0s" for level in (1, 2) for node in NODES]
    return [*lies, f"cut everything at {_when(rng, 10, 14)} for 40s"]


def _gateway(rng: random.Random, _options: Options) -> list[str]:
    lines = [f"silence gateway at {_when(rng)}"]
    if rng.random() < 0.6:
        lines.append(f"{rng.choice(('cut everything', 'cut eth0', 'drop vrrp'))} at {_when(rng, 12, 25)}")
    return lines


def _stall(rng: random.Random, _options: Options) -> list[str]:
    lines = [
        f"pause {rng.choice(('braind', 'all', 'all'))} of {node} at {_when(rng)} for {_span(rng, 1, 8)}"
        for node in NODES[: rng.randint(1, 2)]
    ]
    if rng.random() < 0.5:
        lines.append(f"pause all of {rng.choice(NODES)} at {_when(rng, 22, 30)} for {_span(rng, 1, 8)}")
    return lines


def _sick_disk(rng: random.Random, _options: Options) -> list[str]:
    node = rng.choice(NODES)
    other = "B" if node == "A" else "A"
    lines = [f"stall disk of {node} at {_when(rng)} for {_span(rng, 3, 20)}"]
    lines.append(
        rng.choice((f"crash {other} at {_when(rng)} for 15s", f"cut everything at {_when(rng)}", f"pause all of {other} at {_when(rng)}"))
    )
    return lines


def _crash(rng: random.Random, _options: Options) -> list[str]:
    return [f"crash {rng.choice(NODES)} at {_when(rng)} for {_span(rng, 4, 25)}"]


def _again_and_again(rng: random.Random, _options: Options) -> list[str]:
    """The same trouble whenever the fenced node is back: the budget must end this."""
    lines = []
    for start_s in (11, 41):
        lines.append(rng.choice(("cut everything at {t}s for 17s", "cut everything at {t}s for 22s")).format(t=start_s))
        lines += [f"turn on {node} at {start_s + 19}s" for node in NODES]
    return lines


def _bad_network(rng: random.Random, _options: Options) -> list[str]:
    lines = []
    for link in rng.sample(("eth0", "eth1", "serial"), rng.randint(1, 3)):
        what = rng.choice(("lose", "duplicate", "corrupt") if link == "serial" else ("lose", "duplicate", "corrupt", "reorder"))
        lines.append(f"{what} {rng.choice((2, 5, 10, 25))}% on {link} at {_when(rng)}")
    if rng.random() < 0.3:
        lines.append(f"delay {rng.choice((20, 80, 200))}ms on eth0 at {_when(rng)}")
    return lines


def _anything(rng: random.Random, options: Options) -> list[str]:
    tellers = (
        _cut_heartbeat,
        _cut_lan,
        _hang,
        _hang_all,
        _orphan,
        _one_way,
        _watcher_dies,
        _isolation,
        _gateway,
        _stall,
        _crash,
        _bad_network,
    )
    lines: list[str] = []
    for teller in rng.sample(tellers, rng.randint(2, 3)):
        lines += teller(rng, options)
    if rng.random() < 0.3:
        lines.append(f"step clock of {rng.choice(NODES)} by {rng.choice((3600, 86400))}s at {_when(rng)}")
    return lines


STORIES: dict[str, tuple[int, Story]] = {
    "quiet": (3, _quiet),
    "cut-heartbeat": (9, _cut_heartbeat),
    "cut-ethernet": (5, _cut_ethernet),
    "cut-lan": (5, _cut_lan),
    "cut-everything": (9, _cut_everything),
    "cut-everything-and-management": (3, _cut_management_too),
    "hang": (4, _hang),
    "hang-all": (7, _hang_all),
    "orphan": (4, _orphan),
    "orphan-all": (5, _orphan_all),
    "one-way": (6, _one_way),
    "foreign": (2, _foreign),
    "planned": (5, _planned),
    "watcher-dies": (4, _watcher_dies),
    "lying-fence": (9, _lying_fence),
    "killed-in-the-act": (6, _killed_in_the_act),
    "isolation": (7, _isolation),
    "late-trouble": (6, _late_trouble),
    "believed": (4, _believed),
    "gateway": (3, _gateway),
    "stall": (7, _stall),
    "sick-disk": (5, _sick_disk),
    "crash": (4, _crash),
    "again": (5, _again_and_again),
    "bad-network": (4, _bad_network),
    "anything": (10, _anything),
}
"""Name -> (weight, what goes wrong)."""


FENCING_STORIES = ("again", "believed", "isolation", "killed-in-the-act", "late-trouble", "lying-fence")
"""Stories that mean nothing to a pair that cannot fence."""


def draw_options(seed: int, faults: tuple[Fault, ...] | None = None) -> Options:
    """The run of ``seed``; with ``faults`` its own are replaced by these."""
    rng = random.Random(f"{seed}/options")  # noqa: S311 - reproducible on purpose
    story = rng.choices(tuple(STORIES), weights=[weight for weight, _ in STORIES.values()])[0]
    version = rng.choice((2, 3, 3))
    interval_ms = 1_000 if version == 2 else rng.choice((200, 500, 1_000))
    mode = rng.choices((Mode.OBSERVE, Mode.RESOLVE, Mode.STRICT), weights=(1, 4, 3))[0]
    paths = rng.choice(
        (
            ("ethernet", "unicast", "serial"),
            ("ethernet", "unicast"),
            ("multicast", "unicast", "serial"),
            ("ethernet", "serial"),
            ("ethernet", "multicast", "unicast", "serial"),
        )
    )
    wider = seed >= WIDER_FROM
    if wider and rng.random() < 0.67:
        story = rng.choices(tuple(WIDER_STORIES), weights=[weight for weight, _ in WIDER_STORIES.values()])[0]
    options = Options(
        seed=seed,
        story=story if faults is None else "as told",
        mode=mode,
        daemon=rng.choice(("vrrpd", "keepalived")),
        groups=rng.choice((1, 1, 1, 2)),
        vrrp_version=version,
        advert_interval_ms=interval_ms,
        preempt=rng.random() < 0.7,
        paths=paths,
        beat_ms=rng.choice((200, 200, 300)),
        reference=rng.random() < 0.85,
        fence_levels=rng.choice((1, 2, 2)),
        fence_enabled=rng.random() < 0.9,
        enrolled=rng.random() < 0.75,
        budget_per_hour=rng.choice((1, 1, 2, 3)),
        confirm_ms=rng.choice((1_000, 1_000, 1_500)),
        bridge_adverts=rng.random() < 0.6,
        use_vmac=seed % 4 == 1,  # not drawn: the other seeds keep the runs that they had before
        device_deadline_ms=6_000,
        faults=(),
        safety_ns=45 * S,
        healing_ns=45 * S,
    )
    if wider:
        options = widen(rng, options)
    if faults is None:
        faults = tuple(parse_fault(line) for line in (STORIES | WIDER_STORIES)[story][1](rng, options))
    last_ns = max((max(f.at_ns, 0) + f.for_ns for f in faults), default=0)
    safety_ns = min(max(28 * S, last_ns + 6 * S), 70 * S)
    if story in FENCING_STORIES and options.mode is not Mode.OBSERVE:
        options = replace(options, fence_enabled=True, reference=True)
    if story in ("lying-fence", "believed"):
        options = replace(options, enrolled=rng.random() < 0.4)
    return replace(options, faults=faults, safety_ns=safety_ns)
