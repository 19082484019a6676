"""Takeover above the protocol floor: the master dies, when is its address usable at the backup?

floor = the last advert of the dead master on the wire + Master_Down_Interval (RFC 5798). ``address_ms``: floor → the backup's
kernel has the address; ``arp_ms``: floor → the first ARP answer (1 ms grid of the detector, the same for both daemons).
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


def measure_takeover(name: str, *, version: int = 3, interval_s: float = 0.1) -> dict[str, float]:
    """One run of one daemon on both nodes; raises RuntimeError if the pair never worked."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        observer = Observer(lab)
        nodes = {
            role: vrrp_daemon(lab, role, name, Path(directory) / role, priority=PRIORITY[role], version=version, interval_s=interval_s)
            for role in "ab"
        }
        try:
            nodes["a"].start()
            if not observer.run(30, lambda: observer.answering("a")):
                raise RuntimeError(f"{name}: a never became master: {(Path(directory) / 'a/log').read_text()[-800:]}")
            nodes["b"].start()
            observer.run(3.0 + 10 * interval_s)
            if observer.answering("b") or not observer.answering("a"):
                raise RuntimeError(f"{name}: the pair did not settle with a as the only owner")
            observer.run(random.uniform(0, interval_s))  # any phase of the advert timer
            killed_ns = time.time_ns()
            nodes["a"].kill()
            lab.unplug("a")
            if not observer.run(30, lambda: bool(first_after(observer.answers["b"], killed_ns))):
                raise RuntimeError(f"{name}: b did not take over")
            observer.run(0.1)
        finally:
            for node in nodes.values():
                node.kill()
            observer.close()
        skew = (256 - PRIORITY["b"]) / 256
        floor_s = (3 + skew) * interval_s if version == 3 else 3 * interval_s + skew
        floor_ns = observer.adverts["a"][-1][0] + int(floor_s * 1e9)
        added, answered = first_after(observer.address_added["b"], killed_ns), first_after(observer.answers["b"], killed_ns)
        assert added is not None
        assert answered is not None
        advert = next(t for t, _priority in observer.adverts["b"] if t > killed_ns)
        return {"advert_ms": (advert - floor_ns) / 1e6, "address_ms": (added - floor_ns) / 1e6, "arp_ms": (answered - floor_ns) / 1e6}
