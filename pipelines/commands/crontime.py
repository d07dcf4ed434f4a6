"""Times in cron's five fields: checked, and said in systemd's words."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}  # days of a month, where not 31


@dataclass(frozen=True)
class Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        """A value, or the name of a month or day."""
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.low
        if text.isascii() and text.isdigit() and self.low <= int(text) <= self.high:
            return int(text)
        hint = suggest_name(text.lower(), self.names) if text.isalpha() else ""
        raise Refusal(f"{self.name}: '{text}' is not within {self.low} to {self.high}{hint}")

    def values(self, text: str) -> set[int]:
        """All values that a field such as `*/15` or `1-5,9` stands for."""
        found: set[int] = set()
        for part in text.split(","):
            shape = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", part)
            if shape is None or (shape[3] and shape[1] and not shape[2]) or shape[3] in ("0", "00"):
                raise Refusal(f"{self.name}: '{part}' is none of *, 5, 1-5, */15, 1-5/2")
            first = self.number(shape[1]) if shape[1] else self.low
            last = self.number(shape[2]) if shape[2] else first if shape[1] else self.high
            if last < first:
                raise Refusal(f"{self.name}: '{part}' runs backwards")
            found |= set(range(first, last + 1, int(shape[3] or 1)))
        return found


FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("day of the week", 0, 7, DAYS),
)


@dataclass(frozen=True)
class Times:
    """When something is due: sets of numbers; None: always. Days of the week: 0 is Sunday."""

    minutes: frozenset[int] | None
    hours: frozenset[int] | None
    days: frozenset[int] | None
    months: frozenset[int] | None
    weekdays: frozenset[int] | None

    def cron(self) -> str:
        """The five fields in plain numbers, which every cron understands alike."""
        fields = (self.minutes, self.hours, self.days, self.months, self.weekdays)
        return " ".join("*" if some is None else ",".join(map(str, sorted(some))) for some in fields)

    def calendar(self) -> str:
        """systemd's OnCalendar."""
        day, date, time = self.weekdays, (self.months, self.days), (self.hours, self.minutes)
        words = [",".join(DAYS[number].capitalize() for number in sorted(day))] if day is not None else []
        return " ".join([*words, "*-" + "-".join(map(_padded, date)), ":".join(map(_padded, time)) + ":00"])


def parse_times(text: str) -> Times:
    """Five fields or a macro such as @daily. Refuses what never comes, and a day of the month beside one of the week,
    which cron takes for 'either' and everybody for 'both'."""
    text = " ".join(text.split())
    if text.startswith("@") and text not in MACROS:
        raise Refusal(f"--at '{text}': not one of {', '.join(MACROS)}{suggest_name(text, MACROS)}")
    fields = MACROS.get(text, text).split(" ")
    if len(fields) != len(FIELDS):
        raise Refusal(f"--at '{text}': cron has five fields: minute hour day month weekday, such as '0 3 * * *'")
    sets: list[frozenset[int] | None] = []
    for field, given in zip(FIELDS, fields, strict=True):
        try:
            found = frozenset(field.values(given))
        except Refusal as refusal:
            raise Refusal(f"--at '{text}': {refusal}") from None
        if field.name.endswith("week"):
            found = frozenset(number % 7 for number in found)
        everything = len(found) == (7 if field.name.endswith("week") else field.high - field.low + 1)
        sets.append(None if everything else found)
    days, months, weekdays = sets[2:]
    if days is not None and weekdays is not None:
        raise Refusal(f"--at '{text}': a day of the month and of the week at once: cron takes either; give one of them")
    if days is not None and all(min(days) > LONGEST.get(month, 31) for month in months or range(1, 13)):
        raise Refusal(f"--at '{text}': that day never comes")
    return Times(*sets)


def _padded(some: frozenset[int] | None) -> str:
    return "*" if some is None else ",".join(f"{number:02}" for number in sorted(some))
