"""The page of a decision, promotions/<id>/index.html: both models' scores and curves, what flipped, what the data are.

Written before the decision is, and attached to its run at MLflow; a view that computes no verdict.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.drawings import figures
from components.drawings.figures import Curve, Interval
from components.drawings.page import Block, Picture, Row, Section, Table, Text, render_page
from components.metrics.classification import bootstrap_interval
from components.storage.profile import SUMMARIES, VALUES
from components.storage.store import Split
from components.verdicts.gate import Gate
from pipelines.commands.promotion.ledger import Decision
from pipelines.flagship import FINETUNE_CURVES_FILE
from pipelines.stage.outputs import write_table

CURVES = "curves.csv"
SHOWN = 18  # examples that flipped, each way
PANELS = {"epoch/loss": "Training loss", "epoch/accuracy": "Training accuracy"}
Found = Mapping[str, Mapping[str, Any]]


def write_page(
    folder: Path,
    decision: Decision,
    found: Found,
    gate: Gate,
    split: Split,
    classes: Sequence[str],
    profiles: Mapping[str, Mapping[str, Any] | None],
    before: Path | None,
) -> Path:
    """found: what both said; profiles: of each one's training data; before: the folder of the champion's decision."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chapters = {
        "Comparison": [*_reasons(decision), *_lead(decision, folder)],
        "Examples that flipped": list(_flipped(decision, found, split, classes, folder)),
        "By class": list(_classes(decision)),
        "Training": list(_training(folder, before)),
        "Data": list(_data(decision, profiles, folder)),
        "Record": list(_record(decision)),
    }
    sections = [Section(title, blocks) for title, blocks in chapters.items() if blocks]
    opening = list(_scores(found, gate, folder))
    footer = f"Decision `{decision['id']}`; the line of the same id in promotions/ledger.log is the record."
    index = folder / "index.html"
    index.write_text(render_page(decision["model"], sections, _told(decision), opening, footer), encoding="utf-8")
    return index


def _told(decision: Decision) -> str:
    new = f"version {decision['to']['version']}" if decision["to"] else "nothing"
    old = f"version {decision['from']['version']}" if decision["from"] else None
    if decision["action"] == "data":
        return f"These data were not trained on{f'; {old} stays' if old else ''}."
    if decision["promote"]:
        return f"{new[0].upper()}{new[1:]} takes {f'the place of {old}' if old else 'the place that nobody had'}."
    return f"{old[0].upper()}{old[1:]} stays; {new} did not win." if old else f"No champion yet: {new} did not pass."


def _scores(found: Found, gate: Gate, folder: Path) -> Iterator[Block]:
    rows, score = {}, ""
    for role in ("champion", "challenger"):
        if role in found:
            outcomes, score = np.asarray(found[role]["outcomes"], dtype=float), found[role]["monitor"]
            rows[role] = Interval(float(outcomes.mean()), *bootstrap_interval(outcomes, gate.level, gate.draws))
    if rows:
        drawing = figures.draw_intervals(rows, f"{score} on the held-out examples, {gate.level:.0%} intervals", score)
        yield Picture(figures.save_figure(drawing, folder / "scores.svg"), f"{score} of both models")


def _reasons(decision: Decision) -> Iterator[Block]:
    for reason in decision["reasons"]:
        yield Text(reason[0].upper() + reason[1:] + ".")


def _lead(decision: Decision, folder: Path) -> Iterator[Block]:
    values = decision["values"]
    if values.get("gain") is None:
        return
    rows = {"lead": Interval(values["gain"], values["low"], values["high"])}
    rows["no difference"] = Interval(0.0, 0.0, 0.0)
    drawing = figures.draw_intervals(rows, "The challenger's lead, paired", "difference of the scores", percent=False)
    caption = "The interval is the paired bootstrap's: both models on the same resampled examples."
    yield Picture(figures.save_figure(drawing, folder / "lead.svg"), "The lead and its interval", caption)


