"""Show what training found as sections of the report: curves, search, diagnoses and mistakes.

Each section is a function (params, folder) that yields its blocks and saves its pictures in the folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.drawings import figures
from components.drawings.figures import Curve
from components.drawings.page import Block, Missing, Picture, Row, Table, Text
from components.drawings.search import TrialPoint, draw_search
from components.errors import pluralize
from components.recipes import recipe
from components.verdicts.diagnosis import REMEDIES
from pipelines.flagship import (
    ARM_NAMES,
    BEST_FILE,
    CONFUSION_FILE,
    FINETUNE_CURVES_FILE,
    MISTAKES_FILE,
    PRETRAIN_CURVES_FILE,
    TRIALS_FILE,
)
from pipelines.stage.diagnoses import read_verdicts
from pipelines.stage.outputs import Rows, display_name, format_value, parse_number, read_csv, read_json, read_manifest

MISTAKES_FILES = (Path(MISTAKES_FILE), Path(MISTAKES_FILE).with_suffix(".png"))
PANELS = {  # title: columns, of which the one with the most points is drawn
    "Training loss": ("epoch/loss", "train/loss"),
    "Training accuracy": ("epoch/accuracy", "train/accuracy"),
    "Validation accuracy": ("validation/accuracy",),
    "Learning rate": ("learning_rate",),
}
ENOUGH_POINTS = 12  # a curve of so many points shows its shape; more only add noise
MANY_CLASSES = 12  # a larger confusion matrix takes the page's width
MOST_MISTAKES = 8  # rows of the table of mistakes


# ------------------------------------------------------------------------------------------------ curves


def finetuning(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    """Yield the curves of fine-tuning."""
    yield from _curves(FINETUNE_CURVES_FILE, "finetune", folder, "Thin: one seed. Bold: the mean over the seeds.")


def pretraining(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    """Yield the curves of pretraining."""
    yield from _curves(PRETRAIN_CURVES_FILE, "pretrain", folder, "")


def _curves(path: str, stage: str, folder: Path, note: str) -> Iterator[Block]:
    rows = read_csv(path, ("run", "epoch"))
    if not rows:
        yield Missing("the curves", f"dvc repro {stage}")
        return
    pictures = []
    for title, columns in PANELS.items():
        groups = max((_groups(path, rows, column) for column in columns), key=_point_count)
        if groups:
            file = folder / f"{stage}-{title.lower().replace(' ', '-')}.svg"
            drawing = figures.draw_curves(groups, title)
            pictures.append(Picture(figures.save_figure(drawing, file), f"{title} against the epoch, {stage}"))
    yield Row(pictures)
    if note:
        yield Text(note, quiet=True)


def _groups(path: str, rows: Rows, column: str) -> dict[str, list[Curve]]:
    """Return {arm: curves of its runs} in a column; a run is named by arm and seed ('scratch 3'), or by one word."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(column):
            point = (parse_number(row, "epoch", path), parse_number(row, column, path))
            points.setdefault(row["run"], []).append(point)
    groups: dict[str, list[Curve]] = {}
    for run, pairs in points.items():
        arm = run.rpartition(" ")[0] or run
        x, y = np.array(pairs).T
        groups.setdefault(ARM_NAMES.get(arm, arm), []).append((x, y))
    return groups


def _point_count(groups: dict[str, list[Curve]]) -> int:
    """Return the number of points of the shortest curve, at most ENOUGH_POINTS; 0 without curves."""
    if not groups:
        return 0
    return min([ENOUGH_POINTS, *(len(x) for curves in groups.values() for x, _ in curves)])


# ------------------------------------------------------------------------------------------------ search


