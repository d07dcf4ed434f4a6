"""`trainyard glue`: fine-tune one BERT on the tasks of GLUE whose data are here, and report GLUE's own metrics.

A task runs through its recipe pipelines/bert/TASK.yaml, once per seed, as `trainyard fit` does; and once more from
scratch, without the pretrained weights. The scores are those of the split "test" of `data.glue.GLUE`. Table and picture
go to results/glue/, and with `--readme` also into pipelines/bert/. A run that is there is not repeated, nor is a seed
that `trainyard results --measure` recorded for the recipe as it is now.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from components.data.glue import GLUE, SHEETS
from components.errors import Refusal
from components.files import atomic_path
from components.recipes import recipe
from pipelines.commands.results.marked_page import check_marks, insert_text
from pipelines.commands.results.record import content_digest, format_spread, mean_and_deviation, read_record
from pipelines.commands.results.scratch import without_pretraining
from pipelines.stage.outputs import read_json

FAMILY, RESULTS = Path("pipelines/bert"), Path("results/glue")
MARKS = ("<!-- trainyard glue -->", "<!-- end of trainyard glue -->")
PICTURE = "glue.png"
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
    "stsb": GLUETask(("spearman", "pearson"), "0.858", "0.865"),
    "qqp": GLUETask(("f1", "accuracy"), "0.712", "0.721", "Quora Question Pairs, gluebenchmark.com"),
    "mnli": GLUETask(("accuracy",), "0.846", "0.867", "MultiNLI, cims.nyu.edu/~sbowman/multinli"),
    "qnli": GLUETask(("accuracy",), "0.905", "0.927", "gluebenchmark.com"),
    "rte": GLUETask(("accuracy",), "0.664", "0.701"),
    "wnli": GLUETask(("accuracy",), "left out", "left out"),
}


class Arms(NamedTuple):
    """The metrics of each seed of a task."""

    pretrained: list[dict[str, float]]
    scratch: list[dict[str, float]]  # the same network without pretrained weights, for as many steps


Scores = dict[str, Arms]  # by task


def main(
    start: str | None = None,
    seeds: int = 3,
    tasks: Sequence[str] = (),
    raw: str = "data/raw",
    readme: bool = False,
) -> int:
    """Run the tasks at hand over the seeds 0, 1, ..., and write the report; with `readme` also into the recipes' page.

    start: a folder with a BERT, in place of the recipes'. tasks: which ones (none: all). raw: folder of the data.
    """
    page = FAMILY / "README.md"
    if readme:
        if start or tasks:
            raise Refusal(
                "--readme: the page shows all tasks of the recipes as they are; leave out --start and --tasks"
            )
        check_marks(page, MARKS)
    unknown = next((task for task in tasks if task not in TASKS), None)
    if unknown:
        raise Refusal(f"--tasks: {unknown} is not a task of GLUE; it has {', '.join(TASKS)}")
    present = [task for task in tasks or TASKS if not missing_files(task, raw)]
    absent = [task for task in tasks or TASKS if task not in present]
    if not present:
        raise Refusal(f"{raw}: holds no file of {', '.join(absent)}; {where_to_get(absent[0], raw)}")
    scores = run_tasks(present, start, seeds, raw, _fit)
    recorded = [task for task in present if not start and recorded_scores(task).pretrained]
    report = format_report(scores, absent, raw, start, recorded)
    _write(RESULTS / "README.md", report)
    draw_report(scores)
    print(report)
    if readme:
        insert_text(page, MARKS, "\n".join(format_scores(scores)))
        shutil.copyfile(RESULTS / PICTURE, FAMILY / PICTURE)
        print(f"written into {page}")
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
    """Return the metrics of each seed of each task, pretrained and from scratch: `seeds` of them, or all recorded ones.

    fit: runs the recipe at a path.
    """
    scores: Scores = {}
    for task in tasks:
        recorded = Arms([], []) if start else recorded_scores(task)
        scores[task] = Arms([], [])
        for seed in range(max(seeds, len(recorded.pretrained))):
            content = recipe.load(FAMILY / f"{task}.yaml") | {"seed": seed}
            content = recipe.overlay(content, {"data.raw": raw} | ({"task.start": start} if start else {}))
            for arm, recipe_of_arm in zip(Arms._fields, (content, without_pretraining(content)), strict=True):
                rows = getattr(recorded, arm)
                if seed < len(rows):
                    getattr(scores[task], arm).append(rows[seed])
                elif recipe_of_arm is not None:
                    name = f"{task}-{arm}-seed{seed}-{recipe.digest(recipe_of_arm)[:8]}"
                    getattr(scores[task], arm).append(_run_once(name, recipe_of_arm, fit))
    return scores


def _run_once(name: str, content: dict[str, Any], fit: Callable[[Path], None]) -> dict[str, float]:
    """Return the metrics of a recipe, which is written and run unless its metrics are there."""
    metrics = RESULTS / name / "metrics.json"
    if not metrics.is_file():
        path = RESULTS / "recipes" / "glue" / f"{name}.yaml"
        _write(path, yaml.safe_dump(content, sort_keys=False))
        fit(path)
    return read_json(str(metrics))


def recorded_scores(task: str) -> Arms:
    """Return the metrics that docs/records holds for a task's recipe; none if the recipe has changed since."""
    path = FAMILY / f"{task}.yaml"
    record = read_record(path)
    if record is None or record.recipe != content_digest(path) or record.seeds != list(range(len(record.seeds))):
        return Arms([], [])
    return Arms(*(_split_seeds(scores) for scores in (record.scores, record.scratch)))


