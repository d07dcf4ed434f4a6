"""`trainyard summary`: what a person wants to know after a run, from the files it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.errors import Refusal
from components.recipes import recipe
from pipelines.flagship import ARM_NAMES, BEST_FILE, METRICS_FILE
from pipelines.reports.links import noted_links
from pipelines.stage.outputs import INTERVAL_SUFFIXES, display_name, format_value, read_json, read_metrics, read_seconds

REPORT = Path("reports/index.html")
Row = tuple[str, str]  # what it is, what it says


def main() -> int:
    params = recipe.load("params.yaml")
    metrics, best = read_metrics(), read_json(BEST_FILE)
    for path, content in ((METRICS_FILE, metrics), (BEST_FILE, best)):
        if content is None:
            raise Refusal(f"{path}: not there yet; run the pipeline first (make run)")
    rows = [*_accuracies(metrics, params), *_search(best), *_seconds(), *_doors()]
    width = max(len(name) for name, _ in rows)
    print("\n".join(["", params["name"], *(f"  {name:{width}}  {text}" for name, text in rows)]))
    return 0


def _accuracies(metrics: dict[str, Any], params: dict[str, Any]) -> list[Row]:
    seeds = metrics["seeds"]

    def row(label: str, name: str, behind: str, sign: str = "") -> str:
        value, low, high = (f"{metrics[f'{name}{end}']:{sign}.4f}" for end in INTERVAL_SUFFIXES)
        return f"{label:12}  {value:>7}  {f'[{low}, {high}]':18}  {behind}"

    def arm(key: str, name: str) -> str:
        return row(ARM_NAMES[key], name, f"± {metrics[f'{name}_std']:.4f} over {seeds} seeds")

    return [
        ("test accuracy", arm("finetuned", "accuracy")),
        (f"{params['evaluate']['level']:.0%} intervals", arm("scratch", "scratch_accuracy")),
        ("", row("gain", "gain", f"won on {metrics['seeds_won']} of {seeds} seeds", "+")),
    ]


def _search(best: dict[str, Any]) -> list[Row]:
    def row(arm: str) -> str:
        values = "  ".join(f"{display_name(key)} {format_value(value):6}" for key, value in best[arm]["values"].items())
        return f"{ARM_NAMES.get(arm, arm):12}  {values}  of {best[arm]['trials']} trials"

    return [("best values" if index == 0 else "", row(arm)) for index, arm in enumerate(best)]


def _seconds() -> list[Row]:
    stages = read_seconds()
    total = sum(parts["total"] for parts in stages.values())
    each = "  ".join(f"{name} {parts['total']:.0f}" for name, parts in stages.items())
    return [("seconds", f"{each}  in all {total:.0f}")] if stages else []


def _doors() -> list[Row]:
    """Where to look further; without the file the command that writes it."""
    report = REPORT.resolve().as_uri() if REPORT.is_file() else "make report  (trainyard report)"
    pages = [
        (title, address) for title, address in noted_links().items() if not title.startswith("search")
    ]  # of many ids
    return [
        ("report", report),
        ("MLflow", "make ui  (trainyard ui) prints links to the searches and the families, too"),
        *(("", f"{title}: {address}") for title, address in pages),
    ]
