"""When a reload of reload_time_file is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from vrrp.scheduled_reload import due_at

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("13:00:00Z", datetime(2026, 3, 4, 13, tzinfo=UTC)),
        ("12:00:00Z", datetime(2026, 3, 5, 12, tzinfo=UTC)),
        ("11:59:59Z", datetime(2026, 3, 5, 11, 59, 59, tzinfo=UTC)),
        ("2026-03-04 12:00:01Z", datetime(2026, 3, 4, 12, 0, 1, tzinfo=UTC)),
        ("26-12-31 23:59:59Z", datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2026-03-04 12:00:00Z", None),
        ("1999-01-01 00:00:00Z", None),
    ],
)
def test_utc(text: str, due: datetime | None) -> None:
    assert due_at(text, NOON) == due
    assert due_at(text, NOON.astimezone(timezone(timedelta(hours=-9)))) == due, "wherever the node stands"


@pytest.mark.parametrize("hours", [-9, 0, 5])
def test_without_a_z_it_is_the_nodes_own_time(hours: int) -> None:
    """The day of a time alone is the local one, and the time zone is the system's, not that of ``now``."""
    now = NOON.astimezone(timezone(timedelta(hours=hours)))
    due = due_at("2031-01-02 03:04:05", now)
    assert due is not None and due.astimezone().strftime("%Y-%m-%d %H:%M:%S") == "2031-01-02 03:04:05"


@pytest.mark.parametrize(
    "text", ["", "12:00", "25:00:00", "12:00:00 ", " 12:00:00", "12:00:00z", "2026-02-30 12:00:00", "2026-3-4 12:00:00", "now"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        due_at(text, NOON)
