"""`trainyard glue`: fine-tune one BERT on the tasks of GLUE whose data are here, and report GLUE's own metrics.

A task runs through its recipe pipelines/bert/TASK.yaml, once per seed, as `trainyard fit` does. The scores are those of
the split "test" of `data.glue.GLUE`. Table and picture go to results/glue/. A run that is there is not repeated, nor
is a seed that `trainyard results --measure` recorded for the recipe as it is now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from components.data.glue import GLUE, SHEETS
from components.errors import Refusal
from components.files import atomic_path
from components.recipes import recipe
from pipelines.commands.results.record import content_digest, read_record
from pipelines.stage.outputs import read_json

FAMILY, RESULTS = Path("pipelines/bert"), Path("results/glue")
PUBLISHED_AS = "BERT's paper (Devlin et al. 2019), GLUE's test server, all training examples"


class GLUETask(NamedTuple):
    """A task of GLUE: its metrics in our files, and the published scores of BERT-Base and -Large."""

    metrics: tuple[str, ...]
    base: str
    large: str
    source: str = ""  # where to get data that no data set here reads


TASKS = {
    "cola": GLUETask(("matthews",), "0.521", "0.605"),
    "sst2": GLUETask(("accuracy",), "0.935", "0.949"),
    "mrpc": GLUETask(("f1", "accuracy"), "0.889", "0.893", "Microsoft Research Paraphrase Corpus, gluebenchmark.com"),
    "stsb": GLUETask(("pearson", "spearman"), "0.858", "0.865"),
    "qqp": GLUETask(("f1", "accuracy"), "0.712", "0.721", "Quora Question Pairs, gluebenchmark.com"),
    "mnli": GLUETask(("accuracy",), "0.846", "0.867", "MultiNLI, cims.nyu.edu/~sbowman/multinli"),
    "qnli": GLUETask(("accuracy",), "0.905", "0.927", "gluebenchmark.com"),
    "rte": GLUETask(("accuracy",), "0.664", "0.701"),
    "wnli": GLUETask(("accuracy",), "left out", "left out"),
}
Scores = dict[str, list[dict[str, float]]]  # task -> the metrics of each seed


def main(start: str | None = None, seeds: int = 3, tasks: Sequence[str] = (), raw: str = "data/raw") -> int:
    """Run the tasks at hand over the seeds 0, 1, ..., and write the report.

    start: a folder with a BERT, in place of the recipes'. tasks: which ones (none: all). raw: folder of the data.
    """
    unknown = next((task for task in tasks if task not in TASKS), None)
    if unknown:
        raise Refusal(f"--tasks: {unknown} is not a task of GLUE; it has {', '.join(TASKS)}")
    present = [task for task in tasks or TASKS if not missing_files(task, raw)]
    absent = [task for task in tasks or TASKS if task not in present]
    if not present:
        raise Refusal(f"{raw}: holds no file of {', '.join(absent)}; {where_to_get(absent[0], raw)}")
    scores = run_tasks(present, start, seeds, raw, _fit)
    recorded = [task for task in present if not start and recorded_scores(task)]
    report = format_report(scores, absent, raw, start, recorded)
    _write(RESULTS / "README.md", report)
    draw_report(scores)
    print(report)
    return 0


def _fit(path: Path) -> None:
    from pipelines import fit

    fit.main(str(path))


def missing_files(task: str, raw: str) -> list[str]:
    """Return the original files of a task that are not in the folder `raw`; all of a task that no data set reads."""
    if task not in SHEETS:
        return [task]
    files = [f"{task}/{name}" for name in SHEETS[task].splits.values()]
    return [file for file in files if not (Path(raw) / file).is_file()]


def where_to_get(task: str, raw: str) -> str:
    """Return where the data of a task come from."""
    if TASKS[task].source:
        return f"{task}: {TASKS[task].source}; no data set here reads it"
    file = missing_files(task, raw)[0]
    return f"{task}: {GLUE.originals[file][0]} and the files beside it, into {raw}/{task}"


def run_tasks(tasks: Sequence[str], start: str | None, seeds: int, raw: str, fit: Callable[[Path], None]) -> Scores:
    """Return the metrics of each seed of each task; fit: runs the recipe at a path."""
    scores: Scores = {}
    for task in tasks:
        scores[task] = []
        recorded = {} if start else recorded_scores(task)
        for seed in range(seeds):
            if seed in recorded:
                scores[task].append(recorded[seed])
                continue
            content = recipe.load(FAMILY / f"{task}.yaml") | {"seed": seed}
            content = recipe.overlay(content, {"data.raw": raw} | ({"task.start": start} if start else {}))
            name = f"{task}-seed{seed}-{recipe.digest(content)[:8]}"
            metrics = RESULTS / name / "metrics.json"
            if not metrics.is_file():
                path = RESULTS / "recipes" / "glue" / f"{name}.yaml"
                _write(path, yaml.safe_dump(content, sort_keys=False))
                fit(path)
            scores[task].append(read_json(str(metrics)))
    return scores


def recorded_scores(task: str) -> dict[int, dict[str, float]]:
    """Return {seed: metrics} that docs/records holds for a task's recipe; {} if the recipe has changed since."""
    path = FAMILY / f"{task}.yaml"
    record = read_record(path)
    if record is None or record.recipe != content_digest(path):
        return {}
    rows = zip(*record.scores.values(), strict=True)
    return {seed: dict(zip(record.scores, row, strict=True)) for seed, row in zip(record.seeds, rows, strict=True)}


def format_report(
    scores: Scores, absent: Sequence[str], raw: str, start: str | None, recorded: Sequence[str] = ()
) -> str:
    """Return the report as Markdown: a line per task with mean and standard deviation, and what is missing.

    recorded: tasks with scores from docs/records.
    """
    lines = [
        f"# GLUE, from {start or 'the BERT that the recipes name'}",
        "",
        "| task | metric | here, mean ± standard deviation | seeds | BERT-Base* | BERT-Large* |",
        "|---|---|---|---|---|---|",
    ]
    for task, runs in scores.items():
        facts = TASKS[task]
        for metric in facts.metrics:
            values = np.array([run[metric] for run in runs])
            spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
            published = (facts.base, facts.large) if metric == facts.metrics[0] else ("", "")
            lines.append(
                f"| {task} | {metric} | {values.mean():.3f}{spread} | {len(values)} | {published[0]} | {published[1]} |"
            )
    lines += [
        "",
        f"\\* {PUBLISHED_AS}; stsb as Spearman there. Here: the labelled development sets, stsb's test set, rte in the",
        "splits of its copy, and as many training examples as the recipes say: not the same experiment.",
        "",
        "![scores](glue.png)",
    ]
    if recorded:
        lines += ["", f"Seeds of {', '.join(recorded)} come from docs/records/bert (`trainyard results --measure`)."]
    if absent:
        lines += ["", "Not run, because the data are not here:", ""]
        lines += [f"- {where_to_get(task, raw)}" for task in absent]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")


def draw_report(scores: Scores) -> None:
    """Draw the first metric of each task, its seeds, and the range of one standard deviation."""
    from components.drawings import figures

    rows: dict[str, Any] = {}
    for task, runs in scores.items():
        metric = TASKS[task].metrics[0]
        values = [run[metric] for run in runs]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        mean = float(np.mean(values))
        rows[f"{task} ({metric})"] = figures.Interval(mean, mean - deviation, mean + deviation, tuple(values))
    title = "GLUE, mean ± standard deviation over seeds"
    drawing = figures.draw_intervals(rows, title, "score", percent=False, connected=False)
    figures.save_figure(drawing, RESULTS / "glue.png")
