"""Write the page of a decision, promotions/<id>/index.html: both models' scores, curves, changes and data.

The page is written before the decision is recorded, and attached to its run at MLflow. It shows the verdict and
computes none.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.drawings import figures
from components.drawings.figures import Curve, Interval
from components.drawings.page import Block, Picture, Row, Section, Table, Text, render_page
from components.errors import pluralize
from components.metrics.classification import bootstrap_interval
from components.storage.profile import SUMMARIES, VALUES
from components.storage.store import Split
from components.verdicts.gate import Gate
from components.verdicts.held_out import HeldOut
from pipelines.commands.promotion.ledger import Decision
from pipelines.commands.promotion.measurement import Measurement
from pipelines.flagship import FINETUNE_CURVES_FILE
from pipelines.stage.outputs import write_table

CURVES_FILE = "curves.csv"
MAX_EXAMPLES = 18  # pictures per direction of change
PANELS = {"epoch/loss": "Training loss", "epoch/accuracy": "Training accuracy"}  # metric -> title
ROLES = ("champion", "challenger")


@dataclass(frozen=True)
class Evidence:
    """The evidence that the page shows beside the decision itself.

    measurements: results per role, empty if nothing was compared. split: the held-out examples, with the names of
    their classes. held_out: the rows that were compared, None if nothing was. profiles: profile of each role's training
    data, if it is known. champion_page: folder of the page on which the champion was promoted.
    """

    measurements: Mapping[str, Measurement]
    gate: Gate
    split: Split
    held_out: HeldOut | None
    classes: Sequence[str]
    profiles: Mapping[str, Mapping[str, Any] | None]
    champion_page: Path | None


def write_page(folder: Path, decision: Decision, evidence: Evidence) -> Path:
    """Write the page and its pictures into `folder`, which is emptied first; return the page's path."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chapters = {
        "Comparison": [*_reasons(decision), *_lead(decision, folder)],
        "Changed predictions": list(_changed_predictions(decision, evidence, folder)),
        "By class": list(_classes(decision)),
        "Training": list(_training(folder, evidence.champion_page)),
        "Data": list(_data(decision, evidence.profiles, folder)),
        "Record": list(_record(decision)),
    }
    sections = [Section(title, blocks) for title, blocks in chapters.items() if blocks]
    opening = list(_scores(evidence, folder))
    footer = f"Decision `{decision['id']}`: its record is the line with this id in promotions/ledger.log."
    index = folder / "index.html"
    html = render_page(decision["model"], sections, _headline(decision), opening, footer)
    index.write_text(html, encoding="utf-8")
    return index


def _headline(decision: Decision) -> str:
    """Return the outcome in one sentence."""
    new = f"version {decision['to']['version']}" if decision["to"] else "nothing"
    old = f"version {decision['from']['version']}" if decision["from"] else None
    if decision["action"] == "data":
        return "These data were rejected before training" + (f"; {old} stays the champion." if old else ".")
    if decision["promote"] and old:
        return f"{new.capitalize()} replaces {old} as the champion."
    if decision["promote"]:
        return f"{new.capitalize()} becomes the first champion."
    if old:
        return f"{old.capitalize()} stays the champion; {new} did not win."
    return f"No champion yet: {new} did not pass."


def _scores(evidence: Evidence, folder: Path) -> Iterator[Block]:
    """Yield a picture of both models' scores with bootstrap intervals."""
    gate = evidence.gate
    intervals = {}
    score = ""
    for role in ROLES:
        if role in evidence.measurements:
            score = evidence.measurements[role].monitor
            outcomes = np.asarray(evidence.measurements[role].outcomes, dtype=float)
            low, high = bootstrap_interval(outcomes, gate.level, gate.draws)
            intervals[role] = Interval(float(outcomes.mean()), low, high)
    if intervals:
        title = f"{score} on the held-out examples, {gate.level:.0%} intervals"
        drawing = figures.draw_intervals(intervals, title, score)
        yield Picture(figures.save_figure(drawing, folder / "scores.svg"), f"{score} of both models")


def _reasons(decision: Decision) -> Iterator[Block]:
    for reason in decision["reasons"]:
        yield Text(reason[0].upper() + reason[1:] + ".")


def _lead(decision: Decision, folder: Path) -> Iterator[Block]:
    """Yield a picture of the challenger's lead and its interval."""
    values = decision["values"]
    if values.get("gain") is None:
        return
    intervals = {
        "lead": Interval(values["gain"], values["low"], values["high"]),
        "no difference": Interval(0.0, 0.0, 0.0),
    }
    drawing = figures.draw_intervals(
        intervals, "The challenger's lead, paired", "difference of the scores", percent=False
    )
    caption = "Interval of the paired bootstrap, which draws the same examples for both models."
    yield Picture(figures.save_figure(drawing, folder / "lead.svg"), "The lead and its interval", caption)


