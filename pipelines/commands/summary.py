"""`trainyard summary`: print the result of the last run from the files that it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.errors import Refusal, pluralize
from components.recipes import recipe
from components.verdicts.caveats import describe_data, describe_perfect_score, describe_worthless
from pipelines.commands.parser import STAGES
from pipelines.flagship import ARM_NAMES, BEST_FILE, METRICS_FILE
from pipelines.reports.links import noted_links
from pipelines.stage.bill import describe_bill, latest_bills, sum_bills
from pipelines.stage.outputs import (
    INTERVAL_SUFFIXES,
    display_name,
    format_value,
    read_json,
    read_manifest,
    read_metrics,
    read_seconds,
)

REPORT = Path("reports/index.html")
Row = tuple[str, str]  # (heading, text)


def main() -> int:
    """Print accuracies, best values, durations and links; raise Refusal before the first complete run."""
    params = recipe.load("params.yaml")
    metrics = read_metrics()
    best = read_json(BEST_FILE)
    for path, content in ((METRICS_FILE, metrics), (BEST_FILE, best)):
        if content is None:
            raise Refusal(f"{path}: does not exist yet; run the pipeline first (make run)")
    rows = [*_accuracy_rows(metrics, params), *_caveat_rows(metrics), *_search_rows(best)]
    rows += [*_duration_rows(), *_bill_rows(params), *_link_rows()]
    width = max(len(heading) for heading, _ in rows)
    print("\n".join(["", params["name"], *(f"  {heading:{width}}  {text}" for heading, text in rows)]))
    return 0


def _accuracy_rows(metrics: dict[str, Any], params: dict[str, Any]) -> list[Row]:
    """Return the rows of both arms' accuracies and of the gain, each with its interval."""
    seeds = metrics["seeds"]
    gain_note = f"won on {metrics['seeds_won']} of {pluralize(seeds, 'seed')}"
    return [
        ("test accuracy", _arm_text(metrics, "finetuned", "accuracy")),
        (f"{params['evaluate']['level']:.0%} intervals", _arm_text(metrics, "scratch", "scratch_accuracy")),
        ("", _interval_text(metrics, "gain", "gain", gain_note, sign="+")),
        ("", f"{'constant':12}  {metrics['constant_accuracy']:>7.4f}  always the most frequent training class"),
    ]


def _caveat_rows(metrics: dict[str, Any]) -> list[Row]:
    """Return what makes the result uncertain: a perfect score on few examples, and classes that hardly appear."""
    manifest = read_manifest("target")
    perfect = describe_perfect_score(metrics["accuracy"], metrics.get("examples", 0))
    worthless = describe_worthless({"accuracy": metrics["accuracy"]}, metrics.get("constant_accuracy"))
    sentences = [f"accuracy {perfect}"] if perfect else []
    sentences += [worthless] if worthless else []
    sentences += describe_data(manifest) if manifest else []
    return [("caution" if index == 0 else "", sentence) for index, sentence in enumerate(sentences)]


def _arm_text(metrics: dict[str, Any], arm: str, name: str) -> str:
    note = f"± {metrics[f'{name}_std']:.4f} over {pluralize(metrics['seeds'], 'seed')}"
    return _interval_text(metrics, ARM_NAMES[arm], name, note)


def _interval_text(metrics: dict[str, Any], label: str, name: str, note: str, sign: str = "") -> str:
    """Return "LABEL VALUE [LOW, HIGH] NOTE" of one metric, in columns."""
    value, low, high = (f"{metrics[f'{name}{suffix}']:{sign}.4f}" for suffix in INTERVAL_SUFFIXES)
    return f"{label:12}  {value:>7}  {f'[{low}, {high}]':18}  {note}"


def _search_rows(best: dict[str, Any]) -> list[Row]:
    """Return one row per arm with the values that its search chose."""
    rows = []
    for index, (arm, choice) in enumerate(best.items()):
        flat = recipe.flatten(choice["values"])
        values = "  ".join(f"{display_name(key)} {format_value(v):6}" for key, v in flat.items())
        text = f"{ARM_NAMES.get(arm, arm):12}  {values}  of {pluralize(choice['trials'], 'trial')}"
        rows.append(("best values" if index == 0 else "", text))
        rows += [("", f"{'':12}  {sentence}") for sentence in choice.get("edges", [])]
    return rows


def _duration_rows() -> list[Row]:
    stages = read_seconds()
    total = sum(parts["total"] for parts in stages.values())
    each = "  ".join(f"{name} {parts['total']:.0f}" for name, parts in stages.items())
    return [("seconds", f"{each}  in all {total:.0f}")] if stages else []


def _bill_rows(params: dict[str, Any]) -> list[Row]:
    """Return the bill of the last complete run of all stages."""
    bills = latest_bills(STAGES)
    return [("bill", describe_bill(sum_bills(bills.values()), params.get("prices", {})))] if bills else []


def _link_rows() -> list[Row]:
    """Return where to look further; a missing file is replaced by the command that writes it."""
    report = REPORT.resolve().as_uri() if REPORT.is_file() else "make report  (trainyard report)"
    # Links to searches are left out: each holds the ids of many runs.
    links = [(title, address) for title, address in noted_links().items() if not title.startswith("search")]
    return [
        ("report", report),
        ("MLflow", "make ui  (trainyard ui) prints links to the searches and the families, too"),
        *(("", f"{title}: {address}") for title, address in links),
    ]
