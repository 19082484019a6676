"""The stage on which a scenario is played: the laboratory, the daemons, a clock, and the eyes of the observers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from brainctl.demo import daemons, measure
from brainctl.demo.daemons import Setup
from brainctl.demo.kernel import nft
from brainctl.demo.lab import Lab
from brainctl.demo.node import LabError, Node
from brainctl.demo.outcome import Outcome
from brainctl.demo.record import Record, in_words
from brainctl.demo.status import ask_document

TICK_S = 0.02
SETTLE_TIMEOUT_S = 25.0
ENROLMENT_TIMEOUT_S = 60.0
AFTER_FAILURE_S = 3.0
VRRP_FIREWALL = "table ip tutorial_firewall"


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the story. ``t_ns``: CLOCK_REALTIME."""

    t_ns: int
    text: str


class Stage:
    """What a scenario may do and see. ``on_tick`` and ``on_say`` feed the view."""

    def __init__(self, lab: Lab, setup: Setup, *, on_tick: Callable[[Stage], None], on_say: Callable[[Stage, Happening], None]) -> None:
        self.lab, self.setup = lab, setup
        self.rng = random.Random(f"moments/{lab.plan.seed}")  # noqa: S311
        self._on_tick, self._on_say = on_tick, on_say
        self.story: list[Happening] = []
        self.in_vain: list[str] = []
        self.records = {name: Record(name, lab.record_watch.events) for name in lab.nodes}
        self.settled_ns = 0
        self._told = 0

    # ---- time ------------------------------------------------------------------------------------------------------------------------
    def say(self, text: str) -> None:
        """Tell what happens."""
        happening = Happening(time.time_ns(), text)
        self.story.append(happening)
        self._on_say(self, happening)

    def tick(self) -> None:
        """Let the laboratory do its chores and the view draw; a few milliseconds."""
        for event in self.lab.tend():
            if event["event"] == "off":
                self.say(f"power of {event['node']} is cut ({event['device']})")
            elif event["event"] == "ignored":
                self.say(f"{event['device']} of {event['node']} was told to switch {event['power']}, says it did, and did nothing")
        self._tell_what_was_recorded()
        self._on_tick(self)
        time.sleep(TICK_S)

    def _tell_what_was_recorded(self) -> None:
        events = self.lab.record_watch.events
        while self._told < len(events):
            event = events[self._told]
            self._told += 1
            text = in_words(event) if self.settled_ns else ""
            if text:
                self.say(f"    {event['node']}: {text}")

    def hold(self, seconds: float) -> None:
        """Let time pass."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.tick()

    def moment(self) -> None:
        """Let a random part of two advert intervals pass, so that faults fall anywhere in their phase."""
        self.hold(self.rng.uniform(0.2, 0.2 + 2 * self.setup.advert_ms / 1000))

    def wait(self, what: str, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait for a condition; what does not come in time fails the scenario under the name ``what``.

        After one wait in vain the scenario has failed, and the others are cut short.
        """
        within_s = min(within_s, AFTER_FAILURE_S) if self.in_vain else within_s
        until = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > until:
                self.in_vain.append(f"waited {within_s:g} s in vain: {what}")
                return False
            self.tick()
        return True

    def watch_until(self, condition: Callable[[], bool], at_most_s: float) -> None:
        """Let time pass until a condition holds or ``at_most_s`` is over; neither is a failure."""
        until = time.monotonic() + at_most_s
        while not condition() and time.monotonic() < until:
            self.tick()

    # ---- eyes ------------------------------------------------------------------------------------------------------------------------
    def owners(self) -> list[str]:
        """Who answers for the VIP now."""
        return measure.recent_owners(self.lab.observer.events, time.time_ns())

    def client_sees(self) -> str:
        """Who answered the client last."""
        return measure.client_owner(self.lab.client_program.events, time.time_ns())

    def owned_by(self, *nodes: str, for_s: float = 0.6) -> Callable[[], bool]:
        """A condition: exactly these nodes have answered for the VIP for a while."""
        since: list[float] = []

        def condition() -> bool:
            if self.owners() != sorted(nodes):
                since.clear()
                return False
            since[:] = since or [time.monotonic()]
            return time.monotonic() - since[0] >= for_s

        return condition

    def one_owner(self, for_s: float = 0.6) -> Callable[[], bool]:
        """A condition: one and the same node has been the only owner for a while."""
        state: list[tuple[str, float]] = []

        def condition() -> bool:
            owners = self.owners()
            if len(owners) != 1:
                state.clear()
                return False
            if not state or state[0][0] != owners[0]:
                state[:] = [(owners[0], time.monotonic())]
            return time.monotonic() - state[0][1] >= for_s

        return condition

    def two_owners(self) -> bool:
        """A condition: two hosts answer for the VIP."""
        return len(self.owners()) == 2

    @property
    def both_will_own(self) -> bool:
        """Whether the backup is sure to take the VIP when it misses adverts: nobody holds it (strict), nobody bridges adverts (vrrpd)."""
        return self.setup.mode == "observe" or (self.setup.daemon == "keepalived" and self.setup.mode != "strict")

    def client_follows(self) -> bool:
        """A condition: the client is served by the only owner (its neighbour cache does not point at a dead host)."""
        owners = self.owners()
        return len(owners) == 1 and self.client_sees() == owners[0]

    def fence_is_proved_and_told(self) -> None:
        """Wait for all that must follow a fence: one owner, the proof in a record, a page, and a client that is served again."""
        self.wait("one owner", self.one_owner(1.0), 15.0)
        self.wait("the client is served by the owner", self.client_follows, 5.0)
        self.wait("the fence is proved in the record", lambda: self.recorded_fence("proved"), 15.0)
        self.wait("a person is paged", lambda: bool(self.lab.pager.events), 10.0)

    def node(self, name: str) -> Node:
        """A node."""
        return self.lab.nodes[name]

    # ---- daemons ---------------------------------------------------------------------------------------------------------------------
    def raise_pair(self) -> None:
        """Write the files, start the daemons on both nodes, and wait until A alone owns the VIP and both watchers are content."""
        daemons.write_files(self.lab, self.setup)
        self.say(f"two nodes with {self.setup.daemon}, mode {self.setup.mode}, VIP {self.lab.plan.vip}, VRID {self.lab.plan.vrid}")
        for node in self.lab.nodes.values():
            daemons.prepare_boot(node)
            daemons.start_vrrp(node, self.setup)
        if self.setup.brain:
            self._enrol()
            for name in self.lab.nodes:
                self.start_brain(name)
        if not self.wait("A alone owns the VIP", self.owned_by("A", for_s=1.0), SETTLE_TIMEOUT_S):
            raise LabError("the pair did not become healthy: A never was the only owner")
        self._nothing_died()
        if self.setup.brain and not self.wait("both records say HEALTHY", self.all_healthy, SETTLE_TIMEOUT_S):
            raise LabError("the pair did not become healthy: no HEALTHY verdict on both nodes")
        self.settled_ns = time.time_ns()
        self.say("the pair is healthy: A owns the VIP, B waits")

    def _nothing_died(self) -> None:
        for node in self.lab.nodes.values():
            for name, job in node.jobs.items():
                if name != "enrolment" and (status := node.exit_status(job)) is not None:
                    raise LabError(f"{name} on {node.name} ended with status {status}; see {node.disk / 'log' / name}.log")

    def _enrol(self) -> None:
        """Check and enrol the power switches from A, and copy what was found to B, as one would by hand."""
        node, other = self.lab.nodes["A"], self.lab.nodes["B"]
        daemons.start_enrolment(node)
        if not node.wait_exit("enrolment", ENROLMENT_TIMEOUT_S) or node.exit_status(node.jobs["enrolment"]) not in (0, 1):
            raise LabError(f"{node.name} could not enrol the power switches; see {node.disk / 'log' / 'enrolment.log'}")
        daemons.copy_enrolment(node, other)
        self.say("the power switches are checked and enrolled")

    def start_daemons(self, name: str) -> None:
        """What the unit files start at boot."""
        node = self.lab.nodes[name]
        daemons.prepare_boot(node)
        daemons.start_vrrp(node, self.setup)
        if self.setup.brain:
            daemons.start_brain(node, self.setup)

    def start_brain(self, name: str) -> None:
        """Start braind again, as systemd would."""
        daemons.start_brain(self.lab.nodes[name], self.setup)

    def start_vrrp(self, name: str) -> None:
        """Start the VRRP daemon again."""
        daemons.start_vrrp(self.lab.nodes[name], self.setup)

    def all_healthy(self) -> bool:
        """A condition: the last verdict about the pair is HEALTHY in both records."""
        return all(record.last_verdict() == "HEALTHY" for name, record in self.records.items() if self.lab.nodes[name].on)

    # ---- faults that take more than one call -------------------------------------------------------------------------------------------
    def firewall_drops_vrrp(self) -> None:
        """The classical lab test: both nodes' firewalls drop protocol 112."""
        for node in self.lab.nodes.values():
            nft(
                node.network,
                f"add {VRRP_FIREWALL}\nadd chain ip tutorial_firewall input {{ type filter hook input priority 0; }}\n"
                "add rule ip tutorial_firewall input ip protocol 112 drop\n",
            )

    def firewall_is_mended(self) -> None:
        """Take the rules away."""
        for node in self.lab.nodes.values():
            if node.on:
                nft(node.network, f"add {VRRP_FIREWALL}\ndelete {VRRP_FIREWALL}\n")

    def power_on(self, name: str) -> None:
        """An operator presses the button at the node's first power switch."""
        self.lab.boot(name)

    def recorded_fence(self, state: str) -> bool:
        """A condition: some node recorded that a fence reached this state."""
        return any(state in record.fence_states() for record in self.records.values())

    def about_to_fence(self) -> bool:
        """A condition: a braind waits out its delay before a fence."""
        documents = [ask_document(node) for node in self.lab.nodes.values()]
        return any(document is not None and (document.get("fence") or {}).get("running") for document in documents)

    def asked_to_act(self) -> str | None:
        """The node whose power switch was ordered to switch since the pair was healthy, or None."""
        for (name, _device), program in self.lab.power.items():
            if any(e["event"] == "asked" and e["method"] == "PUT" and e["t"] > self.settled_ns for e in program.events):
                return name
        return None

    # ---- afterwards --------------------------------------------------------------------------------------------------------------------
    def outcome(self) -> Outcome:
        """Measure what has happened since the pair was healthy."""
        now = time.time_ns()
        owned = measure.ownerships(list(self.lab.observer.events))
        found = [split for split in measure.splits(owned) if split.ended_ns > self.settled_ns]
        result = Outcome(watched=self.setup.brain, owners_after=self.owners(), in_vain=list(self.in_vain))
        result.cut_power = sum(
            1 for program in self.lab.power.values() for event in program.events if event["event"] == "off" and event["t"] > self.settled_ns
        )
        result.alerts = len(self.lab.pager.events)
        if self.settled_ns:
            result.client_outage_ms = measure.client_outage_ms(self.lab.client_program.events, self.settled_ns, now)
        for record in self.records.values():
            result.verdicts |= record.verdicts(self.settled_ns)
            result.fence_states += record.fence_states()
        if found:
            began = found[0].began_ns
            result.split_ms = sum(split.length_ms for split in found)
            if len(result.owners_after) < 2:
                result.resolve_ms = (max(split.ended_ns for split in found) - began) / measure.NS_PER_MS
            seen = [t for record in self.records.values() for t in record.split_arrivals(began - 50 * measure.NS_PER_MS)]
            if seen:
                result.detect_ms = (min(seen) - began) / measure.NS_PER_MS
        return result
