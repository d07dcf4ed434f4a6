"""Fit the source model, from whose weights fine-tuning starts."""

from __future__ import annotations

from typing import Any

from components.files import write_json
from components.recipes import recipe
from pipelines import flagship
from pipelines.stage import diagnoses
from pipelines.stage.context import stage
from pipelines.stage.outputs import write_history
from pipelines.workers.records import FitJob


def main(params: dict[str, Any]) -> None:
    """Run the stage: fit one model, write its metrics and curves, and diagnose it."""
    section = flagship.pretrain_section(params)
    inputs = [flagship.SOURCE_PREPARED, flagship.SOURCE_AUGMENTED]
    with stage("pretrain", params, section | {"seed": params["seed"]}, inputs) as run:
        job = FitJob(section, run=str(run.folder), out=flagship.PRETRAINED, seed=params["seed"])
        shards = recipe.fill_defaults("training.engine.fit", section["fit"])["shards"]
        measurements = run.spread("pipelines.workers.training.train_and_examine", job, *inputs, parts=shards)
        scores = measurements.scores.get("validation", {})
        write_json(flagship.PRETRAIN_METRICS_FILE, scores)
        write_history(flagship.PRETRAIN_CURVES_FILE, {"pretrain": run.folder})
        run.log_text("  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        diagnoses.diagnose_fit(run, "pretrain", measurements)
