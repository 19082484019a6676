"""The parts of the virtual world: time, wires, disks, processes."""

from __future__ import annotations

from watchdog.judgement.commands import Persist, Row, RowKind
from watchdog.simulator.faults import parse_fault
from watchdog.simulator.network import FRAME, VRRP, AdvertBytes, Arp, Beat, Segment, SerialLine, corrupt, flip_bit
from watchdog.simulator.process import Life
from watchdog.simulator.run import build
from watchdog.simulator.scheduler import Scheduler, Streams, Trace
from watchdog.simulator.stories import draw_options
from watchdog.simulator.world import World

S = 1_000_000_000
MS = 1_000_000


def quiet_world(seed: int = 1) -> World:
    return build(draw_options(seed, ()))


def test_things_due_at_the_same_instant_happen_in_the_order_of_scheduling() -> None:
    scheduler, order = Scheduler(), []
    scheduler.at(5, order.append, "a")
    scheduler.at(3, order.append, "b")
    scheduler.at(5, order.append, "c")
    scheduler.run_until(4)
    assert (order, scheduler.now_ns) == (["b"], 4)
    scheduler.run_until(9)
    assert (order, scheduler.now_ns) == (["b", "a", "c"], 9)


def test_streams_do_not_disturb_each_other() -> None:
    one, two = Streams(7), Streams(7)
    two.of("other").random()
    assert one.of("A/eth0") is one.of("A/eth0")
    assert [one.of("A/eth0").random() for _ in range(3)] == [two.of("A/eth0").random() for _ in range(3)]
    assert Streams(8).of("A/eth0").random() != Streams(7).of("A/eth0").random()


def test_the_trace_hash_depends_on_every_line() -> None:
    def digest(*lines: str) -> str:
        trace = Trace()
        for line in lines:
            trace.note(1, "A", line)
        return trace.digest()

    assert digest("x", "y") == digest("x", "y")
    assert len({digest("x", "y"), digest("y", "x"), digest("x"), digest("x", "y", "")}) == 4


def make_segment() -> tuple[Scheduler, Segment, list[tuple[str, str, object]]]:
    scheduler, heard = Scheduler(), []
    segment = Segment("eth0", scheduler, Streams(1))
    segment.attach("A", lambda kind, source, payload: heard.append(("A", source, payload)))
    segment.attach("B", lambda kind, source, payload: heard.append(("B", source, payload)))
    return scheduler, segment, heard


def test_a_one_way_cut_stops_one_direction() -> None:
    scheduler, segment, heard = make_segment()
    segment.links["A", "B"].cut += 1
    segment.broadcast("A", FRAME, Beat("p", b"1"))
    segment.broadcast("B", FRAME, Beat("p", b"2"))
    scheduler.run_until(S)
    assert heard == [("A", "B", Beat("p", b"2"))]


def test_a_cut_takes_what_is_on_the_wire() -> None:
    scheduler, segment, heard = make_segment()
    segment.broadcast("A", FRAME, Beat("p", b"1"))
    segment.ports["B"].blocked += 1
    scheduler.run_until(S)
    assert heard == []


def test_a_firewall_drops_vrrp_only() -> None:
    scheduler, segment, heard = make_segment()
    segment.links["A", "B"].drop_vrrp += 1
    group = quiet_world().groups["A"][0].key
    segment.broadcast("A", VRRP, AdvertBytes(group, "10.0.0.1", "mac", b"x"))
    segment.broadcast("A", FRAME, Beat("p", b"1"))
    scheduler.run_until(S)
    assert [payload for _, _, payload in heard] == [Beat("p", b"1")]


def test_an_undisturbed_link_keeps_the_order_of_frames() -> None:
    scheduler, segment, heard = make_segment()
    for number in range(200):
        scheduler.at(number * 1000, segment.broadcast, "A", FRAME, Beat("p", bytes([number])))
    scheduler.run_until(S)
    assert [payload for _, _, payload in heard] == [Beat("p", bytes([number])) for number in range(200)]


