"""Cron's five fields are parsed, checked, and translated to systemd's calendar."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

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
        ("61 * * * *", "minute: '61' is not between 0 and 59"),
        ("0 3 * *", "five fields"),
        ("0 3 * * frd", "did you mean 'fri'"),
        ("0 3 * okt *", "did you mean 'oct'"),
        ("0 5-3 * * *", "runs backwards"),
        ("*/0 * * * *", "not of the form"),
        ("0 3 31 2,4 *", "there is no such date"),
        ("0 3 1 * 1", "give only one"),
        ("@dayly", "did you mean '@daily'"),
        ("", "five fields"),
        ("0 3 * * *\n* * * * * rm -r /", "five fields"),
    ],
)
def test_invalid_times_are_rejected(at: str, says: str) -> None:
    with pytest.raises(Refusal, match=re.escape(says)):
        crontime.parse_times(at)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
@pytest.mark.parametrize("at", ["30 2 * * *", "0 3 * * *", "*/30 1-3 * * sun", "0 0 1 * *"])
def test_a_zone_means_the_same_to_systemd_and_to_the_test_in_a_crontab(at: str, zone: str) -> None:
    """The days around both changes of the clock: systemd's times, and those at which the crontab's line goes on."""
    times = crontime.parse_times(at)
    for day in (date(2027, 3, 12), date(2027, 3, 27), date(2026, 10, 3), date(2026, 10, 24)):
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        moments = [begin + timedelta(minutes=15 * number) for number in range(3 * 96)]
        minutes = {int(minute) for minute in times.quarters().split()[0].split(",")}
        due = [
            moment
            for moment in moments
            if moment.minute in minutes
            and re.fullmatch(times.pattern(), moment.astimezone(ZoneInfo(zone)).strftime("%M %H %d %m %w"))
        ]
        local = [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in due]
        assert sorted(set(local)) == [time for time in plain_times(times, begin, zone) if exists(time, zone)]
        until = begin + timedelta(days=3)
        starts = [start for start in systemd_starts(times.calendar(zone), begin) if start < until]
        assert starts == first_of_each(due, zone)


def plain_times(times: crontime.Times, begin: datetime, zone: str) -> list[datetime]:
    """Return the due times on the clock of a zone within three days, in steps of a quarter of an hour."""
    first = begin.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    last = (begin + timedelta(days=3)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    quarters = [first + timedelta(minutes=15 * number) for number in range(int((last - first) / timedelta(minutes=15)))]
    return [time for time in quarters if re.fullmatch(times.pattern(), time.strftime("%M %H %d %m %w"))]


def exists(time: datetime, zone: str) -> bool:
    """Return whether the clock of a zone ever shows a time."""
    moment = time.replace(tzinfo=ZoneInfo(zone))
    return moment.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == time


def first_of_each(moments: list[datetime], zone: str) -> list[datetime]:
    """Return the moments without those at which the clock of the zone shows a time for the second time."""
    shown: set[datetime] = set()
    firsts = []
    for moment in moments:
        time = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        if time not in shown:
            firsts.append(moment)
        shown.add(time)
    return firsts


def systemd_starts(calendar: str, begin: datetime) -> list[datetime]:
    """Return systemd's next starts after the second before `begin`."""
    base = f"--base-time={begin - timedelta(seconds=1):%Y-%m-%d %H:%M:%S} UTC"
    output = analyze_units("calendar", base, "--iterations=64", calendar)
    return [
        datetime.strptime(line, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        for line in re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", output)
    ]


def test_times_that_the_clock_skips_or_repeats_are_named() -> None:
    today = date(2026, 10, 1)

    def changes(at: str, zone: str) -> list[str]:
        return crontime.clock_changes(crontime.parse_times(at), zone, today)

    assert changes("30 2 * * *", "Europe/Berlin") == [
        "02:30 comes twice on 2026-10-25",
        "the clock skips 02:30 on 2027-03-28",
    ]
    assert changes("0 3 * * *", "Europe/Berlin") == []
    assert changes("*/15 * * * *", "Europe/Berlin") == []
    assert changes("30 2 * * mon-fri", "Europe/Berlin") == []
    assert changes("30 2 * * *", "UTC") == []
    assert changes("45 1 * * *", "Australia/Lord_Howe") == ["01:45 comes twice on 2027-04-04"]


def test_an_unknown_zone_is_rejected() -> None:
    with pytest.raises(Refusal, match="--zone Europe/Berln: not a time zone \\(did you mean 'Europe/Berlin'"):
        crontime.check_zone("Europe/Berln")
    for zone in ("", "localtime", "/etc/passwd", "CET+1"):
        with pytest.raises(Refusal, match="not a time zone"):
            crontime.check_zone(zone)
