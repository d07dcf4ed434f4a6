"""Compose reports/index.html, on the flagship and on a user's own recipes, from the files that the stages wrote.

The report computes no result. Where a file is missing, it names the command that writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.drawings import figures
from components.drawings.figures import Interval
from components.drawings.page import (
    Block,
    Folded,
    Links,
    Missing,
    Picture,
    Row,
    Section,
    Table,
    Text,
    list_pictures,
    render_page,
)
from components.errors import pluralize
from components.recipes import recipe
from components.verdicts.caveats import describe_data, describe_perfect_score
from pipelines import flagship
from pipelines.flagship import ARM_NAMES
from pipelines.reports import plots
from pipelines.reports.findings import diagnosis, finetuning, mistakes, pretraining, search
from pipelines.reports.links import find_links
from pipelines.reports.own_results import own_sections
from pipelines.stage.bill import BILL_HEAD, bill_rows, latest_bills
from pipelines.stage.outputs import INTERVAL_SUFFIXES, read_manifest, read_metrics, read_seconds

FOLDER = Path("reports")


def main() -> int:
    """Write the report, and the template of DVC's plots in a DVC repository; return the exit code."""
    index = write_report()[0]
    print(f"{index}: open {index.resolve().as_uri()}")
    if plots.PATH.parent.is_dir():
        plots.write_template()
    return 0


def write_report(folder: Path = FOLDER) -> list[Path]:
    """Write index.html and its pictures into `folder`; return their paths, the page first."""
    params = recipe.load("params.yaml")
    metrics = read_metrics()
    chapters: dict[str, Callable[[dict[str, Any], Path], Iterator[Block]]] = {
        "Fine-tuning": finetuning,
        "Pretraining": pretraining,
        "Search": search,
        "Diagnosis": diagnosis,
        "Mistakes": mistakes,
        "Data": _data,
        "Time": _time,
        "Recipe": _recipe,
        "Look further": _further,
    }
    own = own_sections()
    if own and metrics is None:  # without the flagship's result, its chapters would be empty
        chapters = {title: chapters[title] for title in ("Diagnosis", "Time", "Look further")}
        name, lead, sections = "own data", "The results of your own recipes.", own
    else:
        name, lead = params["name"], _lead(metrics)
        sections = [Section("Result", list(_result(metrics, params))), *own]
    sections += [Section(title, list(blocks(params, folder))) for title, blocks in chapters.items()]
    opening = [_accuracies(metrics, params, folder)] if metrics else []
    footer = f"Written by `trainyard report` from the files of the last run; recipe `{recipe.digest(params)[:12]}`."
    index = folder / "index.html"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(render_page(name, sections, lead, opening, footer), encoding="utf-8")
    shown = list_pictures([*opening, *(block for section in sections for block in section.blocks)])
    return [index, *(picture.path for picture in shown if picture.path.parent == folder)]


# ------------------------------------------------------------------------------------------------ the result


def _lead(metrics: Any) -> str:
    """Return the sentence that states the result, and claims no more than the interval of the gain."""
    if metrics is None:
        return "No result yet: run `dvc repro`."
    target = read_manifest("target")
    test = f" of {target['splits']['test']['rows']:,} test examples right" if target else " test accuracy"
    labels = f" on the same {target['splits']['train']['rows']:,} labels" if target else ""
    gain, low, high = (100 * metrics[f"gain{suffix}"] for suffix in INTERVAL_SUFFIXES)
    change = f"a {'gain' if gain > 0 else 'loss'} of {abs(gain):.1f} points"
    if low <= 0 <= high:
        change = f"{change}, but no clear difference"
    return (
        f"Fine-tuned, the model gets {metrics['accuracy']:.1%}{test}; from scratch{labels}, "
        f"{metrics['scratch_accuracy']:.1%}: {change}."
    )


def _accuracies(metrics: Any, params: dict[str, Any], folder: Path) -> Picture:
    rows = {}
    for arm, prefix in (("finetuned", ""), ("scratch", "scratch_")):
        value, low, high = (metrics[f"{prefix}accuracy{suffix}"] for suffix in INTERVAL_SUFFIXES)
        rows[ARM_NAMES[arm]] = Interval(value, low, high, tuple(metrics.get(f"{prefix}accuracy_by_seed", ())))
    drawing = figures.draw_intervals(rows, "Test accuracy", "accuracy")
    return Picture(
        figures.save_figure(drawing, folder / "accuracy.svg"),
        "Test accuracy of both arms with intervals",
        f"Bars: {_level(params)} bootstrap intervals. Small circles: single seeds, the same seed joined by a line.",
    )


