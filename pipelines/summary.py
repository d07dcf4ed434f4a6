"""`trainyard summary`: what a person wants to know after a run, from the files it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components import recipe
from components.refusal import Refusal
from pipelines.stage import seconds


def main() -> int:
    metrics, best = _read("metrics/evaluate.json"), _read("tune/best.json")
    name = recipe.load("params.yaml")["name"]
    print("\n".join(["", f"{name}", *_accuracies(metrics), *_search(best), *_seconds(), *_doors()]))
    return 0


def _accuracies(m: dict[str, Any]) -> list[str]:
    def arm(prefix: str) -> str:
        value, low, high = (m[f"{prefix}accuracy{end}"] for end in ("", "_low", "_high"))
        return f"{value:.3f}  [{low:.3f}, {high:.3f}]  ± {m[f'{prefix}accuracy_std']:.3f} over {m['seeds']} seeds"

    return [
        f"  test accuracy  fine-tuned    {arm('')}",
        f"                 from scratch  {arm('scratch_')}",
        f"                 gain          {m['gain']:+.3f}  [{m['gain_low']:+.3f}, {m['gain_high']:+.3f}]"
        f"  won {m['seeds_won']} of {m['seeds']} seeds",
    ]


def _search(best: dict[str, Any]) -> list[str]:
    def values(arm: str) -> str:
        return ", ".join(f"{key.rpartition('.')[2]} {value:.3g}" for key, value in best[arm]["values"].items())

    return [f"  best of {best[arm]['trials']} trials, {arm:10} {values(arm)}" for arm in best]


def _seconds() -> list[str]:
    parts = seconds()
    stages = "  ".join(f"{name} {part['total']:.0f}" for name, part in parts.items())
    return [f"  seconds        {stages}  (last run of each stage)"] if parts else []


def _doors() -> list[str]:
    return ["  report         reports/index.html", "  MLflow         make ui  (trainyard ui)"]


def _read(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise Refusal(f"{path}: not there yet; run the pipeline first (make run)")
    content: dict[str, Any] = json.loads(Path(path).read_text())
    return content
