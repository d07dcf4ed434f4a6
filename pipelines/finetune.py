"""finetune: the target task from the pretrained body, and from scratch, at the same budget, over the same seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.recipes import recipe
from pipelines import pretrain
from pipelines.stage.context import history, stage
from pipelines.stage.outputs import BEST, read_json

PREPARED, AUGMENTED = "data/prepared/target", "data/augmented/target"
ARMS = ("finetuned", "scratch")


def main(params: dict[str, Any]) -> None:
    best = read_json(BEST, ARMS)
    sections = {arm: recipe.overlay(section_of(params, arm), best[arm]["values"]) for arm in ARMS}
    seeds = range(params["seed"], params["seed"] + params["finetune"]["seeds"])
    tracked = {"finetune": sections, "seeds": len(seeds)}
    with stage("finetune", params, tracked, [PREPARED, AUGMENTED, pretrain.MODEL]) as run:
        fits: list[dict[str, Any]] = []
        for arm, seed in ((arm, seed) for arm in ARMS for seed in seeds):
            folder = run.folder / f"{arm}-{seed}"
            out = f"models/{arm}/{seed}"
            fits.append({"section": sections[arm], "run": str(folder), "out": out, "seed": seed})
            run.child(f"{arm} seed {seed}", folder, {**sections[arm], "seed": seed, "arm": arm}, group=arm)
        shards = recipe.filled("training.engine.fit", sections["finetuned"]["fit"])["shards"]
        run.spread("pipelines.workers.training.train_all", fits, PREPARED, AUGMENTED, parts=max(len(fits), shards))
        for fit in fits:
            run.close(Path(fit["run"]), model=fit["out"])
        history("plots/finetune.csv", {Path(fit["run"]).name.replace("-", " "): Path(fit["run"]) for fit in fits})


def section_of(params: dict[str, Any], arm: str) -> dict[str, Any]:
    """{task, fit} of one arm: the same but for where it starts, and that nothing holds the body back from scratch."""
    section = params["finetune"]
    task = section["task"] | {"model": params["model"]}
    task |= {"start": pretrain.MODEL} if arm == "finetuned" else {"body_rate": 1.0}
    return {"task": task, "fit": section["fit"]}
