"""fit: one recipe of a family, from its data to an exported, scored model, in one visit to the workers.

A `tune` section searches before, over folds of the training split; the best values take the place of the recipe's.
Data prepared for one recipe serve every other that names the same data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components import cluster, recipe, tuning
from components.trials import best, describe
from pipelines.check import check_recipe
from pipelines.stage import Stage, code_digest, history, stage, work, write_json

RESULTS = Path("results")
MONITOR = ("accuracy", "max")
LEVEL = 0.95


def main(path: str) -> None:
    given = recipe.load(path)
    check_recipe(given, path)
    family, system = Path(path).parent.name, Path(path).stem
    out, seed = RESULTS / family / system, given.get("seed", 0)
    data = work() / "prepared" / recipe.digest([given["data"], code_digest()])[:16]
    with stage("fit", {"name": family, **given}, given, [], title=system) as run:
        section = {"task": given["task"], "fit": given["fit"]}
        if "tune" in given:
            run.spread("pipelines.training.ready", given["data"], str(data))
            section = recipe.overlay(section, searched(run, given["tune"], section, data, seed))
        fit = {"section": section, "run": str(run.folder), "out": str(out / "model"), "seed": seed}
        found = run.spread("pipelines.training.from_data_to_scores", given["data"], str(data), fit)
        metrics = summed(found)
        history(out / "history.csv", {system: run.folder})
        write_json(out / "metrics.json", metrics)
        run.journal.write("metric", step=0, values={f"test/{name}": value for name, value in metrics.items()})
        run.journal.write("tag", name="data.digest", value=found["digest"])
        run.tell("test " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


def searched(run: Stage, tune: dict[str, Any], section: dict[str, Any], data: Path, seed: int) -> dict[str, Any]:
    """The best values {dotted key: value} of the search that the section `tune` describes."""
    given = {"section": section, "prepared": f"{data}/prepared", "augmented": f"{data}/augmented"}
    trials = tuning.search(
        "pipelines.training.trial",
        {"trials": given | {"count": tune["folds"], "seed": seed}},
        run.folder,
        rungs=tune["folds"],
        monitor=MONITOR,
        gpu=cluster.plan().gpu,
        on_trial=lambda trial, at: run.trial(f"trial {trial.number:02d}", at, trial.values, "trials", trial.rungs),
        **{"seed": seed} | tune["search"],
    )["trials"]
    winner = best(trials, MONITOR)
    run.tell(f"best of {len(trials)} trials: {describe(winner)}")
    return winner.values


def summed(found: dict[str, Any]) -> dict[str, float]:
    """The scores on the test split, and the interval of the accuracy."""
    from components.metrics.classification import bootstrap

    low, high = bootstrap(found["correct"], LEVEL)
    return {**found["scores"], "accuracy_low": low, "accuracy_high": high}