def _split_seeds(scores: dict[str, list[float]]) -> list[dict[str, float]]:
    """Return {score: value} of each seed."""
    return [dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True)]


def format_report(
    scores: Scores, absent: Sequence[str], raw: str, start: str | None, recorded: Sequence[str] = ()
) -> str:
    """Return the report as Markdown: a line per task with mean and standard deviation, and what is missing.

    recorded: tasks with scores from docs/records.
    """
    lines = [f"# GLUE, from {start or 'the BERT that the recipes name'}", "", *format_scores(scores)]
    if recorded:
        lines += ["", f"Seeds of {', '.join(recorded)} come from docs/records/bert (`trainyard results --measure`)."]
    if absent:
        lines += ["", "Not run, because the data are not here:", ""]
        lines += [f"- {where_to_get(task, raw)}" for task in absent]
    return "\n".join(lines) + "\n"


def format_scores(scores: Scores) -> list[str]:
    """Return the table as lines of Markdown, what its columns mean, and the picture."""
    lines = [
        "| task | metric | pretrained | from scratch | seeds | BERT-Base* | BERT-Large* |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, arms in scores.items():
        facts = TASKS[task]
        for metric in facts.metrics:
            figures = [format_spread([run[metric] for run in runs]) if runs else "-" for runs in arms]
            published = (facts.base, facts.large) if metric == facts.metrics[0] else ("", "")
            cells = [task, metric, *figures, str(len(arms.pretrained)), *published]
            lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "Mean ± standard deviation over seeds. From scratch: the same network without pretrained weights, for as many",
        "steps, with all layers at the full rate.",
        "",
        f"\\* {PUBLISHED_AS}.",
        "Here: the labelled development sets, stsb's test set, rte in the splits of its copy, and as many training",
        "examples as the recipes say: not the same experiment.",
        "",
        f"![scores]({PICTURE})",
    ]


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")


def draw_report(scores: Scores) -> None:
    """Draw the first metric of each task in both arms, its seeds, and the range of one standard deviation."""
    from components.drawings import figures

    rows: dict[str, Any] = {}
    for task, arms in scores.items():
        metric = TASKS[task].metrics[0]
        for name, runs in zip((f"{task} ({metric})", f"{task}, from scratch"), arms, strict=True):
            if runs:
                values = [run[metric] for run in runs]
                mean, deviation = mean_and_deviation(values)
                rows[name] = figures.Interval(mean, mean - (deviation or 0), mean + (deviation or 0), tuple(values))
    title = "GLUE, mean ± standard deviation over seeds"
    drawing = figures.draw_intervals(rows, title, "score", percent=False, connected=False)
    figures.save_figure(drawing, RESULTS / PICTURE)
