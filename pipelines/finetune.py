"""finetune: the target task from the pretrained body, and from scratch, at the same budget, over the same seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components import recipe
from pipelines import pretrain, training
from pipelines.stage import history, stage, write_json

PREPARED, AUGMENTED = "data/prepared/target", "data/augmented/target"
BEST = "tune/best.json"
ARMS = ("finetuned", "scratch")


def main(params: dict[str, Any]) -> None:
    best = json.loads(Path(BEST).read_text())
    sections = {arm: recipe.overlay(section_of(params, arm), best[arm]["values"]) for arm in ARMS}
    seeds = range(params["seed"], params["seed"] + params["finetune"]["seeds"])
    tracked = {"finetune": sections, "seeds": len(seeds)}
    with stage("finetune", params, tracked, [PREPARED, AUGMENTED, pretrain.MODEL]) as run:
        names = [(arm, seed) for arm in ARMS for seed in seeds]
        fits = [
            {"section": sections[arm], "run": f"{run.folder}/{arm}-{seed}", "out": f"models/{arm}/{seed}", "seed": seed}
            for arm, seed in names
        ]
        run.spread(training.train_all, fits, PREPARED, AUGMENTED)
        for (arm, seed), fit in zip(names, fits, strict=True):
            run.child(f"{arm} seed {seed}", fit["run"], {**fit["section"], "seed": seed, "arm": arm})
        history("plots/finetune.csv", {f"{arm} {seed}": Path(fit["run"]) for (arm, seed), fit in zip(names, fits)})
        write_json("metrics/finetune.json", {arm: best[arm]["values"] for arm in ARMS})


def section_of(params: dict[str, Any], arm: str) -> dict[str, Any]:
    """{task, fit} of one arm: the same but for where it starts, and that nothing holds the body back from scratch."""
    section = params["finetune"]
    task = section["task"] | {"model": params["model"]}
    task |= {"start": pretrain.MODEL} if arm == "finetuned" else {"body_rate": 1.0}
    return {"task": task, "fit": section["fit"]}
