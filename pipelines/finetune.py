"""Train the target task from the pretrained body and from scratch, at the same budget, over the same seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.recipes import recipe
from pipelines import flagship
from pipelines.flagship import ARMS, BEST_FILE, FINETUNE_CURVES_FILE, PRETRAINED, TARGET_AUGMENTED, TARGET_PREPARED
from pipelines.stage.context import stage
from pipelines.stage.outputs import read_json, write_history
from pipelines.workers.records import FitJob


def main(params: dict[str, Any]) -> None:
    """Run the stage: one fit per arm and seed, each with the values that the search chose for its arm."""
    best = read_json(BEST_FILE, ARMS)
    sections = {arm: recipe.overlay(flagship.arm_section(params, arm), best[arm]["values"]) for arm in ARMS}
    seeds = range(params["seed"], params["seed"] + params["finetune"]["seeds"])
    tracked = {"finetune": sections, "seeds": len(seeds)}
    with stage("finetune", params, tracked, [TARGET_PREPARED, TARGET_AUGMENTED, PRETRAINED]) as run:
        jobs: list[FitJob] = []
        curves: dict[str, Path] = {}
        for arm in ARMS:
            for seed in seeds:
                folder = run.folder / f"{arm}-{seed}"
                jobs.append(FitJob(sections[arm], run=str(folder), out=flagship.model_folder(arm, seed), seed=seed))
                curves[f"{arm} {seed}"] = folder
                run.add_child(f"{arm} seed {seed}", folder, {**sections[arm], "seed": seed, "arm": arm}, group=arm)
        shards = recipe.fill_defaults("training.engine.fit", sections["finetuned"]["fit"])["shards"]
        parts = max(len(jobs), shards)
        run.spread("pipelines.workers.training.train_all", jobs, TARGET_PREPARED, TARGET_AUGMENTED, parts=parts)
        for job in jobs:
            run.end_child(Path(job.run), model=job.out)
        write_history(FINETUNE_CURVES_FILE, curves)