def search(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    """Yield the picture of all trials, and the best values of each arm."""
    rows, best = read_csv(TRIALS_FILE, ("arm", "trial", "accuracy")), read_json(BEST_FILE)
    if not rows or not best:
        yield Missing("the search", "dvc repro tune")
        return
    # Values may be sections; an arm may have chosen one that another has not.
    best = {arm: result | {"values": recipe.flatten(result["values"])} for arm, result in best.items()}
    keys = list(dict.fromkeys(key for result in best.values() for key in result["values"]))
    x, others = _choose_axis(rows, keys)
    if x is not None:
        points = [_trial_point(row, x, others, best) for row in rows if row["accuracy"]]
        log = bool(params["tune"]["search"]["space"].get(x, {}).get("log"))
        drawing = draw_search(points, "Trials of the search", display_name(x), "validation accuracy", log)
        yield Picture(
            figures.save_figure(drawing, folder / "search.svg"),
            "Validation accuracy of every trial",
            "Mean over the folds of the training split that a trial was scored on "
            f"({params['tune']['folds']} when not stopped).",
        )
    yield Table(
        ["best values", *map(display_name, keys), "validation accuracy", "trials", "stopped early"],
        [_best_row(arm, result, keys, rows) for arm, result in best.items()],
    )
    for arm, result in best.items():
        for sentence in result.get("edges", []):
            yield Text(f"{ARM_NAMES.get(arm, arm)}: {sentence}.")


def _best_row(arm: str, result: dict[str, Any], keys: Sequence[str], rows: Rows) -> list[str]:
    stopped = sum(row["arm"] == arm and not _is_finished(row) for row in rows)
    return [
        ARM_NAMES.get(arm, arm),
        *(format_value(result["values"].get(key, "")) for key in keys),
        f"{result['scores']['accuracy']:.4f}",
        str(result["trials"]),
        str(stopped),
    ]


def _choose_axis(rows: Rows, keys: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the numeric key with the most different values, if there is one, and the other keys."""
    numeric = [key for key in keys if all(_is_number(row.get(key, "")) for row in rows)]
    x = max(numeric, key=lambda key: len({row[key] for row in rows}), default=None)
    return x, [key for key in keys if key != x]


def _trial_point(row: dict[str, str], x: str, others: Sequence[str], best: dict[str, Any]) -> TrialPoint:
    values = best[row["arm"]]["values"]
    return TrialPoint(
        ARM_NAMES.get(row["arm"], row["arm"]),
        parse_number(row, x, TRIALS_FILE),
        parse_number(row, "accuracy", TRIALS_FILE),
        ", ".join(f"{display_name(key)} {row.get(key, '')}" for key in others),
        _is_finished(row),
        all(str(values.get(key, "")) == row.get(key, "") for key in (x, *others)),
    )


def _is_finished(row: dict[str, str]) -> bool:
    return row.get("finished", "True") == "True"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text) is not None


# ------------------------------------------------------------------------------------------------ diagnosis


def diagnosis(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    """Yield the verdict on each run with its remedies; seeds of an arm with the same verdict share a row."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for verdict in read_verdicts():
        arm, _, seed = verdict["run"].rpartition(" ")
        run = ARM_NAMES.get(arm, arm) if seed.isdigit() else verdict["run"]
        groups.setdefault((run, verdict["verdict"]), []).append(verdict)
    if not groups:
        yield Missing("the runs' diagnoses", "dvc repro")
        return
    rows = []
    for (run, name), verdicts in groups.items():
        seeds = f", {pluralize(len(verdicts), 'seed')}" if run in ARM_NAMES.values() else ""
        remedies = "; ".join(REMEDIES[name]) or ("none needed" if name == "fine" else "-")
        rows.append([run + seeds, name, "; ".join(verdicts[0]["reasons"]), remedies])
    yield Table(["run", "verdict", "why", "remedies"], rows, text_columns=(1, 2, 3))
    yield Text(
        "The loss is split into four parts: what the model can't express, what the optimisation has not reached,"
        " over-fitting, and mismatch of the splits. The largest part names the verdict. For several seeds, the losses"
        " of the first one are shown.",
        quiet=True,
    )


# ------------------------------------------------------------------------------------------------ mistakes


def mistakes(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    """Yield the confusion matrix, the most frequent mistakes, and the most confident ones as pictures."""
    rows = read_csv(CONFUSION_FILE, ("truth", "predicted"))
    if not rows:
        yield Missing("the confusion matrix", "dvc repro evaluate")
    else:
        yield from _confusion(rows, folder)
    worst = next((path for path in MISTAKES_FILES if path.is_file()), None)
    if worst is None:
        yield Missing("the worst mistakes as pictures", "dvc repro evaluate")
    else:
        text = "Truth → prediction, and the probability that the model gave it: the most confident mistakes come first."
        yield Picture(worst, "The worst mistakes", text, wide=True)


def _confusion(rows: Rows, folder: Path) -> Iterator[Block]:
    manifest = read_manifest("target")
    present = {row[side] for row in rows for side in ("truth", "predicted")}
    classes = list(manifest["classes"]) if manifest and present <= {*manifest["classes"]} else sorted(present)
    index = {name: position for position, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), int)
    for row in rows:
        counts[index[row["truth"]], index[row["predicted"]]] += 1
    drawing = figures.draw_confusion(counts, classes, "Confusion, fine-tuned")
    matrix = Picture(
        figures.save_figure(drawing, folder / "confusion.svg"),
        "Confusion matrix",
        f"{int(counts.trace()):,} of {len(rows):,} predictions of the first seed are right.",
        wide=len(classes) > MANY_CLASSES,
    )
    frequent = _frequent_mistakes(rows)
    if matrix.wide:
        yield matrix
        yield frequent
    else:
        yield Row([matrix, frequent])


def _frequent_mistakes(rows: Rows) -> Table:
    pairs = Counter((row["truth"], row["predicted"]) for row in rows if row["truth"] != row["predicted"])
    by_frequency = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return Table(
        ["truth", "predicted", "times", "share"],
        [[a, b, str(n), f"{n / pairs.total():.0%}"] for (a, b), n in by_frequency[:MOST_MISTAKES]],
        caption="The most frequent mistakes",
        text_columns=(1,),
    )