def _result(metrics: Any, params: dict[str, Any]) -> Iterator[Block]:
    if metrics is None:
        yield Missing("the test accuracies", "dvc repro evaluate")
        return

    def make_row(label: str, name: str, loss: str) -> list[str]:
        deviation = f"± {metrics[f'{name}_std']:.4f}" if f"{name}_std" in metrics else ""
        value, low, high = (metrics[f"{name}{suffix}"] for suffix in INTERVAL_SUFFIXES)
        sign = "+" if name == "gain" else ""
        return [label, f"{value:{sign}.4f}", f"{low:{sign}.4f} to {high:{sign}.4f}", deviation, loss]

    yield Table(
        ["", "accuracy", f"{_level(params)} interval", f"over {pluralize(metrics['seeds'], 'seed')}", "loss"],
        [
            make_row("fine-tuned", "accuracy", f"{metrics['loss']:.4f}"),
            make_row("from scratch", "scratch_accuracy", f"{metrics['scratch_loss']:.4f}"),
            make_row("gain", "gain", f"{metrics['loss'] - metrics['scratch_loss']:+.4f}"),
            ["constant answer", f"{metrics['constant_accuracy']:.4f}", "", "", ""],
        ],
    )
    perfect = describe_perfect_score(metrics["accuracy"], metrics.get("examples", 0))
    if perfect is not None:
        yield Text(f"An accuracy of {perfect}.")
    for sentence in describe_data(read_manifest("target") or {"splits": {}}):
        yield Text(f"{sentence[0].upper()}{sentence[1:]}.")
    yield Text(
        f"Fine-tuning wins on {metrics['seeds_won']} of {pluralize(metrics['seeds'], 'seed')}. "
        "Both arms have the same labels, epochs and search; the test split was opened once, after every choice was "
        "made.",
        quiet=True,
    )


# ------------------------------------------------------------------------------------------------ data, time, recipe


def _data(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    manifests = {role: manifest for role in flagship.ROLES if (manifest := read_manifest(role))}
    if not manifests:
        yield Missing("the prepared data", "dvc repro prepare")
        return
    facts: dict[str, Callable[[Any], str]] = {
        "data set": lambda m: m["name"],
        "examples": lambda m: ", ".join(f"{split['rows']:,} {name}" for name, split in m["splits"].items()),
        "classes": lambda m: f"{len(m['classes'])}: {_abbreviate(m['classes'])}",
        "licence": lambda m: m["licence"],
        "origin": lambda m: m["source"],
        "digest": lambda m: f"`{m['digest'][:12]}`",
    }
    rows = [[name, *(fact(m) for m in manifests.values())] for name, fact in facts.items()]
    yield Table(["", *manifests], rows, text_columns=(1, 2))
    previews = [
        Picture(file, f"Examples of the {role}", f"{role}, as training sees it")
        for role in flagship.ROLES
        if (file := Path(flagship.preview_file(role))).is_file()
    ]
    yield Row(previews) if previews else Missing("the previews", "dvc repro augment")


def _time(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    stages = read_seconds()
    if not stages:
        yield Missing("the seconds of each stage", "dvc repro")
        return
    rows = {name: {"workers": parts.get("workers", 0.0)} for name, parts in stages.items()}
    for name, row in rows.items():
        row |= {part: value for part, value in stages[name].items() if part not in ("workers", "total")}
        row["other"] = max(0.0, stages[name]["total"] - sum(row.values()))
    drawing = figures.draw_bars(rows, "Seconds per stage", "seconds")
    total = sum(parts["total"] for parts in stages.values())
    yield Picture(
        figures.save_figure(drawing, folder / "seconds.svg"),
        "Seconds each stage took",
        f"{total:,.0f} seconds in all, from the last run of each stage.",
    )
    bills = latest_bills(list(stages))
    if bills:
        yield Table(
            BILL_HEAD, bill_rows(bills, params.get("prices", {})), "The bill, attempts that were stopped included"
        )


def _recipe(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    yield Text(
        "These values decide the result. Run an experiment with another value: `dvc exp run -S finetune.seeds=10`."
    )
    yield Folded("params.yaml", Path("params.yaml").read_text(encoding="utf-8"))


def _further(params: dict[str, Any], folder: Path) -> Iterator[Block]:
    yield Text(
        "Every run, trial and curve is in MLflow. Start its pages on this machine with `trainyard ui`, then open:"
    )
    yield Links(list(find_links(params["name"]).items()))
    yield Text("`dvc plots show` draws the same curves with DVC, and `dvc metrics diff` compares two commits.")


def _level(params: dict[str, Any]) -> str:
    """Return the confidence level of the intervals in percent."""
    return f"{params['evaluate']['level']:.0%}"


def _abbreviate(names: Sequence[str], most: int = 12) -> str:
    """Return the names as text, without the middle ones if there are more than `most`."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most // 2])} ... {names[-1]}"
