"""Scenarios in which programs hang or die and the kernel below them goes on."""

from __future__ import annotations

from brainctl.demo.scenario import Expectation, Scenario
from brainctl.demo.setup import Site
from brainctl.demo.stage import Stage

BOTH_OWN_AND_A_PERSON_IS_PAGED = Expectation(
    "both own the VIP, a person is paged",
    owner_count=2,
    split=True,
    fence=(),
    cut_power=0,
    alerts=(1, 4),
)
"""What mode observe comes to when A's address stays and B takes it, too."""


def b_takes_over(stage: Stage) -> None:
    """Wait until B owns the VIP: beside A in mode observe, else alone."""
    if stage.setup.mode == "observe":
        stage.wait("B takes the VIP as well", stage.two_owners, 15.0)
        stage.hold(6.0)
    else:
        stage.wait("B is the only owner", stage.owned_by("B", for_s=1.5), 25.0)


def everything_hangs(stage: Stage) -> None:
    """Every process of A stops."""
    stage.moment()
    stage.say("everything on A is frozen; its kernel still answers ARP")
    stage.node("A").freeze()


def every_daemon_dies(stage: Stage) -> None:
    """Both daemons of A are gone."""
    stage.moment()
    stage.say("A's VRRP daemon and braind are killed (SIGKILL)")
    stage.node("A").kill("vrrp", "braind")


def a_is_fenced(stage: Stage, within_s: float) -> None:
    """Wait until A has no power and that is proved; mode observe only sees B take the VIP, too."""
    if stage.setup.mode == "observe":
        stage.wait("B takes the VIP as well", stage.two_owners, 15.0)
        stage.hold(6.0)
        return
    stage.wait("A's power is cut", lambda: not stage.node("A").on, within_s)
    stage.fence_is_proved_and_told()


class Hang(Scenario):
    """The VRRP daemon of the master is stopped, its addresses stay."""

    name = "hang"
    story = "A's VRRP daemon hangs (SIGSTOP): its kernel keeps the VIP and B takes it too; A's braind gives it up"

    def play(self, stage: Stage) -> None:
        """Freeze the daemon's processes."""
        stage.moment()
        stage.say("A's VRRP daemon is frozen (SIGSTOP)")
        stage.node("A").freeze("vrrp")
        b_takes_over(stage)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """No fence: the local braind can mend this."""
        if mode == "observe":
            return BOTH_OWN_AND_A_PERSON_IS_PAGED
        return Expectation(
            "A's braind gives the address up, nobody is fenced",
            owners=("B",),
            verdicts=("ORPHAN_VIP",),
            fence=(),
            cut_power=0,
            within_ms=6_000.0,
            outage_ms=5_000.0,
            alerts=(1, 6),
        )


