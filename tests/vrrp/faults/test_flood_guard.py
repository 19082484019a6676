"""The bound on bad adverts: nobody who behaves is ever passed over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vrrp.system.flood_guard import BUCKETS, MOST_TRUSTED, REFUSALS_PER_WINDOW, WINDOW_NS, FloodGuard

PEER, OTHER = b"\x0a\x4d\x00\x02", b"\x0a\x4d\x00\x09"


def flooded(source: bytes) -> FloodGuard:
    guard = FloodGuard()
    guard.trust(PEER)
    for _ in range(REFUSALS_PER_WINDOW):
        assert guard.admits(0, source)
        guard.refuse(0, source)
    return guard


def test_beyond_the_bound_nothing_is_looked_at_until_the_window_ends() -> None:
    guard = flooded(OTHER)
    assert not guard.admits(WINDOW_NS - 1, OTHER)
    assert guard.skipped == 1
    assert guard.admits(WINDOW_NS, OTHER)


def test_strangers_share_buckets_and_a_peer_has_its_own() -> None:
    guard = flooded(OTHER)
    strangers = [number.to_bytes(4, "big") for number in range(2000)]
    heard = sum(guard.admits(1, stranger) for stranger in strangers)
    assert 0 < heard < len(strangers), "they share buckets: one forger does not silence all of them"
    assert guard.admits(1, PEER)
    assert flooded(PEER).admits(1, OTHER)
    assert not flooded(PEER).admits(1, PEER)


def test_nobody_shares_a_bucket_with_a_forger_for_ever() -> None:
    guard = FloodGuard()
    strangers = [number.to_bytes(4, "big") for number in range(1, 2000)]
    unheard = set(strangers)
    for window in range(10):
        at_ns = window * WINDOW_NS
        while guard.admits(at_ns, OTHER):
            guard.refuse(at_ns, OTHER)
        unheard -= {stranger for stranger in unheard if guard.admits(at_ns, stranger)}
    assert not unheard


@given(st.lists(st.tuples(st.integers(0, 3 * WINDOW_NS), st.binary(min_size=4, max_size=4), st.booleans()), max_size=400))
def test_the_work_is_bounded_and_a_quiet_peer_is_always_heard(events: list[tuple[int, bytes, bool]]) -> None:
    guard = FloodGuard()
    guard.trust(PEER)
    looked_at = 0
    for at_ns, source, trusted in sorted(events):
        if trusted and source != PEER:
            guard.trust(source)
        if source != PEER and guard.admits(at_ns, source):
            guard.refuse(at_ns, source)
            looked_at += 1
        assert guard.admits(at_ns, PEER)
    assert looked_at <= 4 * REFUSALS_PER_WINDOW * (MOST_TRUSTED + BUCKETS)
