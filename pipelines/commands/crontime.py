"""Parse and check times in cron's five fields, and translate them into systemd's notation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo, available_timezones

from components.errors import Refusal, suggest_name

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
DAYS_IN_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}  # all others have 31


@dataclass(frozen=True)
class Field:
    """One of cron's fields: its name, its limits, and names of its values in their order."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def parse_number(self, text: str) -> int:
        """Return a value from its digits or its name."""
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.low
        if text.isascii() and text.isdigit() and self.low <= int(text) <= self.high:
            return int(text)
        hint = suggest_name(text.lower(), self.names) if text.isalpha() else ""
        raise Refusal(f"{self.name}: '{text}' is not between {self.low} and {self.high}{hint}")

    def parse_values(self, text: str) -> set[int]:
        """Return all values of a field such as `*/15` or `1-5,9`."""
        values: set[int] = set()
        for part in text.split(","):
            match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", part)
            if match is None:
                raise Refusal(f"{self.name}: '{part}' is not of the form *, 5, 1-5, */15 or 1-5/2")
            start, end, step = match.groups()
            is_single_number = start is not None and end is None
            if step in ("0", "00") or (step and is_single_number):
                raise Refusal(f"{self.name}: '{part}' is not of the form *, 5, 1-5, */15 or 1-5/2")
            first = self.low if start is None else self.parse_number(start)
            last = self.high if start is None else self.parse_number(end or start)
            if last < first:
                raise Refusal(f"{self.name}: '{part}' runs backwards")
            values |= set(range(first, last + 1, int(step or 1)))
        return values

    @property
    def is_weekday(self) -> bool:
        return self.names == DAYS


FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("day of the week", 0, 7, DAYS),
)


@dataclass(frozen=True)
class Times:
    """When something is due: one set of numbers per field, or None for every value. Weekday 0 is Sunday."""

    minutes: frozenset[int] | None
    hours: frozenset[int] | None
    days: frozenset[int] | None
    months: frozenset[int] | None
    weekdays: frozenset[int] | None

    def cron(self) -> str:
        """Return the five fields in plain numbers, which every cron reads in the same way."""
        fields = (self.minutes, self.hours, self.days, self.months, self.weekdays)
        return " ".join("*" if values is None else ",".join(map(str, sorted(values))) for values in fields)

    def calendar(self, zone: str | None = None) -> str:
        """Return the times as systemd's OnCalendar, in a zone or in that of the machine."""
        day = f"*-{_pad(self.months)}-{_pad(self.days)}"
        time = f"{_pad(self.hours)}:{_pad(self.minutes)}:00"
        days = ",".join(DAYS[number].capitalize() for number in sorted(self.weekdays or ()))
        return " ".join(filter(None, [days, day, time, zone]))

    def quarters(self) -> str:
        """Return five fields that are due whenever the times may be in a zone that differs by quarters of an hour."""
        minutes = self.minutes and {(minute + 15 * quarter) % 60 for minute in self.minutes for quarter in range(4)}
        return f"{','.join(map(str, sorted(minutes))) if minutes else '*'} * * * *"

    def pattern(self) -> str:
        """Return a regular expression that fits `date '+%M %H %d %m %w'` when the times are due."""
        fields = [("..", values, "02") for values in (self.minutes, self.hours, self.days, self.months)]
        fields.append((".", self.weekdays, ""))
        return " ".join(
            anything if values is None else f"({'|'.join(f'{value:{form}}' for value in sorted(values))})"
            for anything, values, form in fields
        )

    def is_due_on(self, day: date) -> bool:
        """Return whether any time of a day is due."""
        fields = ((self.days, day.day), (self.months, day.month), (self.weekdays, day.isoweekday() % 7))
        return all(values is None or value in values for values, value in fields)


def parse_times(text: str) -> Times:
    """Return the times of five fields, or of a macro such as @daily.

    Raise Refusal for a date that never comes. Also raise it for a day of the month together with a day of the week:
    cron takes that for "either", but people mean "both".
    """
    text = " ".join(text.split())
    if text.startswith("@") and text not in MACROS:
        raise Refusal(f"--at '{text}': not one of {', '.join(MACROS)}{suggest_name(text, MACROS)}")
    parts = MACROS.get(text, text).split(" ")
    if len(parts) != len(FIELDS):
        raise Refusal(f"--at '{text}': cron has five fields: minute hour day month weekday, such as '0 3 * * *'")
    sets: list[frozenset[int] | None] = []
    for field, part in zip(FIELDS, parts, strict=True):
        try:
            values = frozenset(field.parse_values(part))
        except Refusal as refusal:
            raise Refusal(f"--at '{text}': {refusal}") from None
        count = field.high - field.low + 1
        if field.is_weekday:
            values = frozenset(number % 7 for number in values)  # 0 and 7 are both Sunday
            count = 7
        sets.append(None if len(values) == count else values)
    days, months, weekdays = sets[2:]
    if days is not None and weekdays is not None:
        raise Refusal(f"--at '{text}': a day of the month and a day of the week: cron runs on either; give only one")
    if days is not None and all(min(days) > DAYS_IN_MONTH.get(month, 31) for month in months or range(1, 13)):
        raise Refusal(f"--at '{text}': there is no such date")
    return Times(*sets)


def check_zone(zone: str) -> None:
    """Refuse a name that is not a time zone, such as a missing town."""
    zones = available_timezones() - {"Factory", "localtime"}
    if not zones:
        raise Refusal("--zone: this machine knows no time zones; install the package tzdata")
    if zone not in zones:
        raise Refusal(f"--zone {zone}: not a time zone{suggest_name(zone, zones)}; write one such as Europe/Berlin")


def clock_changes(times: Times, zone: str, today: date) -> list[str]:
    """Return a line for the next day on which the clock skips one of the times, and one for that with one twice.

    Times of every hour are left out: the next hour is as good.
    """
    if times.hours is None:
        return []
    place = ZoneInfo(zone)
    lines: dict[str, str] = {}
    for day in (today + timedelta(days=number) for number in range(366)):
        midnight = datetime(day.year, day.month, day.day)
        is_even = place.utcoffset(midnight) == place.utcoffset(midnight + timedelta(days=1))
        if is_even or not times.is_due_on(day):
            continue
        for hour, minute in product(sorted(times.hours), sorted(times.minutes or range(60))):
            moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=place)
            if moment.astimezone(UTC).astimezone(place).replace(tzinfo=None) != moment.replace(tzinfo=None):
                lines.setdefault("skips", f"the clock skips {hour:02}:{minute:02} on {day}")
            elif moment.utcoffset() != moment.replace(fold=1).utcoffset():
                lines.setdefault("twice", f"{hour:02}:{minute:02} comes twice on {day}")
    return list(lines.values())


def _pad(values: frozenset[int] | None) -> str:
    return "*" if values is None else ",".join(f"{number:02}" for number in sorted(values))
