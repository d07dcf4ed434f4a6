"""Read what a recipe's header expects: the scores, each with an interval, and the number of seeds.

    # Expect: accuracy 0.972 to 0.976 over 5 seeds; published 0.82 (textbook); anything else
    # Expect: mse 1.10 to 1.15 over 5 seeds of data

The interval covers the figure of every seed. "of data" varies `data.seed` together with the recipe's seed. Other lines
are prose that nothing compares: such a recipe has no record.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from components.errors import Refusal, pluralize

START = "# Expect:"
NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
SCORE = rf"([a-z]\w*) ({NUMBER}) to ({NUMBER})"
LINE = re.compile(rf"{START} ({SCORE}(?:, {SCORE})*) over (\d+) seeds?( of data)?(?:; (.*))?")
PUBLISHED = "published "


@dataclass(frozen=True)
class Expectation:
    """The figures that a recipe's header states."""

    intervals: dict[str, tuple[str, str]]  # score -> (low, high), as they are written
    seeds: int
    of_data: bool  # whether `data.seed` varies, too
    published: str  # "" where the header names no published figure

    def covers(self, score: str, value: float) -> bool:
        """Return whether a value, rounded like the header's figures, lies in the score's interval."""
        low, high = self.intervals[score]
        return float(low) <= float(round_like(value, low)) <= float(high)


def read_expectation(path: Path) -> Expectation | None:
    """Return the expectation in the header of the recipe at `path`, or None where it is prose."""
    if not path.is_file():
        raise Refusal(f"{path}: no such recipe; name a file such as pipelines/vision/lenet.yaml")
    lines = path.read_text(encoding="utf-8").splitlines()
    line = next((line for line in lines if line.startswith(START)), "")
    match = LINE.fullmatch(line)
    if match is None:
        return None
    intervals = {name: (low, high) for name, low, high in re.findall(SCORE, match[1])}
    seeds, of_data, rest = match.groups()[-3:]
    remarks = (rest or "").split("; ")
    published = next((text.removeprefix(PUBLISHED) for text in remarks if text.startswith(PUBLISHED)), "")
    return Expectation(intervals, int(seeds), bool(of_data), published)


def suggest_line(scores: dict[str, list[float]], seeds: int) -> str:
    """Return a header's line for the measured `scores` (one value per seed), each interval rounded outwards."""
    parts = []
    for name, values in scores.items():
        decimals = 3 if max(map(abs, values)) < 10 else 1 if max(map(abs, values)) < 1000 else 0
        low, high = math.floor(min(values) * 10**decimals), math.ceil(max(values) * 10**decimals)
        parts.append(f"{name} {low / 10**decimals:.{decimals}f} to {high / 10**decimals:.{decimals}f}")
    return f"{START} {', '.join(parts)} over {pluralize(seeds, 'seed')}"


def round_like(value: float, example: str) -> str:
    """Return `value` with as many decimals as the number `example`; with its significant digits if it has an e."""
    mantissa, exponent, _ = example.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return f"{value:.{decimals}e}" if exponent else f"{value:.{decimals}f}"
