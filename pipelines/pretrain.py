"""pretrain: fit the source model; its weights are where fine-tuning starts."""

from __future__ import annotations

from typing import Any

from components.files import write_json
from components.recipes import recipe
from pipelines.stage import diagnoses
from pipelines.stage.context import stage
from pipelines.stage.outputs import write_history

SOURCE_PREPARED, SOURCE_AUGMENTED = "data/prepared/source", "data/augmented/source"
PRETRAINED = "models/pretrain"


def main(params: dict[str, Any]) -> None:
    section = pretrain_section(params)
    with stage(
        "pretrain", params, section | {"seed": params["seed"]}, inputs=[SOURCE_PREPARED, SOURCE_AUGMENTED]
    ) as run:
        fit = {"section": section, "run": str(run.folder), "out": PRETRAINED, "seed": params["seed"]}
        shards = recipe.fill_defaults("training.engine.fit", section["fit"])["shards"]
        found = run.spread(
            "pipelines.workers.training.train_and_examine", fit, SOURCE_PREPARED, SOURCE_AUGMENTED, parts=shards
        )
        scores = found["scores"]
        write_json("metrics/pretrain.json", scores)
        write_history("plots/pretrain.csv", {"pretrain": run.folder})
        run.log_text("  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        diagnoses.diagnose_fit(run, "pretrain", found)


def pretrain_section(params: dict[str, Any]) -> dict[str, Any]:
    """{task, fit} with the pipeline's one model."""
    section = params["pretrain"]
    return {"task": section["task"] | {"model": params["model"]}, "fit": section["fit"]}