class HangAll(Scenario):
    """Every process of the master stops, its kernel still answers."""

    name = "hang-all"
    story = "every process on A freezes, its kernel still answers ARP: B fences A and proves it"

    def play(self, stage: Stage) -> None:
        """Freeze the node."""
        everything_hangs(stage)
        a_is_fenced(stage, 40.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Only power helps."""
        if mode == "observe":
            return BOTH_OWN_AND_A_PERSON_IS_PAGED
        return Expectation(
            "A is fenced, proved, paged",
            owners=("B",),
            verdicts=("PEER_HUNG",),
            fence=("requested", "proved"),
            cut_power=1,
            within_ms=30_000.0,
            alerts=(1, 8),
        )


class Orphan(Scenario):
    """The VRRP daemon dies and leaves its address behind."""

    name = "orphan"
    story = "A's VRRP daemon is killed (SIGKILL) and leaves the VIP behind: A's braind removes it, nobody is fenced"

    def play(self, stage: Stage) -> None:
        """Kill the daemon's processes."""
        stage.moment()
        stage.say("A's VRRP daemon is killed (SIGKILL)")
        stage.node("A").kill("vrrp")
        b_takes_over(stage)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """No fence."""
        if mode == "observe":
            return Expectation("both own the VIP, a person is paged", fence=(), cut_power=0, alerts=(1, 4))
        return Expectation(
            "the orphaned address is removed, nobody is fenced",
            owners=("B",),
            verdicts=("ORPHAN_VIP",),
            fence=(),
            cut_power=0,
            within_ms=6_000.0,
            outage_ms=5_000.0,
            alerts=(1, 6),
        )


class OrphanAll(Scenario):
    """Everything dies and the address stays."""

    name = "orphan-all"
    beside = True
    story = "every daemon on A is killed, the VIP stays in its kernel: B fences A and proves it"

    def play(self, stage: Stage) -> None:
        """Kill both daemons."""
        every_daemon_dies(stage)
        a_is_fenced(stage, 40.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Only power helps."""
        if mode == "observe":
            return Expectation("both own the VIP, a person is paged", fence=(), cut_power=0, alerts=(1, 4))
        return Expectation(
            "A is fenced, proved, paged",
            owners=("B",),
            verdicts=("PEER_HUNG",),
            fence=("requested", "proved"),
            cut_power=1,
            within_ms=30_000.0,
            alerts=(1, 8),
        )


class VrrpProcessDies(Scenario):
    """Only the process that sends adverts dies; its parent starts it again."""

    name = "vrrp-process-dies"
    case = "S3"
    story = "A's VRRP process alone is killed (SIGKILL), its parent lives: one owner again in no more time than VRRP needs"
    modes = ("resolve", "strict")
    usual = False

    def play(self, stage: Stage) -> None:
        """Kill the child."""
        stage.moment()
        stage.say("A's VRRP process is killed (SIGKILL), the daemon's other processes live")
        stage.node("A").kill_by_pid_file("/run/vrrp.pid", "/run/brainctl/vrrpd_vrrp.pid")
        stage.hold(6.0)
        stage.wait("one owner", stage.one_owner(1.5), 10.0)
        stage.wait("the client is served by it", stage.client_follows, 5.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Nobody is fenced for a child."""
        outage_ms = 6_000.0 if mode == "strict" else 3_000.0
        return Expectation("one owner, nobody is fenced", owner_count=1, fence=(), cut_power=0, alerts=(0, 8), outage_ms=outage_ms)


class WatcherDies(Scenario):
    """braind fails, VRRP is healthy."""

    name = "watcher-dies"
    beside = True
    story = "B's braind is killed and started again, then frozen for 10 s; VRRP is healthy: no fence, a page"

    def play(self, stage: Stage) -> None:
        """Kill, restart, freeze, thaw."""
        node = stage.node("B")
        stage.moment()
        stage.say("B's braind is killed (SIGKILL)")
        node.kill("braind")
        stage.hold(6.0)
        stage.say("B's braind is started again")
        stage.start_brain("B")
        stage.hold(8.0)
        stage.say("B's braind is frozen for 10 s")
        node.freeze("braind")
        stage.hold(10.0)
        stage.say("B's braind goes on")
        node.thaw()
        stage.hold(4.0)
        stage.wait("a person is paged", lambda: bool(stage.lab.pager.events), 10.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """A missing watcher is no dead node."""
        return Expectation(
            "no fence, no change of owner, a page",
            owners=("A",),
            split=False,
            verdicts=("PATH_DEGRADED/confirmed",),
            fence=(),
            cut_power=0,
            alerts=(1, 8),
            outage_ms=500.0,
        )


class WatcherCrashes(Scenario):
    """The watcher of a standby that owned the address once crashes; brain.toml does not name the nodes' addresses."""

    name = "watcher-crashes"
    case = "N1 J7"
    story = "B owned the address once and is standby; its braind crashes, and brain.toml names no node address: healthy B is not fenced"
    modes = ("resolve", "strict")
    site = Site(node_addresses=False)

    def play(self, stage: Stage) -> None:
        """Hand over and back, then crash."""
        stage.moment()
        stage.say("A's VRRP daemon is stopped (SIGTERM) and started again")
        stage.stop_vrrp("A")
        stage.wait("B takes over", stage.owned_by("B"), 15.0)
        stage.start_vrrp("A")
        if stage.setup.mode == "strict":  # B holds it by right, and nobody asked B to give it up
            stage.hold(6.0)
            stage.stop_vrrp("B")
            stage.wait("A takes over", stage.owned_by("A"), 15.0)
            stage.start_vrrp("B")
        stage.wait("A takes its address back", stage.owned_by("A", for_s=2.0), 20.0)
        stage.hold(4.0)
        stage.say("B's braind is killed (SIGKILL)")
        stage.node("B").kill("braind")
        stage.hold(stage.setup.fence_delay_ms / 1000 + 4.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Never heard lately is unknown, not dead."""
        return Expectation("nobody is fenced, a page", owners=("A",), fence=(), cut_power=0, alerts=(1, 10))


class DescriptorsRunOut(Scenario):
    """The owner's watcher has no file descriptors left."""

    name = "descriptors-run-out"
    case = "A7"
    story = "idle clients take every file descriptor that A's braind may have: A keeps the address, nothing is called dead for it"
    usual = False

    def play(self, stage: Stage) -> None:
        """Lower the limit, then connect and say nothing."""
        stage.moment()
        node = stage.node("A")
        stage.say("A's braind may open no more files, and 40 clients connect and say nothing")
        node.no_more_files("braind")
        with node.idle_clients("run/brainctl/braind.sock", 40):
            stage.hold(10.0)
        stage.wait("A is the only owner", stage.owned_by("A"), 2.0)

    def expect(self, mode: str, daemon: str) -> Expectation:
        """Only ENOENT and ESRCH mean that a process is gone."""
        return Expectation("A keeps the address", owners=("A",), split=False, never=("ORPHAN_VIP",), fence=(), cut_power=0, outage_ms=600.0)
