"""The stage on which a scenario is played: the laboratory, the daemons, a clock, and the eyes of the observers."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainctl.demo import configuration, daemons, measure
from brainctl.demo.kernel import ToolError, nft, run
from brainctl.demo.lab import Lab, Watched
from brainctl.demo.node import LabError, Node
from brainctl.demo.outcome import AddressOutcome, Outcome
from brainctl.demo.record import Record, in_words
from brainctl.demo.setup import Group, Setup, groups
from brainctl.demo.status import ask_document

TICK_S = 0.02
SETTLE_TIMEOUT_S = 25.0
ENROLMENT_TIMEOUT_S = 60.0
AFTER_FAILURE_S = 3.0
BARE_PATIENCE_S = 8.0
"""How long a bare pair is waited for: what VRRP alone does not do in this time it does not do."""
VRRP_FIREWALL = "table inet tutorial_firewall"
GATE_LATE_S = 1.5


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
        """Let a random part of two advert intervals pass, so that faults fall anywhere in their phase; or wait for the setup's phase."""
        if self.setup.phase_ms is None:
            self.hold(self.rng.uniform(0.2, 0.2 + 2 * self.setup.advert_ms / 1000))
            return
        heard = [
            event["t"] for event in self.lab.observer.events if event.get("how") == "advert" and event["node"] == self.setup.first_owner
        ]
        interval_ns = self.setup.advert_ms * measure.NS_PER_MS
        wait_ns = (heard[-1] + self.setup.phase_ms * measure.NS_PER_MS - time.time_ns()) % interval_ns + interval_ns
        end = time.monotonic() + wait_ns / 1e9
        self.hold(wait_ns / 1e9 - 3 * TICK_S)
        time.sleep(max(0.0, end - time.monotonic()))

    def wait(self, what: str, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait for a condition; what does not come in time fails the scenario under the name ``what``.

        After one wait in vain the scenario has failed, and the others are cut short.
        """
        patience_s = within_s if self.setup.brain or not self.settled_ns else BARE_PATIENCE_S
        within_s = min(patience_s, AFTER_FAILURE_S) if self.in_vain else patience_s
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
    def owners(self, of: str = "vip") -> list[str]:
        """Who answers for a watched address now."""
        return measure.recent_owners(self.lab.observer.events, time.time_ns(), self._address(of))

    def _address(self, name: str) -> str:
        return next(what.vip for what in self.lab.watched if what.name == name)

    def client_sees(self, of: str = "vip") -> str:
        """Who answered the client of a watched address last."""
        return measure.client_owner(self.lab.clients[of].events, time.time_ns())

    def owned_by(self, *nodes: str, for_s: float = 0.6, of: str = "vip") -> Callable[[], bool]:
        """A condition: exactly these nodes have answered for a watched address for a while."""
        since: list[float] = []

        def condition() -> bool:
            if self.owners(of) != sorted(nodes):
                since.clear()
                return False
            since[:] = since or [time.monotonic()]
            return time.monotonic() - since[0] >= for_s

        return condition

    def all_owned_by(self, *nodes: str, for_s: float = 0.6) -> Callable[[], bool]:
        """A condition: exactly these nodes have answered for every watched address for a while."""
        conditions = [self.owned_by(*nodes, for_s=for_s, of=what.name) for what in self.lab.watched]
        return lambda: False not in [condition() for condition in conditions]  # every one of them looks each time

    def served_by(self, node: str, of: str = "vip", for_s: float = 1.5) -> Callable[[], bool]:
        """A condition: for a while a node has been the only owner, and the client is served by it."""
        owned = self.owned_by(node, for_s=for_s, of=of)
        return lambda: owned() and self.client_sees(of) == node

    def one_owner(self, for_s: float = 0.6, of: str = "vip") -> Callable[[], bool]:
        """A condition: one and the same node has been the only owner for a while."""
        state: list[tuple[str, float]] = []

        def condition() -> bool:
            owners = self.owners(of)
            if len(owners) != 1:
                state.clear()
                return False
            if not state or state[0][0] != owners[0]:
                state[:] = [(owners[0], time.monotonic())]
            return time.monotonic() - state[0][1] >= for_s

        return condition

    def two_owners(self, of: str = "vip") -> bool:
        """A condition: two hosts answer for a watched address."""
        return len(self.owners(of)) == 2

    def paged(self, words: str = "") -> Callable[[], bool]:
        """A condition: a page since the pair was healthy has these words (a regular expression)."""
        return lambda: any(re.search(words, page, re.IGNORECASE) for page in self.pages())

    def pages(self) -> list[str]:
        """What the pager was sent since the pair was healthy, as text."""
        return [json.dumps(event["body"], ensure_ascii=False) for event in list(self.lab.pager.events) if event["t"] > self.settled_ns]

    def triggers(self) -> list[str]:
        """Those of them that open an incident or make it worse: not what tells its end."""
        return [page for page in self.pages() if '"action": "resolve"' not in page]

    def was_ever_paged(self, words: str) -> bool:
        """A condition: a page has these words, be it from before the pair was healthy."""
        return any(re.search(words, json.dumps(event["body"]), re.IGNORECASE) for event in list(self.lab.pager.events))

    def has_on_lo(self, name: str) -> bool:
        """A condition: the node's lo has the address of VI_1."""
        return self.lab.plan.vip in run(["ip", "-j", "addr", "show", "dev", "lo"], network=self.lab.nodes[name].network)

    def holders(self) -> dict[str, list[str]]:
        """Every address of every group, with the nodes whose kernel has it on another interface than lo, by ``ip -j``."""
        found: dict[str, list[str]] = {line.split("/")[0].split()[0]: [] for group in self.groups() for line in group.lines}
        for name, node in self.lab.nodes.items():
            if node.on:
                for link in json.loads(run(["ip", "-j", "addr", "show"], network=node.network)):
                    for info in link.get("addr_info", ()):
                        if info.get("local") in found and link["ifname"] != "lo":
                            found[info["local"]].append(name)
        return found

    def each_owned_once(self) -> bool:
        """A condition: exactly one kernel has each address."""
        return all(len(nodes) == 1 for nodes in self.holders().values())

    def groups(self) -> tuple[Group, ...]:
        """The groups of this pair."""
        return groups(self.lab.plan, self.setup.site)

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
        configuration.write_files(self.lab, self.setup)
        self.say(f"two nodes with {self.setup.daemon}, mode {self.setup.mode}, VIP {self.lab.plan.vip}, VRID {self.lab.plan.vrid}")
        for node in self.lab.nodes.values():
            if node.name not in self.setup.site.gate_late:
                daemons.prepare_boot(node)
            daemons.start_vrrp(node, self.setup)
            if self.setup.site.nopreempt and self.setup.mode != "strict":  # nobody takes it from whom was there first
                self.wait(f"{self.setup.first_owner} owns it", self.all_owned_by(self.setup.first_owner, for_s=0.2), SETTLE_TIMEOUT_S)
        if self.setup.site.gate_late:
            self.hold(GATE_LATE_S)
            for name in self.setup.site.gate_late:
                daemons.prepare_boot(self.lab.nodes[name])
        if self.setup.brain:
            self._enrol()
            for node in self.lab.nodes.values():
                daemons.start_brain(node, self.setup, older=self.setup.site.older)
        owner = self.setup.first_owner
        if not self.wait(f"{owner} alone owns every address", self.all_owned_by(owner, for_s=1.0), SETTLE_TIMEOUT_S):
            raise LabError(f"the pair did not become healthy: {owner} never was the only owner")
        self._nothing_died()
        if self.setup.brain and not self.wait("both records say HEALTHY", self.all_healthy, SETTLE_TIMEOUT_S):
            raise LabError("the pair did not become healthy: no HEALTHY verdict on both nodes")
        self.settled_ns = time.time_ns()
        self.say(f"the pair is healthy: {owner} owns the VIP, {'B' if owner == 'A' else 'A'} waits")

    def _nothing_died(self) -> None:
        for node in self.lab.nodes.values():
            for name, job in node.jobs.items():
                if name != "enrolment" and (status := node.exit_status(job)) is not None:
                    raise LabError(f"{name} on {node.name} ended with status {status}; see {node.disk / 'log' / name}.log")

    def enrol(self, name: str) -> None:
        """``brainctl fence enroll``."""
        node = self.lab.nodes[name]
        daemons.start_enrolment(node)
        if not node.wait_exit("enrolment", ENROLMENT_TIMEOUT_S) or node.exit_status(node.jobs["enrolment"]) not in (0, 1):
            raise LabError(f"{node.name} could not enrol the power switches; see {node.disk / 'log' / 'enrolment.log'}")

    def _enrol(self) -> None:
        """Check and enrol the power switches from A, and copy what was found to B, as one would by hand."""
        self.enrol("A")
        daemons.copy_enrolment(self.lab.nodes["A"], self.lab.nodes["B"])
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

    def stop_vrrp(self, name: str) -> None:
        """Stop the VRRP daemon in an orderly way."""
        node = self.lab.nodes[name]
        node.signal("vrrp", signal.SIGTERM)
        self.wait(f"{name}'s VRRP daemon has ended", lambda: not node.running("vrrp"), 10.0)

    def brainctl(self, name: str, *words: str) -> str:
        """What an operator's command prints on a node, whatever it thinks of it."""
        return self.lab.nodes[name].run_unchecked(daemons.program("brainctl"), *words)

    def order(self, name: str, *words: str) -> None:
        """An operator's command that must be obeyed (exit status 0)."""
        self.lab.nodes[name].run(daemons.program("brainctl"), *words)

    def succeeds(self, name: str, *words: str) -> bool:
        """A condition: an operator's command on a node ends with 0."""
        try:
            self.order(name, *words)
        except ToolError:
            return False
        return True

    def key_file(self, name: str) -> Path:
        """The cluster key of a node."""
        return self.lab.nodes[name].disk / "etc-brainctl" / "cluster.key"

    def hears_on_every_path(self, name: str) -> bool:
        """A condition: a node's braind hears its peer on all of them."""
        document = ask_document(self.lab.nodes[name])
        return document is not None and all(path["hears"] for path in document["paths"])

    def status_says(self, name: str, words: str) -> Callable[[], bool]:
        """A condition: ``brainctl status`` on a node has these words (a regular expression), however its lines are broken."""
        return lambda: re.search(words, " ".join(self.brainctl(name, "status").split())) is not None

    def reload_brain(self, name: str) -> None:
        """``systemctl reload braind``."""
        self.lab.nodes[name].signal("braind", signal.SIGHUP)

    def stop_brain(self, name: str) -> None:
        """``systemctl stop braind``."""
        node = self.lab.nodes[name]
        node.signal("braind", signal.SIGTERM)
        self.wait(f"{name}'s braind has ended", lambda: not node.running("braind"), 10.0)

    def checked_bounds(self) -> dict[str, Any]:
        """The bounds that ``brainctl check`` prints on A."""
        bounds: dict[str, Any] = json.loads(self.check_says("A"))["bounds"]
        return bounds

    def check_says(self, name: str) -> str:
        """What ``brainctl check --json`` says on a node."""
        return self.lab.nodes[name].run_unchecked(daemons.program("brainctl"), "check", "--node", name, "--json")

    def all_healthy(self) -> bool:
        """A condition: the last verdict about the pair is HEALTHY in both records, or a flaw of the site was found and paged."""
        if self.setup.site.flawed and self.lab.pager.events:
            return True
        return all(record.last_verdict() == "HEALTHY" for name, record in self.records.items() if self.lab.nodes[name].on)

    # ---- faults that take more than one call -------------------------------------------------------------------------------------------
    def firewall_drops_vrrp(self) -> None:
        """The classical lab test: both nodes' firewalls drop protocol 112."""
        for node in self.lab.nodes.values():
            nft(
                node.network,
                f"add {VRRP_FIREWALL}\nadd chain inet tutorial_firewall input {{ type filter hook input priority 0; }}\n"
                "add rule inet tutorial_firewall input meta l4proto 112 drop\n",
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

    def proved_off(self, name: str) -> Callable[[], bool]:
        """A condition: the other node recorded that this one is off, be it by a fence or by reading its power."""
        return lambda: any(record.proved_off(name) for record in self.records.values())

    def about_to_fence(self) -> bool:
        """A condition: a braind would fence, and waits for its turn or has begun."""
        fences = [(ask_document(node) or {}).get("fence") or {} for node in self.lab.nodes.values()]
        return any(fence.get("running") or fence.get("refused") for fence in fences)

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
        events = list(self.lab.observer.events)
        result = Outcome(watched=self.setup.brain, owners_after=self.owners(), in_vain=list(self.in_vain))
        result.cut_power = sum(
            1 for program in self.lab.power.values() for event in program.events if event["event"] == "off" and event["t"] > self.settled_ns
        )
        result.alerts, result.pages = len(self.lab.pager.events), self.pages()
        result.not_owned_once = {address: nodes for address, nodes in self.holders().items() if len(nodes) != 1}
        for name, record in self.records.items():
            result.verdicts |= record.verdicts(self.settled_ns)
            result.fence_states += record.fence_states()
            if record.actions(self.settled_ns) & {"yield", "give_up"}:
                result.held.add(name)
        for what in self.lab.watched:
            if what.name == "vip":
                found = self._measure(result, what, events, now)
            else:
                result.also[what.name] = AddressOutcome(self.owners(what.name))
                self._measure(result.also[what.name], what, events, now)
        if found:
            began = found[0].began_ns
            seen = [t for record in self.records.values() for t in record.split_arrivals(began - 50 * measure.NS_PER_MS)]
            if seen:
                result.detect_ms = (min(seen) - began) / measure.NS_PER_MS
        powered = [self.lab.plan.heartbeat_mac[name] for name, node in self.lab.nodes.items() if node.on]
        result.beat_gap_ms = max((measure.silence_ms(self.lab.capture, mac, self.settled_ns, now) for mac in powered), default=0.0)
        return result

    def _measure(self, result: Outcome | AddressOutcome, what: Watched, events: list[measure.Event], now: int) -> list[measure.Split]:
        owned = measure.ownerships(measure.about(events, what.vip))
        found = [split for split in measure.splits(owned) if split.ended_ns > self.settled_ns]
        if self.settled_ns:
            result.client_outage_ms = measure.client_outage_ms(self.lab.clients[what.name].events, self.settled_ns, now)
        if found:
            result.split_ms = sum(split.length_ms for split in found)
            if len(result.owners_after) < 2:
                result.resolve_ms = (max(split.ended_ns for split in found) - found[0].began_ns) / measure.NS_PER_MS
        return found
