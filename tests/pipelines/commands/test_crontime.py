"""Cron's five fields are parsed, checked, and translated to systemd's calendar."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import Refusal
from pipelines.commands import crontime
from tests.infra.manifests import analyze_units


@pytest.mark.parametrize(
    "at",
    [
        "0 3 * * *",
        "*/15 * * * *",
        "30 2 * * mon-fri",
        "0 0 1 */3 *",
        "5,35 6-20/2 * * 0",
        "0 4 29 feb *",
        "@weekly",
        "0 3 * * 7",
    ],
)
def test_systemd_starts_when_cron_would(at: str) -> None:
    """The next five times of systemd equal those of cron's rule, tried minute by minute."""
    times = crontime.parse_times(at)
    output = analyze_units("calendar", "--base-time=2026-11-24 12:00:00 UTC", "--iterations=5", times.calendar())
    starts = [
        datetime.strptime(line, "%Y-%m-%d %H:%M:%S")
        for line in re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", output)
    ]
    assert len(starts) >= 5
    assert starts[-5:] == find_due_minutes(at, datetime(2026, 11, 24, 12), 5)


def find_due_minutes(at: str, now: datetime, count: int) -> list[datetime]:
    """Return the first `count` minutes after `now` that fit, by the plainest reading of the fields."""
    fields = {"@weekly": "0 0 * * 0"}.get(at, at).replace("mon-fri", "1-5").replace("feb", "2").split()

    def fits(field: str, value: int, low: int) -> bool:
        for part in field.split(","):
            span, _, step = part.partition("/")
            first, _, last = span.partition("-")
            start = low if span == "*" else int(first)
            inside = span == "*" or start <= value <= int(last or first)
            if inside and (value - start) % int(step or 1) == 0:
                return True
        return False

    minutes_due: list[datetime] = []
    day = now.replace(hour=0, minute=0)
    while len(minutes_due) < count:
        weekday = day.isoweekday() % 7
        sunday = weekday == 0 and fits(fields[4], 7, 0)
        if fits(fields[2], day.day, 1) and fits(fields[3], day.month, 1) and (fits(fields[4], weekday, 0) or sunday):
            hours = [hour for hour in range(24) if fits(fields[1], hour, 0)]
            minutes = [minute for minute in range(60) if fits(fields[0], minute, 0)]
            minutes_due += [t for h in hours for m in minutes if (t := day + timedelta(hours=h, minutes=m)) > now]
        day += timedelta(days=1)
    return minutes_due[:count]


@given(
    st.sets(st.integers(0, 59), min_size=1),
    st.sets(st.integers(0, 23), min_size=1),
    st.sets(st.integers(1, 28), min_size=1),
    st.sets(st.integers(1, 12), min_size=1),
)
def test_plain_numbers_survive_a_round_trip(
    minutes: set[int], hours: set[int], days: set[int], months: set[int]
) -> None:
    text = " ".join(",".join(map(str, some)) for some in (minutes, hours, days, months)) + " *"
    times = crontime.parse_times(text)
    assert times.minutes is None if len(minutes) == 60 else times.minutes == minutes
    assert crontime.parse_times(times.cron()) == times


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("61 * * * *", "minute: '61' is not within 0 to 59"),
        ("0 3 * *", "five fields"),
        ("0 3 * * frd", "did you mean 'fri'"),
        ("0 3 * okt *", "did you mean 'oct'"),
        ("0 5-3 * * *", "runs backwards"),
        ("*/0 * * * *", "none of"),
        ("0 3 31 2,4 *", "never comes"),
        ("0 3 1 * 1", "give one of them"),
        ("@dayly", "did you mean '@daily'"),
        ("", "five fields"),
        ("0 3 * * *\n* * * * * rm -r /", "five fields"),
    ],
)
def test_invalid_times_are_rejected(at: str, says: str) -> None:
    with pytest.raises(Refusal, match=re.escape(says)):
        crontime.parse_times(at)
