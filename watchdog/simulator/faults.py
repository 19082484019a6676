"""The language of faults: one line says what goes wrong, when and for how long.

    cut eth0 at 10s                        the service LAN no longer carries anything between the nodes
    cut eth0 of A at 10s for 5s            A's port carries nothing (its carrier stays)
    cut eth0 from A to B at 10s            one way only; also eth1, serial, everything
    heal everything at 12s for 300ms       what is cut works again for a moment
    pull eth0 of A at 10s                  A's interface loses its carrier
    drop vrrp at 10s                       a firewall drops protocol 112 (``drop vrrp from A to B``: one way)
    lose 20% on eth0 at 10s                also duplicate, corrupt, reorder; ``delay 80ms on eth0``
    pause vrrp of A at 10s for 5s          SIGSTOP: vrrp, braind, or all of the node
    kill braind of A at 10s for 3s         SIGKILL, started again after 3 s
    stop vrrp of A at 10s for 5s           SIGTERM (planned)
    reload vrrp of A at 10s                SIGHUP (planned)
    crash A at 10s for 8s                  power fails, comes back after 8 s
    turn on A at 20s                       a person turns the machine on, if it is off
    stall disk of A at 10s for 4s          nothing becomes durable
    silence gateway at 10s                 the reference answers nobody
    cut management of A at 10s             A cannot reach the power switches
    device 1 of A lies at 0s               level 1's device for A: lies, lies-always, slow, late, refuses, unreachable
    foreign claims at 10s                  a third host takes the first address
    handover of A at 10s                   an operator moves the addresses away from A (planned)
    maintenance of A at 10s for 10s        an operator's window (planned)
    step clock of A by 3600s at 10s        the wall clock jumps
    shut down A at 10s for 40s             an orderly shutdown in systemd's order: braind, the VRRP daemon, the power (planned)
    drop ethernet from A to B at 10s       a firewall drops the heartbeats of one path (ethernet, unicast, multicast), or ``drop arp``
    kill recorder of A at 10s for 2s       one child of braind dies alone (recorder, runner)
    stop braind of A at 10s for 2s         SIGTERM (planned); ``reload braind of A``: restarted in place
    fill disk of A at 10s                  every write is refused
    device 1 of A acts in 6000ms at 0s     how long an act takes; beyond the deadline it still happens; ``reads in``: a reading
    suspend A at 10s for 5s                the machine sleeps; CLOCK_BOOTTIME goes on. ``freeze A``: a VM is paused, it stands still
    revert A by 5s at 20s                  a VM goes back to its snapshot of 5 s ago, clock, memory and disk
    address by hand on A at 10s            somebody adds the first address without asking the daemon
    forge adverts of B at 10s for 8s       a stranger, ten times a second: adverts in B's name (priority 1), goodbye (priority 0), arp
                                           (B's and the first address are at the stranger's), gateway (answers for it)
    flood arp at 10s for 8s                a stranger sends ARP claims of random MACs; ``replay frames of A``: old heartbeats of A
    move gateway at 10s                    the reference has another MAC from now on
    set mode of B to observe at 10s        B's braind is restarted with another mode; also ``set rank of B to 1``, ``set delay of B to
                                           3000``, ``set key of B to other``
    lose witness of A at 10s               A cannot reach the witness (``lose witness``: neither can); ``slow witness``
    vouch at A at 20s                      a person tells A that its peer is off; ``clear A``: quarantine and latch; ``order off at A``

Instead of a time, ``on intent`` means: when the first intent to fence has become durable, and ``on fence``: when a power switch is told
to turn a node off. Such a fault strikes the node that fences, whichever is named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MS = 1_000_000
S = 1_000_000_000

PLANNED = ("stop", "reload", "handover", "maintenance", "shutdown")
"""Verbs that an operator would call a planned change."""

ON_FENCE, ON_INTENT = -1, -2
"""``at_ns`` of a fault that waits for the first fence, or for its durable intent."""
_MOMENTS = {"fence": ON_FENCE, "intent": ON_INTENT}

_NODE = r"(?P<node>[AB])"
_WAY = r"(?: of (?P<node>[AB])| from (?P<source>[AB]) to (?P<target>[AB]))?"
_LINK = r"(?P<link>eth0|eth1|eth2|serial|everything)"
_HABIT = "lies-always|lies|slow|late|refuses|unreachable|busy|wrong-outlet|shared-outlet"
_GRAMMAR: tuple[tuple[str, str], ...] = (
    ("cut", rf"cut {_LINK}{_WAY}"),
    ("heal", rf"heal {_LINK}{_WAY}"),
    ("cut-management", rf"cut management of {_NODE}"),
    ("pull", rf"pull (?P<link>eth0|eth1|eth2) of {_NODE}"),
    ("drop-vrrp", rf"drop vrrp{_WAY}"),
    ("drop-path", rf"drop (?P<link>ethernet|unicast|multicast|arp){_WAY}"),
    ("lose", r"lose (?P<value>\d+)% on (?P<link>eth0|eth1|serial)"),
    ("duplicate", r"duplicate (?P<value>\d+)% on (?P<link>eth0|eth1|serial)"),
    ("corrupt", r"corrupt (?P<value>\d+)% on (?P<link>eth0|eth1|serial)"),
    ("reorder", r"reorder (?P<value>\d+)% on (?P<link>eth0|eth1)"),
    ("delay", r"delay (?P<value>\d+)ms on (?P<link>eth0|eth1)"),
    ("pause", rf"pause (?P<link>vrrp|braind|all) of {_NODE}"),
    ("kill", rf"kill (?P<link>vrrp|braind|all) of {_NODE}"),
    ("kill-child", rf"kill (?P<link>recorder|runner) of {_NODE}"),
    ("stop", rf"stop (?P<link>vrrp|braind) of {_NODE}"),
    ("reload", rf"reload (?P<link>vrrp|braind) of {_NODE}"),
    ("shutdown", rf"shut down {_NODE}"),
    ("crash", rf"crash {_NODE}"),
    ("suspend", rf"suspend {_NODE}"),
    ("freeze", rf"freeze {_NODE}"),
    ("revert", rf"revert {_NODE} by (?P<value>\d+)s"),
    ("turn-on", rf"turn on {_NODE}"),
    ("stall-disk", rf"stall disk of {_NODE}"),
    ("fill-disk", rf"fill disk of {_NODE}"),
    ("silence", r"silence gateway"),
    ("move-gateway", r"move gateway"),
    ("device", rf"device (?P<value>[12]) of {_NODE} (?P<link>{_HABIT})"),
    ("device-time", rf"device (?P<level>[12]) of {_NODE} (?P<link>acts|reads) in (?P<value>\d+)ms"),
    ("lose-witness", rf"lose witness(?: of {_NODE})?"),
    ("slow-witness", r"slow witness"),
    ("foreign", r"foreign claims"),
    ("hand-address", rf"address by hand on {_NODE}"),
    ("forge", rf"forge (?P<link>adverts|goodbye|arp|gateway) of {_NODE}"),
    ("flood", r"flood arp"),
    ("replay", rf"replay frames of {_NODE}"),
    ("set", rf"set (?P<link>mode|rank|delay|key) of {_NODE} to (?P<word>[a-z0-9]+)"),
    ("vouch", rf"vouch at {_NODE}"),
    ("clear", rf"clear {_NODE}"),
    ("order-off", rf"order off at {_NODE}"),
    ("handover", rf"handover of {_NODE}"),
    ("maintenance", rf"maintenance of {_NODE}"),
    ("step-clock", rf"step clock of {_NODE} by (?P<value>\d+)s"),
)
_SPAN = r"\d+(?:\.\d+)?"
_WHEN = re.compile(
    rf"^(?P<what>.*?)(?: at (?P<at>{_SPAN})(?P<unit>ms|s)| on (?P<moment>fence|intent))"
    rf"(?: for (?P<span>{_SPAN})(?P<spanunit>ms|s))?$"
)
_COMPILED = tuple((verb, re.compile(f"^{pattern}$")) for verb, pattern in _GRAMMAR)


class FaultSyntaxError(ValueError):
    """A line is not in the language; the message says what is."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. ``at_ns`` counts from the start of the run (or is ON_FENCE, ON_INTENT);
    ``for_ns`` 0 means: until the healing phase. ``text`` is what was said, without the times."""

    verb: str
    text: str
    at_ns: int
    for_ns: int = 0
    node: str = ""
    source: str = ""
    target: str = ""
    link: str = ""
    value: int = 0
    planned: bool = field(default=False)
    level: int = 1
    word: str = ""

    def __str__(self) -> str:
        moment = next((name for name, value in _MOMENTS.items() if value == self.at_ns), "")
        when = f" on {moment}" if moment else f" at {_seconds(self.at_ns)}"
        return self.text + when + (f" for {_seconds(self.for_ns)}" if self.for_ns else "")


def _seconds(span_ns: int) -> str:
    if span_ns % S == 0:
        return f"{span_ns // S}s"
    return f"{span_ns / MS:g}ms"


def _to_ns(number: str, unit: str) -> int:
    return round(float(number) * (S if unit == "s" else MS))


def parse_fault(line: str) -> Fault:
    """Read one line of the language above. Raises FaultSyntaxError."""
    text = " ".join(line.split())
    when = _WHEN.match(text)
    if when is None:
        raise FaultSyntaxError(f"{line!r}: say when: '… at 10s', '… at 10s for 5s', '… on intent' or '… on fence'")
    what = when["what"]
    at_ns = _MOMENTS[when["moment"]] if when["moment"] else _to_ns(when["at"], when["unit"])
    for_ns = _to_ns(when["span"], when["spanunit"]) if when["span"] else 0
    for verb, pattern in _COMPILED:
        found = pattern.match(what)
        if found is None:
            continue
        parts = found.groupdict()
        return Fault(
            verb=verb,
            text=what,
            at_ns=at_ns,
            for_ns=for_ns,
            node=parts.get("node") or "",
            source=parts.get("source") or "",
            target=parts.get("target") or "",
            link=parts.get("link") or "",
            value=int(parts.get("value") or 0),
            planned=verb in PLANNED,
            level=int(parts.get("level") or 1),
            word=parts.get("word") or "",
        )
    raise FaultSyntaxError(f"{line!r}: nothing in the language of faults (docs/SIMULATOR.md) looks like this")
