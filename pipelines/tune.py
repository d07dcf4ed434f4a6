"""tune: learning rate and batch size of fine-tuning, for each arm by the same search over the same folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.cluster import plan
from components.files import write_json
from components.search import ray_tune
from components.search.trials import Trial, best_trial, describe_trial
from components.storage.store import Store
from components.verdicts import diagnosis
from pipelines import flagship
from pipelines.flagship import ARMS, TARGET_AUGMENTED, TARGET_PREPARED
from pipelines.stage import diagnoses
from pipelines.stage.context import stage
from pipelines.stage.outputs import write_table

MONITOR = ("accuracy", "max")


def main(params: dict[str, Any]) -> None:
    sections = {arm: flagship.arm_section(params, arm) for arm in ARMS}
    folds, seed = params["tune"]["folds"], params["seed"]
    tracked = {"tune": params["tune"], "finetune": sections, "seed": seed}
    given = {"prepared": TARGET_PREPARED, "augmented": TARGET_AUGMENTED, "count": folds, "seed": seed}
    with stage("tune", params, tracked, [TARGET_PREPARED, TARGET_AUGMENTED, flagship.PRETRAINED]) as run:

        def ended(trial: Trial, folder: Path) -> None:
            name = f"{trial.arm} trial {trial.number:02d}  {describe_trial(trial, values_only=True)}"
            run.add_trial(name, folder, trial.values, trial.arm, trial.rungs)
            run.log_text(f"{trial.arm} trial {trial.number}: {describe_trial(trial)}")

        found = ray_tune.search(
            "pipelines.workers.rungs.fold",
            {arm: {"section": section, **given} for arm, section in sections.items()},
            run.folder,
            rungs=folds,
            monitor=MONITOR,
            gpu=plan.plan_workers().gpu,
            on_trial=ended,
            seed=seed,
            **params["tune"]["search"],
        )
        winners = {arm: best_trial(trials, MONITOR) for arm, trials in found.items()}
        trivial = diagnosis.trivial_loss(Store(TARGET_PREPARED).split("train"))
        for trials in found.values():
            diagnoses.label_trials(run.folder, trials, diagnoses.diagnose_trials(trials, MONITOR, trivial))
        for arm, winner in winners.items():
            run.log_text(f"{arm}: best {describe_trial(winner)}")
        chosen = {
            arm: {"values": winner.values, "scores": winner.scores, "trials": len(found[arm])}
            for arm, winner in winners.items()
        }
        write_json(flagship.BEST_FILE, chosen)
        rows = [
            {
                **{"arm": arm, "trial": trial.number, **trial.values, **trial.scores},
                **{"rungs": len(trial.parts), "finished": trial.finished},
            }
            for arm, trials in found.items()
            for trial in trials
        ]
        write_table(flagship.TRIALS_FILE, rows)
