"""finetune: the target task from the pretrained body, and from scratch, at the same budget, over the same seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.recipes import recipe
from pipelines import pretrain
from pipelines.stage.context import stage
from pipelines.stage.outputs import BEST_FILE, read_json, write_history

TARGET_PREPARED, TARGET_AUGMENTED = "data/prepared/target", "data/augmented/target"
ARMS = ("finetuned", "scratch")


def main(params: dict[str, Any]) -> None:
    best = read_json(BEST_FILE, ARMS)
    sections = {arm: recipe.overlay(arm_section(params, arm), best[arm]["values"]) for arm in ARMS}
    seeds = range(params["seed"], params["seed"] + params["finetune"]["seeds"])
    tracked = {"finetune": sections, "seeds": len(seeds)}
    with stage("finetune", params, tracked, [TARGET_PREPARED, TARGET_AUGMENTED, pretrain.PRETRAINED]) as run:
        fits: list[dict[str, Any]] = []
        for arm, seed in ((arm, seed) for arm in ARMS for seed in seeds):
            folder = run.folder / f"{arm}-{seed}"
            out = f"models/{arm}/{seed}"
            fits.append({"section": sections[arm], "run": str(folder), "out": out, "seed": seed})
            run.add_child(f"{arm} seed {seed}", folder, {**sections[arm], "seed": seed, "arm": arm}, group=arm)
        shards = recipe.fill_defaults("training.engine.fit", sections["finetuned"]["fit"])["shards"]
        run.spread(
            "pipelines.workers.training.train_all",
            fits,
            TARGET_PREPARED,
            TARGET_AUGMENTED,
            parts=max(len(fits), shards),
        )
        for fit in fits:
            run.end_child(Path(fit["run"]), model=fit["out"])
        write_history("plots/finetune.csv", {Path(fit["run"]).name.replace("-", " "): Path(fit["run"]) for fit in fits})


def arm_section(params: dict[str, Any], arm: str) -> dict[str, Any]:
    """{task, fit} of one arm: the same but for where it starts, and that nothing holds the body back from scratch."""
    section = params["finetune"]
    task = section["task"] | {"model": params["model"]}
    task |= {"start": pretrain.PRETRAINED} if arm == "finetuned" else {"body_rate": 1.0}
    return {"task": task, "fit": section["fit"]}