def test_corruption_changes_one_bit_and_never_an_arp() -> None:
    flipped = flip_bit(b"\0\0\0", 0.5)
    assert sum(byte.bit_count() for byte in flipped) == 1
    assert corrupt(Beat("p", b"\0"), 0.99) == Beat("p", b"\x80")
    assert corrupt(Arp("request", "10.0.0.100", "mac"), 0.1) is None


def test_the_serial_line_is_paced_and_queues_nothing() -> None:
    scheduler, heard = Scheduler(), []
    line = SerialLine(("A", "B"), 9600, scheduler, Streams(1))
    line.handlers = {"A": lambda data: None, "B": lambda data: heard.append((scheduler.now_ns, data))}
    line.send("A", b"x" * 48)
    line.send("A", b"stale")
    scheduler.run_until(S)
    assert heard == [(48 * 10 * S // 9600 // 48 * 48, b"x" * 48)]


def test_a_kernel_answers_arp_while_every_process_is_stopped() -> None:
    world = quiet_world()
    world.scheduler.run_until(100 * MS)
    kernel = world.machines["A"].kernel
    world.vrrp["A"].start()
    kernel.add(("10.0.0.100",))
    world.vrrp["A"].pause()
    assert world.owners["10.0.0.100"] == ("A",)
    world.segments["eth0"].ports["A"].blocked += 1
    world.owners_may_have_changed()
    assert world.owners["10.0.0.100"] == ()


def test_power_off_takes_addresses_and_processes_and_a_boot_brings_processes_back() -> None:
    world = quiet_world()
    world.run_until(8 * S)
    assert any(world.machines[name].kernel.holds("10.0.0.100") for name in ("A", "B")) or world.options.mode.value == "strict"
    world.power_off("A", "test")
    assert not world.machines["A"].kernel.holds("10.0.0.100")
    assert world.brains["A"].life is Life.DEAD
    before = world.machines["A"].kernel.boot_id
    world.power_on("A")
    world.run_until(12 * S)
    assert world.brains["A"].life is Life.RUNNING
    assert world.machines["A"].kernel.boot_id != before
    assert world.machines["A"].kernel.now_ns() < 5 * S


def row(order: str, level: int, state: str) -> Row:
    return Row(RowKind.FENCE, (("order_id", order), ("target", "B"), ("level", level), ("state", state), ("detail", "")))


def test_what_was_not_committed_is_lost_with_the_power_and_open_fences_survive() -> None:
    world = quiet_world()
    recorder = world.brains["A"].recorder
    recorder.write(Persist((row("F1", 1, "requested"),)))
    world.scheduler.run_until(50 * MS)
    assert [fence.order_id for fence in recorder.open_fences()] == ["F1"]
    recorder.write(Persist((row("F1", 0, "proved"),)))
    world.power_off("A", "test")
    recorder.died(power_lost=True)
    world.scheduler.run_until(100 * MS)
    assert [fence.order_id for fence in recorder.open_fences()] == ["F1"]
    world.power_on("A")
    recorder.write(Persist((row("F1", 0, "proved"),)))
    world.scheduler.run_until(200 * MS)
    assert recorder.open_fences() == ()


def test_a_stalled_disk_commits_nothing_until_it_works_again() -> None:
    world = quiet_world()
    recorder = world.brains["A"].recorder
    recorder.stall()
    recorder.write(Persist((row("F1", 1, "requested"),)))
    world.scheduler.run_until(5 * S)
    assert recorder.rows == []
    recorder.unstall()
    world.scheduler.run_until(6 * S)
    assert len(recorder.rows) == 1


def test_a_frozen_process_reads_what_waited_and_knows_that_it_stood_still() -> None:
    world = build(draw_options(1, (parse_fault("pause vrrp of B at 8s for 4s"),)), keep_trace=True)
    world.run()
    resumed = next(i for i, line in enumerate(world.trace.lines) if line.endswith("B.vrrp resumed"))
    assert any("B.vrrp paused" in line for line in world.trace.lines[:resumed])
    assert world.vrrp["B"].life is Life.RUNNING
