"""Every recording is replayed through the cores that the daemon runs, and every pair of state and event has one.

``BRAIN_UPDATE=1 pytest tests/conformance`` writes what comes out now into the recordings: look at the difference before you keep it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conformance.recording import ADVERT_KINDS, Recording, Seen
from vrrp.protocol.commands import ReportKind
from vrrp.protocol.instance import EVENT_TABLE, TIMER_TABLE
from vrrp.protocol.packet import RejectReason
from vrrp.protocol.states import State

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.txt"))
UPDATE = "BRAIN_UPDATE=1 .venv/bin/python -m pytest tests/conformance"
OF_THE_SHELL = {ReportKind.ROUTING_RESTORED, ReportKind.ROUTING_REFUSED, ReportKind.INTERFACE_RESTORED}
"""Said by the shell, not by the cores."""


@pytest.mark.shows("vrrp_instance/nopreempt", "vrrp_instance/preempt_delay", "vrrp_instance/state", "vrrp_instance/higher_prio_send_advert")
@pytest.mark.shows("vrrp_instance/down_timer_adverts", "vrrp_instance/lower_prio_no_advert", "vrrp_instance/owner_ignore_adverts")
@pytest.mark.shows("vrrp_instance/garp_master_delay", "vrrp_instance/garp_master_repeat", "vrrp_instance/garp_lower_prio_delay")
@pytest.mark.shows("vrrp_instance/garp_master_refresh", "vrrp_instance/garp_master_refresh_repeat", "vrrp_instance/garp_lower_prio_repeat")
@pytest.mark.shows("vrrp_instance/skip_check_adv_addr", "vrrp_instance/check_unicast_src", "vrrp_instance/v3_checksum_as_v2")
@pytest.mark.shows("vrrp_instance/timer_expired_backup", "vrrp_instance/thread_timer_expired")
@pytest.mark.shows("vrrp_instance/notify_deleted", "global_defs/vrrp_startup_delay", "global_defs/vrrp_min_garp", "vrrp_instance/version")
@pytest.mark.shows("global_defs/vrrp_down_timer_adverts", "global_defs/vrrp_garp_master_delay", "global_defs/vrrp_garp_master_repeat")
@pytest.mark.shows("global_defs/vrrp_garp_master_refresh", "global_defs/vrrp_garp_master_refresh_repeat")
@pytest.mark.shows("global_defs/vrrp_garp_lower_prio_delay", "global_defs/vrrp_garp_lower_prio_repeat")
@pytest.mark.shows("global_defs/vrrp_lower_prio_no_advert", "global_defs/vrrp_higher_prio_send_advert", "global_defs/v3_checksum_as_v2")
@pytest.mark.shows("global_defs/vrrp_skip_check_adv_addr", "global_defs/vrrp_owner_ignore_adverts", "vrrp_instance/strict_mode")
@pytest.mark.shows("vrrp_instance/preempt", "vrrp_instance/mcast_dst_ip", "vrrp_instance/dont_track_primary", "bfd_instance/weight")
@pytest.mark.shows("vrrp_sync_group/track_interface", "vrrp_sync_group/track_script", "vrrp_sync_group/track_process")
@pytest.mark.shows("vrrp_sync_group/track_bfd", "track_file/weight", "vrrp_track_file/weight")
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_what_comes_out_is_what_was_recorded(path: Path) -> None:
    recording = Recording.read(path)
    now, _ = recording.replayed()
    if os.environ.get("BRAIN_UPDATE"):
        path.write_text(now, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == now, f"{recording.title} If that is right now: {UPDATE}, and read the difference"


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Everything that some recording went through."""
    together = Seen()
    for path in RECORDINGS:
        _, one = Recording.read(path).replayed()
        together.events |= one.events
        together.timers |= one.timers
        together.adverts |= one.adverts
        together.refused |= one.refused
        together.reports |= one.reports
    return together


def test_every_pair_of_state_and_event_has_a_recording(seen: Seen) -> None:
    missing = {f"{state.value} × {event.__name__}" for state, event in set(EVENT_TABLE) - seen.events}
    assert not missing, "add a recording in which it happens"


def test_every_pair_of_state_and_timer_that_is_possible_has_a_recording(seen: Seen) -> None:
    possible = {pair for pair, handler in TIMER_TABLE.items() if handler.__name__ != "_impossible"}
    assert {f"{state.value} × {timer.value}" for state, timer in possible - seen.timers} == set(), "add a recording in which it fires"
    assert seen.timers <= possible


def test_every_kind_of_advert_is_heard_in_every_state(seen: Seen) -> None:
    wanted = {(state, kind, preempt) for state in (State.BACKUP, State.MASTER) for kind in ADVERT_KINDS for preempt in (True, False)}
    assert {f"{s.value} {kind} {'preempt' if p else 'nopreempt'}" for s, kind, p in wanted - seen.adverts} == set(), "add a recording"


def test_every_reason_to_refuse_a_packet_has_a_recording(seen: Seen) -> None:
    assert {reason.value for reason in set(RejectReason) - seen.refused} == set(), "add a recording with such a packet"


def test_everything_that_is_reported_has_a_recording(seen: Seen) -> None:
    assert {kind.value for kind in set(ReportKind) - OF_THE_SHELL - seen.reports} == set(), "add a recording in which it is reported"


def test_there_are_enough_and_each_says_something_else() -> None:
    assert len(RECORDINGS) >= 60
    titles = [Recording.read(path).title for path in RECORDINGS]
    assert len(titles) == len(set(titles))
