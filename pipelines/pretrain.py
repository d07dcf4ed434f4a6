"""pretrain: fit the source model; its weights are where fine-tuning starts."""

from __future__ import annotations

from typing import Any

from components.files import write_json
from components.recipes import recipe
from pipelines.stage import diagnoses
from pipelines.stage.context import history, stage

PREPARED, AUGMENTED = "data/prepared/source", "data/augmented/source"
MODEL = "models/pretrain"


def main(params: dict[str, Any]) -> None:
    section = section_of(params)
    with stage("pretrain", params, section | {"seed": params["seed"]}, inputs=[PREPARED, AUGMENTED]) as run:
        fit = {"section": section, "run": str(run.folder), "out": MODEL, "seed": params["seed"]}
        shards = recipe.filled("training.engine.fit", section["fit"])["shards"]
        found = run.spread("pipelines.workers.training.examined", fit, PREPARED, AUGMENTED, parts=shards)
        scores = found["scores"]
        write_json("metrics/pretrain.json", scores)
        history("plots/pretrain.csv", {"pretrain": run.folder})
        run.tell("  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        diagnoses.diagnosed(run, "pretrain", found)


def section_of(params: dict[str, Any]) -> dict[str, Any]:
    """{task, fit} with the pipeline's one model."""
    section = params["pretrain"]
    return {"task": section["task"] | {"model": params["model"]}, "fit": section["fit"]}
