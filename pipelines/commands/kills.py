"""The kills of `trainyard chaos`: what they cost and what was lost, over several calls if they share a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from components.errors import Refusal, first_line
from components.files import read_object, write_json


@dataclass
class Kill:
    """One killed process; `seconds` until the next step or trial, or None if the run ended without another."""

    kind: str
    stage: str
    seconds: float | None = None


@dataclass
class Portion:
    """A run in which processes were killed, and what its results and its tracker lost.

    repetitions: of the command. files: result files that were compared; different: those that are not equal. points,
    lost, doubled: of the tracker. seconds: duration of the run.
    """

    kills: list[Kill]
    repetitions: int
    files: int
    different: list[str]
    points: int
    lost: int
    doubled: int
    seconds: float


class Series:
    """The runs of one or several calls, and the undisturbed results that all of them are compared with."""

    def __init__(self, file: Path | None, **conditions: str) -> None:
        """Continue the series in `file`, if it exists; conditions: digests of what must not change within a series."""
        self.file = file
        self.conditions = conditions
        self.expected: dict[str, str] = {}
        self.undisturbed_seconds: float | None = None
        self.portions: list[Portion] = []
        if file is not None and file.is_file():
            self._load(file)

    def _load(self, file: Path) -> None:
        try:
            stored = read_object(file)
            conditions = stored["conditions"]
            self.expected, self.undisturbed_seconds = stored["expected"], stored["undisturbed_seconds"]
            for portion in stored["portions"]:
                kills = [Kill(**kill) for kill in portion.pop("kills")]
                self.portions.append(Portion(kills, **portion))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Refusal(f"chaos --record: {file} is damaged ({first_line(error)}); delete it") from None
        if conditions != self.conditions:
            raise Refusal(f"chaos --record: {file} was recorded with other code or settings; name another file")

    def save(self) -> None:
        """Write the file, if there is one."""
        if self.file is not None:
            facts = {name: getattr(self, name) for name in ("conditions", "expected", "undisturbed_seconds")}
            write_json(self.file, facts | {"portions": [asdict(portion) for portion in self.portions]})


def print_report(portions: list[Portion], undisturbed_seconds: float | None) -> int:
    """Print a table of what was killed and what was lost; return 0 if nothing was lost, otherwise 1.

    undisturbed_seconds: duration of a run without kills, if it is known.
    """
    kills = [kill for portion in portions for kill in portion.kills]
    different = [name for portion in portions for name in portion.different]
    files = sum(portion.files for portion in portions)
    lost, doubled = sum(portion.lost for portion in portions), sum(portion.doubled for portion in portions)
    rows = {
        "kills": f"{len(kills)} ({format_counts(kill.kind for kill in kills)})",
        "during": format_counts(kill.stage for kill in kills),
        "runs": f"{len(portions)}",
        "command repeated": f"{sum(portion.repetitions for portion in portions)} times",
        "files equal": f"{files - len(different)} of {files}",
        "points sent": f"{sum(portion.points for portion in portions):,}, lost {lost}, doubled {doubled}",
    }
    rows |= time_rows(kills, undisturbed_seconds, [portion.seconds for portion in portions])
    for name, value in rows.items():
        print(f"{name:<36} {value}")
    for name in sorted(set(different)):
        print(f"DIFFERENT: {name}")
    return 1 if different or lost or doubled else 0


def format_counts(names: Iterable[str]) -> str:
    """Return how often each name occurs, such as "2 dvc, 3 worker"."""
    return ", ".join(f"{count} {name}" for name, count in sorted(Counter(names).items()))


def time_rows(kills: list[Kill], undisturbed_seconds: float | None, durations: list[float]) -> dict[str, str]:
    """Return the rows of the report about the time that kills cost."""
    rows = {}
    if undisturbed_seconds is not None:
        total = sum(durations)
        useful = len(durations) * undisturbed_seconds
        cost = (total - useful) / len(kills)
        rows = {
            "seconds lost per kill": f"{cost:.1f} (repeated work, starting again)",
            "effective time": f"{useful / total:.0%} with a kill every {total / len(kills):.0f} s,"
            f" as here; from the seconds lost {60 / (60 + cost):.0%} with one every 60 s",
        }
    for kind in sorted({kill.kind for kill in kills}):
        seconds = [kill.seconds for kill in kills if kill.kind == kind and kill.seconds is not None]
        rows[f"seconds to the next step, {kind}"] = (
            f"{median(seconds):.1f} (median of {len(seconds)})" if seconds else "-"
        )
    return rows