def _flipped(decision: Decision, found: Found, split: Split, classes: Sequence[str], folder: Path) -> Iterator[Block]:
    ways = {"won": "Wrong before, right now", "lost": "Right before, wrong now"}
    if "champion" not in found or not any(decision.get(way) for way in ways) or "image" not in split.columns:
        return
    for way, title in ways.items():
        rows = np.array(decision[way][:SHOWN], dtype=np.int64)
        more = ", the first of them" if len(rows) < len(decision[way]) else ""
        yield Text(f"{title}: {len(decision[way])} examples{more}.")
        if not len(rows):
            continue
        taken = split.take(rows, ["image", "label"])
        said = [[classes[found[role]["predicted"][row]] for role in ("champion", "challenger")] for row in rows]
        captions = [f"{classes[t]}: {a} → {b}" for t, (a, b) in zip(taken["label"], said, strict=True)]
        drawing = figures.draw_grid(taken["image"], captions, columns=6)
        text = "Truth: what the champion said → what the challenger says."
        yield Picture(figures.save_figure(drawing, folder / f"{way}.svg"), title, text, wide=True)


def _classes(decision: Decision) -> Iterator[Block]:
    rows = decision.get("classes") or []
    if not rows:
        return
    paired = "champion" in rows[0]
    head = ["class", "examples", *(["champion"] if paired else []), "challenger"]
    head += ["change", "won", "lost"] if paired else []
    body = []
    for row in rows:
        cells = [row["class"], f"{row['examples']:,}", *([f"{row['champion']:.1%}"] if paired else [])]
        cells.append(f"{row['challenger']:.1%}")
        if paired:
            cells += [f"{row['challenger'] - row['champion']:+.1%}", str(row["won"]), str(row["lost"])]
        body.append(cells)
    yield Table(head, body, caption="Accuracy by class; won and lost: examples that one model alone gets right")


def _training(folder: Path, before: Path | None) -> Iterator[Block]:
    """The curves of the stage that trained both; the challenger's are kept here for the next comparison."""
    ours = _curves(Path(FINETUNE_CURVES_FILE), "finetuned")
    write_table(folder / CURVES, ours)
    theirs = _curves(before / CURVES) if before else []
    pictures = []
    for column, title in PANELS.items():
        groups: dict[str, list[Curve]] = {}
        for name, rows in (("champion", theirs), ("challenger", ours)):
            points = [(float(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
            if points:
                x, y = np.array(points).T
                groups[name] = [(x, y)]
        if groups:
            file = folder / f"{column.replace('/', '-')}.svg"
            pictures.append(
                Picture(figures.save_figure(figures.draw_curves(groups, title), file), f"{title} of both models")
            )
    if pictures:
        yield Row(pictures)
    if before is not None and not theirs:
        yield Text("The champion's curves are not kept here; its run at MLflow has them.", quiet=True)


def _curves(path: Path, arm: str | None = None) -> list[dict[str, Any]]:
    """The rows of the first run of `arm`, or all of them."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = next((row["run"] for row in rows if arm and row["run"].split(" ")[0] == arm), None)
    return [row for row in rows if arm is None or row["run"] == wanted]


def _data(decision: Decision, profiles: Mapping[str, Mapping[str, Any] | None], folder: Path) -> Iterator[Block]:
    rows = [["fine" if f["fine"] else "BAD", f["check"], f["text"]] for f in decision.get("data", [])]
    if rows:
        yield Table(["", "check", "found"], rows, text_columns=(1, 2))
    pictures = []
    for name in SUMMARIES:
        groups = {who: [_density(p[name])] for who, p in profiles.items() if p and p.get(name)}
        if groups:
            drawing = figures.draw_curves(groups, f"{name.capitalize()} of the training pictures", "grey levels")
            file = figures.save_figure(drawing, folder / f"{name}.svg")
            pictures.append(Picture(file, f"{name} of the training pictures of both models"))
    if pictures:
        yield Row(pictures)


def _density(counts: Mapping[str, int], width: int = 8) -> Curve:
    """Shares of the pictures in steps of `width` values."""
    found = np.zeros(VALUES)
    for value, count in counts.items():
        found[int(value)] = count
    shares = found.reshape(-1, width).sum(1) / max(1, found.sum())
    return np.arange(len(shares)) * width + width / 2, shares


def _record(decision: Decision) -> Iterator[Block]:
    rows = [["model", decision["model"]], ["what", decision["action"]]]
    for name, end in (("champion before", "from"), ("challenger", "to")):
        if decision[end]:
            rows.append([name, f"version {decision[end]['version']}, `{decision[end]['digest'][:16]}`"])
    rows += [[name, f"`{value[:16]}`"] for name, value in decision["hashes"].items()]
    rows += [[name, str(value)] for name, value in decision["params"].items()]
    yield Table(["", ""], rows, text_columns=(1,))
