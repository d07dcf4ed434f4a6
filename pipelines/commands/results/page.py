"""`trainyard results`: write the tables of systems in RESULTS.md from the records, which `--measure` makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.errors import Refusal
from pipelines.commands.results.expectation import Expectation, read_expectation
from pipelines.commands.results.measure import measure_recipe
from pipelines.commands.results.record import Record, mean_and_deviation, read_record
from pipelines.stage.outputs import format_value

PAGE = Path("RESULTS.md")
MARKS = ("<!-- trainyard results -->", "<!-- end of trainyard results -->")
TITLES = ("system", "published", "expected", "measured", "seeds", "s per seed", "hardware", "commit")
PREFIXES = ("task.", "fit.", "data.", "model.", "optimizer.")  # left out of a study's values, for brevity


def main(measure: list[str], seeds: int | None = None) -> int:
    """Measure the recipes `measure`, if any, and write all records into RESULTS.md; return exit code 0."""
    content = _read_page()
    for path in measure:
        print(f"written: {measure_recipe(Path(path), seeds)}", flush=True)
    tables = format_tables(Path("pipelines"))
    before, _, rest = content.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}\n{tables}\n{MARKS[1]}{after}", encoding="utf-8")
    print(f"{PAGE}: {tables.count(' `dvc repro ')} families" if tables else f"{PAGE}: no records yet")
    return 0


def _read_page() -> str:
    """Return the content of RESULTS.md; refuse one without the lines of MARKS."""
    content = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    if MARKS[1] not in content.partition(MARKS[0])[2]:
        raise Refusal(f"{PAGE}: lacks the line '{MARKS[0]}', or '{MARKS[1]}' after it; add them")
    return content


def format_tables(folder: Path) -> str:
    """Return a Markdown section for each family below `folder` with records, in alphabetical order."""
    sections = []
    for family in sorted(path.parent for path in folder.glob("*/dvc.yaml")):
        rows, studies = [], []
        for path in sorted(path for path in family.glob("*.yaml") if path.name != "dvc.yaml"):
            record = read_record(path)
            if record is not None:
                rows.append(format_row(path.stem, read_expectation(path), record))
                studies += format_trials(path.stem, read_expectation(path), record)
        if rows:
            head = [f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|"]
            lines = [f"### {family.name}: `dvc repro {family}/dvc.yaml:fit@SYSTEM`", "", *head, *rows]
            sections.append("\n".join([*lines, *(["", *studies] if studies else [])]))
    return "\n\n".join(sections)


def format_row(system: str, expectation: Expectation | None, record: Record) -> str:
    """Return a system's line; its scores are those that the header expects, otherwise the monitored one."""
    intervals = expectation.intervals if expectation else {}
    scores = [name for name in intervals if name in record.scores] or [record.monitor]
    expected = [f"{name} {low} to {high}" for name, (low, high) in intervals.items()]
    seconds = sum(record.seconds) / len(record.seconds)
    cells = [
        system,
        expectation.published if expectation and expectation.published else "-",
        ", ".join(expected) or "-",
        ", ".join(f"{record.split} {name} {format_figure(record.scores[name])}" for name in scores),
        f"{len(record.seeds)}",
        f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}",
        record.hardware,
        record.commit,
    ]
    return f"| {' | '.join(cells)} |"


def format_figure(values: list[float]) -> str:
    """Return the mean and the standard deviation over seeds, or the only value as such."""
    mean, deviation = mean_and_deviation(values)
    number = f"{mean:.3f}" if 0.01 <= abs(mean) < 100 else f"{mean:.4g}"
    if deviation is None:
        return f"{number} (one seed)"
    return f"{number} ± {deviation:.3f}" if abs(mean) < 100 else f"{number} ± {deviation:.3g}"


def format_trials(system: str, expectation: Expectation | None, record: Record) -> list[str]:
    """Return a paragraph with the figure of each trial of a study; [] for a plain fit."""
    if not record.trials:
        return []
    candidates = [*(expectation.intervals if expectation else {}), record.monitor]
    score = next(name for name in candidates if name in record.trials[0])
    parts = [f"{_describe_values(trial, record)}: {_format_trial(trial, score)}" for trial in record.trials]
    return [f"- **{system}**, {score} of each trial (on training examples): {'; '.join(parts)}"]


def _describe_values(trial: dict[str, Any], record: Record) -> str:
    """Return what sets a trial apart: the values that differ between the trials of its record."""
    columns = {name for other in record.trials for name in other if "." in name}
    differing = sorted(name for name in columns if len({str(other.get(name)) for other in record.trials}) > 1)
    values = [f"{_shorten_name(name)} {format_value(trial[name])}" for name in differing if name in trial]
    return ", ".join(values) or "as it is"


def _shorten_name(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.removesuffix(".use")


def _format_trial(trial: dict[str, Any], score: str) -> str:
    if score not in trial:
        return "no score"
    deviation = f" ± {trial[f'{score}_std']:.3g}" if f"{score}_std" in trial else ""
    training = f" ({trial[f'train_{score}']:.3g})" if f"train_{score}" in trial else ""
    return f"{trial[score]:.3g}{deviation}{training}"
