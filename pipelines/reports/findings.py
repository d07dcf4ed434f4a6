"""What training found, as sections of the report: the curves, the search, the mistakes."""

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

WORST = (Path(MISTAKES_FILE), Path(MISTAKES_FILE).with_suffix(".png"))
PANELS = {  # title: columns; one of them is drawn
    "Training loss": ("epoch/loss", "train/loss"),
    "Training accuracy": ("epoch/accuracy", "train/accuracy"),
    "Validation accuracy": ("validation/accuracy",),
    "Learning rate": ("learning_rate",),
}


def finetuning(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    yield from _curves(FINETUNE_CURVES_FILE, "finetune", folder, "Thin: one seed. Bold: the mean over the seeds.")


def pretraining(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    yield from _curves(PRETRAIN_CURVES_FILE, "pretrain", folder, "")


def _curves(path: str, stage: str, folder: Path, note: str) -> Iterator[Block]:
    rows = read_csv(path, ("run", "epoch"))
    if not rows:
        yield Missing("the curves", f"dvc repro {stage}")
        return
    pictures = []
    for title, columns in PANELS.items():
        groups = max((_groups(path, rows, column) for column in columns), key=_shape)
        if groups:
            file = folder / f"{stage}-{title.lower().replace(' ', '-')}.svg"
            drawing = figures.draw_curves(groups, title)
            pictures.append(Picture(figures.save_figure(drawing, file), f"{title} against the epoch, {stage}"))
    yield Row(pictures)
    if note:
        yield Text(note, quiet=True)


def _groups(path: str, rows: Rows, column: str) -> dict[str, list[Curve]]:
    """{arm: curves of its runs} of what a column holds; a run is called 'scratch 3', or by one word."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(column):
            points.setdefault(row["run"], []).append(
                (parse_number(row, "epoch", path), parse_number(row, column, path))
            )
    groups: dict[str, list[Curve]] = {}
    for run, found in points.items():
        arm = run.rpartition(" ")[0] or run
        x, y = np.array(found).T
        groups.setdefault(ARM_NAMES.get(arm, arm), []).append((x, y))
    return groups


def _shape(groups: dict[str, list[Curve]]) -> int:
    """How well the points show a curve; a dozen do as well as a thousand, with less noise."""
    return min([12, *(len(x) for runs in groups.values() for x, _ in runs)]) if groups else 0


# ------------------------------------------------------------------------------------------------ search


def search(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    rows, best = read_csv(TRIALS_FILE, ("arm", "trial", "accuracy")), read_json(BEST_FILE)
    if not rows or not best:
        yield Missing("the search", "dvc repro tune")
        return
    searched = list(next(iter(best.values()))["values"])
    x, others = _axis(rows, searched)
    if x is not None:
        trials = [_trial(row, x, others, best) for row in rows if row["accuracy"]]
        log = bool(params["tune"]["search"]["space"].get(x, {}).get("log"))
        drawing = draw_search(trials, "Trials of the search", display_name(x), "validation accuracy", log)
        yield Picture(
            figures.save_figure(drawing, folder / "search.svg"),
            "Validation accuracy of every trial",
            f"Mean over the folds of the training split seen so far ({params['tune']['folds']} when not stopped).",
        )
    yield Table(
        ["best values", *map(display_name, searched), "validation accuracy", "trials", "stopped early"],
        [
            [
                ARM_NAMES.get(arm, arm),
                *(format_value(found["values"][key]) for key in searched),
                f"{found['scores']['accuracy']:.4f}",
                str(found["trials"]),
                str(sum(row["arm"] == arm and not _whole(row) for row in rows)),
            ]
            for arm, found in best.items()
        ],
    )


def _axis(rows: Rows, searched: Sequence[str]) -> tuple[str | None, list[str]]:
    """The searched number with the most values, and the others."""
    numbers = [key for key in searched if all(_is_number(row[key]) for row in rows)]
    x = max(numbers, key=lambda key: len({row[key] for row in rows}), default=None)
    return x, [key for key in searched if key != x]


def _trial(row: dict[str, str], x: str, others: Sequence[str], best: dict[str, Any]) -> TrialPoint:
    values = best[row["arm"]]["values"]
    chosen = all(str(values[key]) == row[key] for key in (x, *others))
    kind = ", ".join(f"{display_name(key)} {row[key]}" for key in others)
    return TrialPoint(
        ARM_NAMES.get(row["arm"], row["arm"]),
        parse_number(row, x, TRIALS_FILE),
        parse_number(row, "accuracy", TRIALS_FILE),
        kind,
        _whole(row),
        chosen,
    )


def _whole(row: dict[str, str]) -> bool:
    return row.get("finished", "True") == "True"


# ------------------------------------------------------------------------------------------------ diagnosis


def diagnosis(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    """What ails each run, and what the notes would do about it; the seeds of an arm with one verdict share a row."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for found in read_verdicts():
        arm, _, seed = found["run"].rpartition(" ")
        run = ARM_NAMES.get(arm, arm) if seed.isdigit() else found["run"]
        groups.setdefault((run, found["verdict"]), []).append(found)
    if not groups:
        yield Missing("the runs' diagnoses", "dvc repro")
        return
    rows = []
    for (run, verdict), alike in groups.items():
        seeds = f", {len(alike)} seed{'s' if len(alike) > 1 else ''}" if run in ARM_NAMES.values() else ""
        remedies = "; ".join(REMEDIES[verdict]) or ("none needed" if verdict == "fine" else "-")
        rows.append([run + seeds, verdict, "; ".join(alike[0]["reasons"]), remedies])
    yield Table(["run", "verdict", "why", "remedies"], rows, text_columns=(1, 2, 3))
    yield Text(
        "The losses are split into what the model can't express, what the optimisation leaves, over-fitting and"
        " mismatch; the greatest part names the verdict. Of several seeds, the first one's losses are shown.",
        quiet=True,
    )


# ------------------------------------------------------------------------------------------------ mistakes


def mistakes(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    rows = read_csv(CONFUSION_FILE, ("truth", "predicted"))
    if not rows:
        yield Missing("the confusion matrix", "dvc repro evaluate")
    else:
        yield from _confusion(rows, folder)
    worst = next((path for path in WORST if path.is_file()), None)
    if worst is None:
        yield Missing("the worst mistakes as pictures", "dvc repro evaluate")
    else:
        text = "Truth → prediction, and how sure of it the model was: the most confident mistakes come first."
        yield Picture(worst, "The worst mistakes", text, wide=True)


def _confusion(rows: Rows, folder: Path) -> Iterator[Block]:
    manifest = read_manifest("target")
    seen = {row[side] for row in rows for side in ("truth", "predicted")}
    classes = list(manifest["classes"]) if manifest and seen <= {*manifest["classes"]} else sorted(seen)
    place = {name: index for index, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), int)
    for row in rows:
        counts[place[row["truth"]], place[row["predicted"]]] += 1
    drawing = figures.draw_confusion(counts, classes, "Confusion, fine-tuned")
    right = int(counts.trace())
    matrix = Picture(
        figures.save_figure(drawing, folder / "confusion.svg"),
        "Confusion matrix",
        f"{right:,} of {len(rows):,} predictions of the first seed are right.",
        wide=len(classes) > 12,
    )
    pairs = Counter((row["truth"], row["predicted"]) for row in rows if row["truth"] != row["predicted"])
    frequent = Table(
        ["truth", "predicted", "times", "share"],
        [[a, b, str(n), f"{n / pairs.total():.0%}"] for (a, b), n in sorted(pairs.items(), key=_often)[:8]],
        caption="The most frequent mistakes",
        text_columns=(1,),
    )
    if matrix.wide:
        yield matrix
        yield frequent
    else:
        yield Row([matrix, frequent])


def _often(item: tuple[tuple[str, str], int]) -> tuple[int, tuple[str, str]]:
    return -item[1], item[0]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text) is not None
