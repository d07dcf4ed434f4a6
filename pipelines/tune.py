"""tune: learning rate and batch size of fine-tuning, for each arm by the same search over the same folds."""

from __future__ import annotations

from typing import Any

from components import cluster, tuning
from pipelines import finetune, pretrain, training
from pipelines.finetune import ARMS, AUGMENTED, PREPARED
from pipelines.stage import stage, table, write_json

MONITOR = ("accuracy", "max")


def main(params: dict[str, Any]) -> None:
    sections = {arm: finetune.section_of(params, arm) for arm in ARMS}
    folds, seed = params["tune"]["folds"], params["seed"]
    tracked = {"tune": params["tune"], "finetune": sections, "seed": seed}
    with stage("tune", params, tracked, [PREPARED, AUGMENTED, pretrain.MODEL]) as run:
        best, rows = {}, []
        for arm in ARMS:
            trials = tuning.search(
                training.trial,
                {"section": sections[arm], "prepared": PREPARED, "augmented": AUGMENTED, "count": folds, "seed": seed},
                run.folder / arm,
                rungs=folds,
                monitor=MONITOR,
                gpu=cluster.plan().gpu,
                on_trial=lambda trial, arm=arm: run.tell(f"{arm} trial {trial.number}: {describe(trial)}"),
                seed=seed,
                **params["tune"]["search"],
            )
            for trial in trials:
                name = f"{arm} trial {trial.number:02d}  {describe(trial, values_only=True)}"
                run.finished(name, {"arm": arm, **trial.values}, trial.rungs, {"finished": trial.finished})
                rows.append({"arm": arm, "trial": trial.number, **trial.values, **trial.scores, "rungs": len(trial.rungs)})
            winner = tuning.best(trials, MONITOR)
            best[arm] = {"values": winner.values, "scores": winner.scores, "trials": len(trials)}
            run.tell(f"{arm}: best {describe(winner)}")
        write_json("tune/best.json", best)
        table("plots/tune.csv", rows)


def describe(trial: tuning.Trial, values_only: bool = False) -> str:
    """`lr=0.0123 batch=16  accuracy 0.93 after 4 rungs`."""
    values = " ".join(f"{key.rpartition('.')[2]}={value:.3g}" for key, value in trial.values.items())
    scores = " ".join(f"{name} {value:.4f}" for name, value in trial.scores.items())
    return values if values_only else f"{values}  {scores} after {len(trial.rungs)} folds"
