"""Takeover above the protocol floor: the master dies, when is its address usable at the backup?

floor = the last advert of the dead master on the wire + Master_Down_Interval (RFC 5798). ``address_ms``: floor → the backup's
kernel has the address; ``arp_ms``: floor → the first ARP answer on the wire. The detector asks every GRID_NS around the floor, in a busy
loop, so that its grid is a small part of what is measured; answers are stamped by the kernel.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from bench.daemons import vrrp_daemon
from bench.lab import Lab
from bench.observer import Observer, first_after

PRIORITY = {"a": 150, "b": 100}
GRID_NS = 100_000
LEAD_NS = 20_000_000
"""The dense probing begins so long before the floor; ours and keepalived's processes run beside it for the whole of it."""
LONGEST_NS = 200_000_000


def measure_takeover(name: str, *, version: int = 3, interval_s: float = 0.1, rt_priority: int = 0) -> dict[str, float]:
    """One run of one daemon on both nodes; raises RuntimeError if the pair never worked."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        observer = Observer(lab)
        nodes = {
            role: vrrp_daemon(
                lab,
                role,
                name,
                Path(directory) / role,
                priority=PRIORITY[role],
                version=version,
                interval_s=interval_s,
                rt_priority=rt_priority,
            )
            for role in "ab"
        }
        try:
            nodes["a"].start()
            if not observer.run(30, lambda: observer.answering("a")):
                raise RuntimeError(f"{name}: a never became master: {(Path(directory) / 'a/log').read_text()[-800:]}")
            nodes["b"].start()
            if not observer.run(30, nodes["b"].listening):
                raise RuntimeError(f"{name}: b does not listen: {(Path(directory) / 'b/log').read_text()[-800:]}")
            observer.run(1.0 + 10 * interval_s)
            if observer.answering("b") or not observer.answering("a"):
                raise RuntimeError(f"{name}: the pair did not settle with a as the only owner")
            observer.run(random.uniform(0, interval_s))  # any phase of the advert timer
            killed_ns = time.time_ns()
            nodes["a"].kill()
            lab.unplug("a")
            observer.run(0.005)  # an advert that was on its way
            floor_ns = _floor_ns(observer, version, interval_s)
            taken_over = lambda: bool(first_after(observer.answers["b"], killed_ns))  # noqa: E731
            if not observer.run_dense(floor_ns - LEAD_NS, floor_ns + LONGEST_NS, GRID_NS, taken_over) and not observer.run(30, taken_over):
                raise RuntimeError(f"{name}: b did not take over")
            observer.run(0.1)
        finally:
            for node in nodes.values():
                node.kill()
            observer.close()
        added, answered = first_after(observer.address_added["b"], killed_ns), first_after(observer.answers["b"], killed_ns)
        assert added is not None
        assert answered is not None
        advert = next(t for t, _priority in observer.adverts["b"] if t > killed_ns)
        return {"advert_ms": (advert - floor_ns) / 1e6, "address_ms": (added - floor_ns) / 1e6, "arp_ms": (answered - floor_ns) / 1e6}


def _floor_ns(observer: Observer, version: int, interval_s: float) -> int:
    """The last advert of a (CLOCK_REALTIME) + Master_Down_Interval of b."""
    last_ns, priority = observer.adverts["a"][-1]
    if not priority:
        raise RuntimeError("the killed master said priority 0: this run measures no takeover by silence")
    skew = (256 - PRIORITY["b"]) / 256
    return last_ns + int(((3 + skew) * interval_s if version == 3 else 3 * interval_s + skew) * 1e9)
