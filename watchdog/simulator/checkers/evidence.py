"""Promise 1: a confirmed split rests on two kinds of evidence, time and a census, and it is true."""

from __future__ import annotations

from base.core import NS_PER_MS, NS_PER_S
from watchdog.judgement.commands import Persist, Row, RowKind, WatcherCommand
from watchdog.simulator.checker import Checker
from watchdog.simulator.checkers.observer import NEVER, Observer, other

FRESH_NS = 3_500 * NS_PER_MS
FORGING = ("forge", "flood", "foreign")
"""A stranger can make anybody believe in a second owner: that may page, and nothing more (promise 11)."""
STALE_TRUTH_NS = 2_500 * NS_PER_MS
"""How long a fact may outlive what it was about: the slowest path's silence plus a census interval."""


class Evidence(Checker):
    """Looks at every verdict at the moment it is decided."""

    name = "evidence"

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._suspected: dict[tuple[str, str], int] = {}

    def command(self, node: str, command: WatcherCommand) -> None:
        """Verdict rows."""
        if type(command) is Persist:
            for row in command.rows:
                if row.kind is RowKind.VERDICT:
                    self._verdict(node, row)

    def _verdict(self, node: str, row: Row) -> None:
        fields = dict(row.fields)
        scope, verdict, stage = str(fields["scope"]), str(fields["verdict"]), str(fields["stage"])
        if verdict == "SPLIT_BRAIN" and scope != "pair":
            if stage == "confirmed":
                self._confirmed_split(node, scope)
            else:
                self._suspected.setdefault((node, scope), self._observer.now_ns)
        else:
            self._suspected.pop((node, scope), None)
        if verdict in ("PEER_DEAD", "PEER_HUNG") and stage == "confirmed":
            self._confirmed_dead(node, verdict)

    def _confirmed_split(self, node: str, scope: str) -> None:
        observer, now_ns = self._observer, self._observer.now_ns
        told = observer.told[node]
        vips = observer.vips_of(scope)
        holds = any(self.world.machines[node].kernel.holds(vip) for vip in vips)
        peer_held = any(observer.overlapped(vip, now_ns - STALE_TRUTH_NS) for vip in vips)
        answers = any(now_ns - max(told.claims.get(v, NEVER), told.foreign_claims.get(v, NEVER)) <= FRESH_NS for v in vips)
        advert = now_ns - told.adverts.get(scope, NEVER) <= FRESH_NS + 3 * self.world.options.advert_interval_ms * NS_PER_MS
        report = peer_held and now_ns - told.last_frame() <= FRESH_NS
        if sum((holds, answers, advert, report)) < 2:
            self.broken(node, f"split of {scope} confirmed on {holds=} {answers=} {advert=} {report=}")
        if not peer_held and not any(verb in self._observer.struck for verb in FORGING):
            self.broken(node, f"split of {scope} confirmed, but there were no two owners in the last {STALE_TRUTH_NS // NS_PER_MS} ms")
        since_ns = self._suspected.get((node, scope))
        confirm_ns = self.world.options.confirm_ms * NS_PER_MS
        if since_ns is None or now_ns - since_ns < confirm_ns - NS_PER_MS:
            self.broken(node, f"split of {scope} confirmed without being suspected for {self.world.options.confirm_ms} ms")
        lan = self.world.segments["eth0"].ports[node]
        if lan.carrier and not any(told.probes.get(vip, NEVER) >= (since_ns or 0) for vip in vips):
            self.broken(node, f"split of {scope} confirmed without a census since it was suspected")

    def _confirmed_dead(self, node: str, verdict: str) -> None:
        """Nobody whose frames arrive is dead."""
        heard = self._observer.told[node].frames_since(self._observer.now_ns - NS_PER_S)
        if heard >= 3:
            self.broken(node, f"{verdict} confirmed, but {heard} intact frames of {other(node)} arrived within the last second")
