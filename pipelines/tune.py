"""tune: learning rate and batch size of fine-tuning; each arm gets the same search over the same folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.cluster import plan
from components.files import write_json
from components.recipes import recipe
from components.search.objective import Objective
from components.search.trials import Trial, describe_trial
from components.storage.store import Store
from components.verdicts import diagnosis
from pipelines import flagship
from pipelines.flagship import ARMS, TARGET_AUGMENTED, TARGET_PREPARED
from pipelines.stage.check import check_unwatched
from pipelines.stage.context import Stage, stage
from pipelines.stage.outputs import write_table
from pipelines.stage.search import ArmResult, run_search
from pipelines.stage.starting_points import read_starting_points
from pipelines.workers.records import TrialSetup

MONITOR = ("accuracy", "max")


def main(params: dict[str, Any]) -> None:
    """Run the stage: search each arm, then write the best values and the table of all trials."""
    folds, seed = params["tune"]["folds"], params["seed"]
    splits = Store(TARGET_PREPARED).manifest["splits"]
    if "validation" not in splits:
        check_unwatched(params["finetune"]["fit"], params["tune"]["search"]["space"], "finetune.")
    tune = params["tune"] | {"search": read_starting_points(params["tune"]["search"])}
    sections = {arm: flagship.arm_section(params, arm) for arm in ARMS}
    arms = {
        arm: {"setup": TrialSetup(section, TARGET_PREPARED, TARGET_AUGMENTED, seed), "count": folds}
        for arm, section in sections.items()
    }
    tracked = {"tune": tune, "finetune": sections, "seed": seed}
    with stage("tune", params, tracked, [TARGET_PREPARED, TARGET_AUGMENTED, flagship.PRETRAINED]) as run:
        objective = Objective(
            "pipelines.workers.rungs.score_fold",
            arms,
            rungs=folds,
            monitor=MONITOR,
            gpu=plan.plan_workers().gpu,
        )
        results = run_search(
            run,
            objective,
            {"seed": seed} | tune["search"],
            diagnosis.trivial_loss(Store(TARGET_PREPARED).split("train")),
            lambda trial, folder: _report_trial(run, trial, folder),
        )
        for arm, result in results.items():
            run.log_text(f"{arm}: best {describe_trial(result.best)}")
        write_json(flagship.BEST_FILE, {arm: _summary(result) for arm, result in results.items()})
        write_table(flagship.TRIALS_FILE, [_row(trial) for result in results.values() for trial in result.trials])


def _report_trial(run: Stage, trial: Trial, folder: Path) -> None:
    """Record a trial that ended or paused as a child of the stage's run, and print its scores."""
    name = f"{trial.arm} trial {trial.number:02d}  {describe_trial(trial, values_only=True)}"
    run.add_trial(name, folder, trial, trial.arm)
    run.log_text(f"{trial.arm} trial {trial.number}: {describe_trial(trial)}")


def _summary(result: ArmResult) -> dict[str, Any]:
    """Return an arm's entry in the file of best values."""
    summary = {"values": result.best.values, "scores": result.best.scores, "trials": len(result.trials)}
    return summary | ({"edges": result.edges} if result.edges else {})


def _row(trial: Trial) -> dict[str, Any]:
    """Return a trial's line in the table of all trials."""
    row = {"arm": trial.arm, "trial": trial.number, **recipe.flatten(trial.values), **trial.scores}
    row |= {"rungs": len(trial.parts), "finished": trial.finished}
    return row | {"reason": trial.reason} if trial.reason else row
