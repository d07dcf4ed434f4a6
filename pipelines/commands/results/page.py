"""`trainyard results`: write the tables of systems in RESULTS.md from the records, which `--measure` makes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from components.errors import Refusal, pluralize
from components.recipes import recipe
from pipelines import fit
from pipelines.commands.results.expectation import Expectation, read_expectation, suggest_line
from pipelines.commands.results.marked_page import check_marks, insert_text
from pipelines.commands.results.measure import measure_recipe
from pipelines.commands.results.record import Record, mean_and_deviation, read_record
from pipelines.stage.outputs import format_value

PAGE = Path("RESULTS.md")
MARKS = ("<!-- trainyard results -->", "<!-- end of trainyard results -->")
TITLES = ("system", "published", "expected", "measured", "seeds", "s per seed", "hardware", "commit")
PREFIXES = ("task.", "fit.", "data.", "model.", "optimizer.")  # left out of a study's values, for brevity


def main(measure: list[str], seeds: int | None = None, add: bool = False) -> int:
    """Measure the recipes `measure`, if any, and write all records into RESULTS.md; return exit code 0.

    add: run only the seeds that a record lacks.
    """
    if (seeds or add) and not measure:
        raise Refusal("--seeds and --add: only with --measure, which names the recipes to run")
    check_marks(PAGE, MARKS)  # before hours of measuring
    for path in map(Path, measure):
        print(f"written: {measure_recipe(path, seeds, add)}", flush=True)
        _compare_with_header(path)
    tables = format_tables(Path("pipelines"))
    insert_text(PAGE, MARKS, tables)
    print(f"{PAGE}: {tables.count(' `dvc repro ')} families" if tables else f"{PAGE}: no records yet")
    return 0


def _compare_with_header(path: Path) -> None:
    """Print the line that the header of the recipe at `path` lacks, or that its new record contradicts."""
    record, expectation = read_record(path), read_expectation(path)
    assert record is not None  # it was just written
    names = [name for name in (expectation.intervals if expectation else ()) if name in record.scores]
    scores = {name: record.scores[name] for name in names or [record.monitor]}
    if not all(math.isfinite(value) for values in scores.values() for value in values):
        return  # no interval covers it
    covered = [expectation.covers(name, value) for name in names for value in scores[name]] if expectation else []
    if not covered or not all(covered):
        print(f"{path}: its header disagrees; replace its line by: {suggest_line(scores, len(record.seeds))}")


def format_tables(folder: Path) -> str:
    """Return a Markdown section for each family below `folder` with records, in alphabetical order."""
    sections = []
    for family in sorted(path.parent for path in folder.glob("*/dvc.yaml")):
        rows, studies = [], []
        for path in sorted(path for path in family.glob("*.yaml") if path.name != "dvc.yaml"):
            record = read_record(path)
            if record is not None:
                rows.append(format_row(path.stem, read_expectation(path), record))
                tune = recipe.load(path).get("tune", {})
                studies += format_trials(path.stem, read_expectation(path), record, tune)
        if rows:
            head = [f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|"]
            lines = [f"### {family.name}: `dvc repro {family}/dvc.yaml:fit@SYSTEM`", "", *head, *rows]
            sections.append("\n".join([*lines, *studies]))
    return "\n\n".join(sections)


def format_row(system: str, expectation: Expectation | None, record: Record) -> str:
    """Return a system's line; its scores are those that the header expects, otherwise the monitored one."""
    intervals = expectation.intervals if expectation else {}
    scores = [name for name in intervals if name in record.scores] or [record.monitor]
    expected = [f"{name} {low} to {high}" for name, (low, high) in intervals.items()]
    alone = f"best of {pluralize(len(record.trials), 'trial')}" if record.trials else "one seed"
    seconds = sum(record.seconds) / len(record.seconds)
    cells = [
        system,
        expectation.published if expectation and expectation.published else "-",
        ", ".join(expected) or "-",
        ", ".join(f"{record.split} {name} {format_figure(record.scores[name], alone)}" for name in scores)
        + _format_scratch(record, scores),
        f"{len(record.seeds)}",
        f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}",
        record.hardware,
        ", ".join(dict.fromkeys(record.commits)),
    ]
    return f"| {' | '.join(cells)} |"


def _format_scratch(record: Record, scores: list[str]) -> str:
    """Return the figures of the same network without pretrained weights, to stand behind those with them."""
    figures = [f"{name} {format_figure(record.scratch[name])}" for name in scores if name in record.scratch]
    return f"; from scratch {', '.join(figures)}" if figures else ""


def format_figure(values: list[float], alone: str = "one seed") -> str:
    """Return the mean and the standard deviation over seeds, with as many decimals; `alone`: what an only value is."""
    mean, deviation = mean_and_deviation(values)
    is_plain = 0.01 <= abs(mean) < 100 or (abs(mean) < 100 and (deviation or 0) >= 0.001)
    number = f"{mean:.3f}" if is_plain else format_value(mean) if abs(mean) >= 1000 else f"{mean:.4g}"
    if deviation is None:
        return f"{number} ({alone})"
    return f"{number} ± {deviation:.3f}" if abs(mean) < 100 else f"{number} ± {deviation:.3g}"


def format_trials(
    system: str, expectation: Expectation | None, record: Record, tune: dict[str, Any] | None = None
) -> list[str]:
    """Return a folded table with a line for each trial of a study; [] for a plain fit.

    tune: the recipe's section; `show`, the score of the study's picture, and its `columns` get columns of their own.
    """
    if not record.trials:
        return []
    candidates = [*(expectation.intervals if expectation else {}), record.monitor]
    score = next(name for name in candidates if name in record.trials[0])
    names = _differing_values(record.trials)
    tune = tune or {}
    fit.check_shown(tune, dict.fromkeys(name for trial in record.trials for name in trial), f"{system}: ")
    extra = [tune.get("show", score), *tune.get("columns", [])]
    beside = [name for name in extra if name in record.trials[0] and name != score]
    titles = [*map(_shorten_name, names), score, f"{score} on training examples"]
    titles += [_column_title(name, tune) for name in beside]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for trial in record.trials:
        values = [format_value(trial[name]) if name in trial else "" for name in names]
        training = f"train_{score}"
        scores = [_format_score(trial, score), format_value(trial[training]) if training in trial else ""]
        scores += [_format_score(trial, name) for name in beside]
        lines.append(f"| {' | '.join([*values, *scores])} |")
    summary = f"<b>{system}</b>: {score} of its {pluralize(len(record.trials), 'trial')}"
    return ["", f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]


def _differing_values(trials: list[dict[str, Any]]) -> list[str]:
    """Return the names of the values that set the trials apart."""
    columns = {name for trial in trials for name in trial if "." in name}
    return sorted(name for name in columns if len({str(trial.get(name)) for trial in trials}) > 1)


def _shorten_name(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.removesuffix(".use")


def _column_title(column: str, tune: dict[str, Any]) -> str:
    """Return a column's title; seconds are those of a trial's fold, seed or epoch."""
    kind = next((kind for kind in fit.RUNG_FUNCTIONS if kind in tune), "")
    return f"seconds per {kind.removesuffix('s')}" if column == "seconds" else column


def _format_score(trial: dict[str, Any], score: str) -> str:
    if score not in trial:
        return "no score"
    if not math.isfinite(trial[score]):
        return "-"
    deviation = trial.get(f"{score}_std", math.nan)
    return format_value(trial[score]) + (f" ± {format_value(deviation)}" if math.isfinite(deviation) else "")
