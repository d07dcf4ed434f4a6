"""`trainyard report`: the flagship's page, reports/index.html, composed from the files that the stages wrote.

A view and nothing more: it computes no result, and what is missing is named with the command that makes it. Also
DVC's plots without a network: `plots_template`.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components import figures, recipe
from components.figures import Curve, Interval, Trial
from components.refusal import Refusal
from components.report import Block, Folded, Missing, Picture, Row, Section, Table, Text, page
from pipelines.links import links
from pipelines.stage import seconds

FOLDER = Path("reports")
TEMPLATE = Path(".dvc/plots.html")
ARMS = {"finetuned": "fine-tuned", "scratch": "from scratch"}
PANELS = {  # title: columns, the first that holds anything is drawn
    "Training loss": ("epoch/loss", "train/loss"),
    "Training accuracy": ("epoch/accuracy", "train/accuracy"),
    "Validation accuracy": ("validation/accuracy",),
    "Learning rate": ("learning_rate",),
}
VEGA_LITE = "5.21"  # DVC's templates are written for version 5
Rows = list[dict[str, str]]


def main() -> int:
    index = write()[0]
    print(f"{index}: open {index.resolve().as_uri()}")
    if TEMPLATE.parent.is_dir():
        print(f"{plots_template(TEMPLATE)}: dvc plots show needs no network")
    return 0


def write(folder: Path = FOLDER) -> list[Path]:
    """Writes index.html and its pictures into `folder`; all their paths, the page's first."""
    params = recipe.load("params.yaml")
    sections = [
        Section(title, list(blocks(params, folder)))
        for title, blocks in (
            ("Result", _result),
            ("Fine-tuning", _finetuning),
            ("Pretraining", _pretraining),
            ("Search", _search),
            ("Mistakes", _mistakes),
            ("Data", _data),
            ("Time", _time),
            ("Recipe", _recipe),
            ("Look further", _doors),
        )
    ]
    html = page(
        params["name"],
        sections,
        lead=_lead(),
        opening=list(_opening(params, folder)),
        footer=f"Written by `trainyard report` from the files of the last run; recipe `{recipe.digest(params)[:12]}`.",
    )
    index = folder / "index.html"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(html, encoding="utf-8")
    return [index, *sorted(p for p in folder.iterdir() if p.suffix in (".svg", ".png"))]


def plots_template(path: Path) -> Path:
    """The page that `dvc plots show` fills (`dvc config plots.html_template plots.html`), with Vega's scripts in it."""
    import vl_convert

    script = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # sets window.vegaEmbed, which DVC's plots call
    path.write_text(PLOTS_PAGE.replace("SCRIPT", script), encoding="utf-8")
    return path


PLOTS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh_tag}
<title>DVC plots</title>
<script>(() => {SCRIPT})();</script>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; margin: 1.5rem; display: flex; flex-wrap: wrap; gap: 2rem; }
table { border-spacing: 1rem; }
</style>
</head>
<body>
{plot_divs}
</body>
</html>
"""


# ------------------------------------------------------------------------------------------------ the result


def _lead() -> str:
    metrics = _json("metrics/evaluate.json")
    if metrics is None:
        return "No result yet: `dvc repro` makes it."
    target = _manifest("target")
    test = f" of {target['splits']['test']['rows']:,} test examples right" if target else " test accuracy"
    labels = f" on the same {target['splits']['train']['rows']:,} labels" if target else ""
    gain, low, high = (100 * metrics[f"gain{end}"] for end in ("", "_low", "_high"))
    verdict = f"a {'gain' if gain > 0 else 'loss'} of {abs(gain):.1f} points"
    if low <= 0 <= high:
        verdict = f"{verdict}, but no clear difference"
    return (
        f"Fine-tuned, the model gets {metrics['accuracy']:.1%}{test}; from scratch{labels}, "
        f"{metrics['scratch_accuracy']:.1%}: {verdict}."
    )


def _opening(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    metrics = _json("metrics/evaluate.json")
    if metrics is None:
        return
    rows = {
        label: Interval(
            *(metrics[f"{prefix}accuracy{end}"] for end in ("", "_low", "_high")),
            tuple(metrics.get(f"{prefix}accuracy_by_seed", ())),
        )
        for label, prefix in (("fine-tuned", ""), ("from scratch", "scratch_"))
    }
    drawing = figures.intervals(rows, "Test accuracy", "accuracy")
    yield Picture(
        figures.save(drawing, folder / "accuracy.svg"),
        "Test accuracy of both arms with intervals",
        f"Bars: {_level(params)} bootstrap intervals. Small circles: single seeds, the same seed joined by a line.",
    )


def _result(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    metrics = _json("metrics/evaluate.json")
    if metrics is None:
        yield _missing("the test accuracies", "evaluate")
        return

    def row(label: str, name: str, loss: str) -> list[str]:
        spread = f"± {metrics[f'{name}_std']:.4f}" if f"{name}_std" in metrics else ""
        value, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
        sign = "+" if name == "gain" else ""
        return [label, f"{value:{sign}.4f}", f"{low:{sign}.4f} to {high:{sign}.4f}", spread, loss]

    yield Table(
        ["", "accuracy", f"{_level(params)} interval", f"over {metrics['seeds']} seeds", "loss"],
        [
            row("fine-tuned", "accuracy", f"{metrics['loss']:.4f}"),
            row("from scratch", "scratch_accuracy", f"{metrics['scratch_loss']:.4f}"),
            row("gain", "gain", f"{metrics['loss'] - metrics['scratch_loss']:+.4f}"),
        ],
    )
    yield Text(
        f"Fine-tuning wins on {metrics['seeds_won']} of {metrics['seeds']} seeds. Both arms have the same labels, "
        "epochs and search; the test split was opened once, after every choice was made.",
        quiet=True,
    )


# ------------------------------------------------------------------------------------------------ curves


def _finetuning(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    yield from _curves("plots/finetune.csv", "finetune", folder, "Thin: one seed. Bold: the mean over the seeds.")


def _pretraining(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    yield from _curves("plots/pretrain.csv", "pretrain", folder, "")


def _curves(path: str, stage: str, folder: Path, note: str) -> Iterator[Block]:
    rows = _csv(path, ("run", "epoch"))
    if not rows:
        yield _missing("the curves", stage)
        return
    pictures = []
    for title, columns in PANELS.items():
        groups = next((found for column in columns if (found := _groups(rows, column))), None)
        if groups:
            file = folder / f"{stage}-{title.lower().replace(' ', '-')}.svg"
            drawing = figures.curves(groups, title)
            pictures.append(Picture(figures.save(drawing, file), f"{title} against the epoch, {stage}"))
    yield Row(pictures)
    if note:
        yield Text(note, quiet=True)


def _groups(rows: Rows, column: str) -> dict[str, list[Curve]]:
    """{arm: curves of its runs} of what a column holds; a run is called 'scratch 3', or by one word."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(column):
            points.setdefault(row["run"], []).append((float(row["epoch"]), float(row[column])))
    groups: dict[str, list[Curve]] = {}
    for run, found in points.items():
        arm = run.rpartition(" ")[0] or run
        x, y = np.array(found).T
        groups.setdefault(ARMS.get(arm, arm), []).append((x, y))
    return groups