def _changed_predictions(decision: Decision, evidence: Evidence, folder: Path) -> Iterator[Block]:
    """Yield pictures of the examples that only one of the two models gets right."""
    titles = {"won": "Wrong before, right now", "lost": "Right before, wrong now"}
    held_out = evidence.held_out
    is_compared = "champion" in evidence.measurements and any(decision.get(direction) for direction in titles)
    predictions = [evidence.measurements[role].predicted for role in ROLES if role in evidence.measurements]
    labels = [labels for labels in predictions if labels is not None]
    if held_out is None or not is_compared or len(labels) < len(ROLES) or "image" not in evidence.split.columns:
        return
    for direction, title in titles.items():
        rows = np.array(decision[direction][:MAX_EXAMPLES], dtype=np.int64)
        more = f", the first {len(rows)} shown" if len(rows) < len(decision[direction]) else ""
        yield Text(f"{title}: {pluralize(len(decision[direction]), 'example')}{more}.")
        if not len(rows):
            continue
        examples = evidence.split.take(rows, ["image", "label"])
        captions = []
        for position, truth in zip(np.searchsorted(held_out.rows, rows), examples["label"], strict=True):
            old, new = (evidence.classes[predicted[position]] for predicted in labels)
            captions.append(f"{evidence.classes[truth]}: {old} → {new}")
        drawing = figures.draw_grid(examples["image"], captions, columns=6)
        text = "Truth: the champion's prediction → the challenger's prediction."
        yield Picture(figures.save_figure(drawing, folder / f"{direction}.svg"), title, text, wide=True)


def _classes(decision: Decision) -> Iterator[Block]:
    """Yield a table of the accuracy per class."""
    rows = decision.get("classes") or []
    if not rows:
        return
    if "champion" not in rows[0]:
        head = ["class", "examples", "challenger"]
        body = [[row["class"], f"{row['examples']:,}", f"{row['challenger']:.1%}"] for row in rows]
    else:
        head = ["class", "examples", "champion", "challenger", "change", "won", "lost"]
        body = [
            [
                row["class"],
                f"{row['examples']:,}",
                f"{row['champion']:.1%}",
                f"{row['challenger']:.1%}",
                f"{row['challenger'] - row['champion']:+.1%}",
                str(row["won"]),
                str(row["lost"]),
            ]
            for row in rows
        ]
    caption = "Accuracy per class. Won: examples that only the challenger gets right; lost: only the champion."
    yield Table(head, body, caption=caption)


def _training(folder: Path, champion_page: Path | None) -> Iterator[Block]:
    """Yield both models' training curves; store the challenger's in `folder` for the next comparison."""
    challenger_rows = _read_curves(Path(FINETUNE_CURVES_FILE), "finetuned")
    write_table(folder / CURVES_FILE, challenger_rows)
    champion_rows = _read_curves(champion_page / CURVES_FILE) if champion_page else []
    pictures = []
    for column, title in PANELS.items():
        groups: dict[str, list[Curve]] = {}
        for role, rows in (("champion", champion_rows), ("challenger", challenger_rows)):
            points = [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
            if points:
                x, y = np.array(points).T
                groups[role] = [(x, y)]
        if groups:
            drawing = figures.draw_curves(groups, title)
            file = figures.save_figure(drawing, folder / f"{column.replace('/', '-')}.svg")
            pictures.append(Picture(file, f"{title} of both models"))
    if pictures:
        yield Row(pictures)
    if champion_page is not None and not champion_rows:
        yield Text("The champion's curves are not stored here; see its run at MLflow.", quiet=True)


def _read_curves(path: Path, arm: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of the first run of `arm`, or all rows; an empty list without the file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if arm is None:
        return rows
    first_run = next((row["run"] for row in rows if row["run"].split(" ")[0] == arm), None)
    return [row for row in rows if row["run"] == first_run]


def _data(decision: Decision, profiles: Mapping[str, Mapping[str, Any] | None], folder: Path) -> Iterator[Block]:
    """Yield the table of data checks, and pictures of both training sets' profiles."""
    rows = [["fine" if f["fine"] else "BAD", f["check"], f["text"]] for f in decision.get("data", [])]
    if rows:
        yield Table(["", "check", "result"], rows, text_columns=(1, 2))
    pictures = []
    for name in SUMMARIES:
        groups = {
            role: [_density(profile[name])] for role, profile in profiles.items() if profile and profile.get(name)
        }
        if groups:
            drawing = figures.draw_curves(groups, f"{name.capitalize()} of the training pictures", "grey levels")
            file = figures.save_figure(drawing, folder / f"{name}.svg")
            pictures.append(Picture(file, f"{name} of the training pictures of both models"))
    if pictures:
        yield Row(pictures)


def _density(counts: Mapping[str, int], width: int = 8) -> Curve:
    """Return (centres, fractions) of a histogram of {value: number of pictures} with bins of `width` values."""
    histogram = np.zeros(VALUES)
    for value, count in counts.items():
        histogram[int(value)] = count
    fractions = histogram.reshape(-1, width).sum(1) / max(1, histogram.sum())
    return np.arange(len(fractions)) * width + width / 2, fractions


def _record(decision: Decision) -> Iterator[Block]:
    """Yield a table of the versions, digests and settings that the decision is about."""
    rows = [["model", decision["model"]], ["action", decision["action"]]]
    for name, end in (("previous champion", "from"), ("challenger", "to")):
        if decision[end]:
            rows.append([name, f"version {decision[end]['version']}, `{decision[end]['digest'][:16]}`"])
    rows += [[name, f"`{value[:16]}`"] for name, value in decision["hashes"].items()]
    rows += [[name, str(value)] for name, value in decision["params"].items()]
    yield Table(["", ""], rows, text_columns=(1,))