# ------------------------------------------------------------------------------------------------ search


def _search(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    rows, best = _csv("plots/tune.csv", ("arm", "trial", "accuracy")), _json("tune/best.json")
    if not rows or not best:
        yield _missing("the search", "tune")
        return
    searched = list(next(iter(best.values()))["values"])
    x, others = _axis(rows, searched)
    if x is not None:
        trials = [_trial(row, x, others, best) for row in rows if row["accuracy"]]
        log = bool(params["tune"]["search"]["space"].get(x, {}).get("log"))
        drawing = figures.search(trials, "Trials of the search", _short(x), "validation accuracy", log)
        yield Picture(
            figures.save(drawing, folder / "search.svg"),
            "Validation accuracy of every trial",
            f"Mean over the folds of the training split seen so far ({params['tune']['folds']} when not stopped).",
        )
    yield Table(
        ["best values", *map(_short, searched), "validation accuracy", "trials", "stopped early"],
        [
            [
                ARMS.get(arm, arm),
                *(_value(found["values"][key]) for key in searched),
                f"{found['scores']['accuracy']:.4f}",
                str(found["trials"]),
                str(sum(row["arm"] == arm and not _whole(row) for row in rows)),
            ]
            for arm, found in best.items()
        ],
    )


def _axis(rows: Rows, searched: Sequence[str]) -> tuple[str | None, list[str]]:
    """The searched number with the most values, and the others."""
    numbers = [key for key in searched if all(_number(row[key]) is not None for row in rows)]
    x = max(numbers, key=lambda key: len({row[key] for row in rows}), default=None)
    return x, [key for key in searched if key != x]


def _trial(row: dict[str, str], x: str, others: Sequence[str], best: dict[str, Any]) -> Trial:
    values = best[row["arm"]]["values"]
    chosen = all(str(values[key]) == row[key] for key in (x, *others))
    kind = ", ".join(f"{_short(key)} {row[key]}" for key in others)
    return Trial(ARMS.get(row["arm"], row["arm"]), float(row[x]), float(row["accuracy"]), kind, _whole(row), chosen)


def _whole(row: dict[str, str]) -> bool:
    return row.get("finished", "True") == "True"


# ------------------------------------------------------------------------------------------------ mistakes


def _mistakes(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    rows = _csv("plots/confusion.csv", ("truth", "predicted"))
    if not rows:
        yield _missing("the confusion matrix", "evaluate")
    else:
        yield from _confusion(rows, folder)
    worst = next((p for p in (folder / "mistakes.svg", folder / "mistakes.png") if p.is_file()), None)
    if worst is None:
        yield _missing("the worst mistakes as pictures", "evaluate")
    else:
        text = "Truth → prediction, and how sure of it the model was: the most confident mistakes come first."
        yield Picture(worst, "The worst mistakes", text, wide=True)


def _confusion(rows: Rows, folder: Path) -> Iterator[Block]:
    manifest = _manifest("target")
    seen = {row[side] for row in rows for side in ("truth", "predicted")}
    classes = [name for name in manifest["classes"]] if manifest and seen <= {*manifest["classes"]} else sorted(seen)
    place = {name: index for index, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), int)
    for row in rows:
        counts[place[row["truth"]], place[row["predicted"]]] += 1
    drawing = figures.confusion(counts, classes, "Confusion, fine-tuned")
    right = int(counts.trace())
    matrix = Picture(
        figures.save(drawing, folder / "confusion.svg"),
        "Confusion matrix",
        f"{right:,} of {len(rows):,} predictions are right.",
        wide=len(classes) > 12,
    )
    pairs = Counter((row["truth"], row["predicted"]) for row in rows if row["truth"] != row["predicted"])
    frequent = Table(
        ["truth", "predicted", "times", "of all mistakes"],
        [[a, b, str(n), f"{n / pairs.total():.0%}"] for (a, b), n in sorted(pairs.items(), key=_often)[:8]],
        caption="The most frequent mistakes",
        words=(1,),
    )
    yield from [matrix, frequent] if matrix.wide else [Row([matrix, frequent])]


def _often(item: tuple[tuple[str, str], int]) -> tuple[int, tuple[str, str]]:
    return -item[1], item[0]


# ------------------------------------------------------------------------------------------------ data, time, recipe


def _data(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    manifests = {role: found for role in ("source", "target") if (found := _manifest(role))}
    if not manifests:
        yield _missing("the prepared data", "prepare")
        return
    yield Table(
        ["role", "data set", "examples", "classes", "licence", "source", "digest"],
        [
            [
                role,
                m["name"],
                ", ".join(f"{split['rows']:,} {name}" for name, split in m["splits"].items()),
                str(len(m["classes"])),
                m["licence"],
                m["source"],
                f"`{m['digest'][:12]}`",
            ]
            for role, m in manifests.items()
        ],
        words=(1, 2, 4, 5),
    )
    previews = {role: Path(f"data/augmented/{role}/preview.png") for role in ("source", "target")}
    found = [Picture(p, f"Examples of the {r}", f"{r}, as training sees it") for r, p in previews.items() if p.is_file()]
    yield Row(found) if found else _missing("the previews", "augment")


def _time(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    stages = seconds()
    if not stages:
        yield _missing("the seconds of each stage")
        return
    rows = {name: {"workers": parts.get("workers", 0.0)} for name, parts in stages.items()}
    for name, row in rows.items():
        row |= {part: value for part, value in stages[name].items() if part not in ("workers", "total")}
        row["else"] = max(0.0, stages[name]["total"] - sum(row.values()))
    drawing = figures.bars(rows, "Seconds a stage", "seconds")
    total = sum(parts["total"] for parts in stages.values())
    yield Picture(
        figures.save(drawing, folder / "seconds.svg"),
        "Seconds each stage took",
        f"{total:,.0f} seconds in all, each stage as it ran last.",
    )


def _recipe(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    yield Text("Everything that decides the result. One change, one experiment: `dvc exp run -S finetune.seeds=10`.")
    yield Folded("params.yaml", Path("params.yaml").read_text(encoding="utf-8"))


def _doors(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    yield Text("Every run, trial and curve is in MLflow. `trainyard ui` starts its pages on this machine; then:")
    yield Table(["page", "address"], [[title, address] for title, address in links(params["name"]).items()], words=(1,))
    yield Text("`dvc plots show` draws the same curves from DVC's side, and `dvc metrics diff` compares two commits.")


# ------------------------------------------------------------------------------------------------ reading


def _missing(what: str, stage: str = "") -> Missing:
    return Missing(f"Not there yet: {what}. `{' '.join(['dvc repro', stage]).strip()}` makes them.")


def _level(params: dict[str, Any]) -> str:
    return f"{params['evaluate']['level']:.0%}"


def _manifest(role: str) -> Any:
    return _json(f"data/prepared/{role}/manifest.json")


def _json(path: str) -> Any:
    """The content of a JSON file, None when there is none."""
    return _read(path, json.loads)


def _csv(path: str, columns: Sequence[str]) -> Rows:
    rows: Rows = _read(path, lambda text: list(csv.DictReader(text.splitlines()))) or []
    lacking = [name for name in columns if rows and name not in rows[0]]
    if lacking:
        raise Refusal(f"{path}: has no column '{lacking[0]}'; run its stage again (dvc repro)")
    return rows


def _read(path: str, parse: Callable[[str], Any]) -> Any:
    file = Path(path)
    if not file.is_file():
        return None
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (ValueError, csv.Error) as error:
        raise Refusal(f"{path}: can't be read ({error}); run its stage again (dvc repro)") from None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _short(key: str) -> str:
    last = key.rpartition(".")[2]
    return {"lr": "learning rate", "batch": "batch size"}.get(last, last.replace("_", " "))


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
