"""fit: one recipe of a family, from its data to an exported, scored model, in one visit to the workers.

A `tune` section searches before: over folds of the training split, or over seeds or the epochs of a fit, scored on the
validation split; the best values take the place of the recipe's. Data prepared for one recipe serve every other that
names the same data, while a user's own files keep their bytes.

results/<family>/<system>/metrics.json   scores on the split kept for the end, the monitored one with its interval
                          cost.json      parameters, operations a prediction, seconds of training, samples a second
                          history.csv    metrics against step and epoch
                          search.csv     each trial's values; its scores' mean and standard deviation over folds or
                                         seeds, or its last epoch's
                          pictures/      curves, the search, what augmentation makes of pictures, what the task draws
                          model/         weights and how to build it again
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from components.cluster import plan
from components.drawings import figures, search
from components.errors import Refusal
from components.files import bytes_digest, write_json
from components.recipes import allowed, recipe
from components.runs import journal
from components.search.objective import Objective, TrialSetup
from components.search.trials import Trial, describe_trial
from components.storage.dataset import list_own_files
from components.workspace import work_folder
from pipelines.stage import diagnoses
from pipelines.stage.check import check_recipe
from pipelines.stage.context import Stage, stage
from pipelines.stage.outputs import write_history, write_table
from pipelines.stage.provenance import code_digest
from pipelines.stage.search import run_search

RESULTS = Path("results")
RUNG_FUNCTIONS = {  # what the rungs of a search are, and the function that scores one
    "folds": "pipelines.workers.rungs.score_fold",
    "seeds": "pipelines.workers.rungs.score_seed",
    "epochs": "pipelines.workers.rungs.score_epoch",
}
LEVEL = 0.95  # of the interval


def main(path: str) -> None:
    given = recipe.load(path)
    check_recipe(given, path)
    family, system = Path(path).parent.name, Path(path).stem
    out, seed = RESULTS / family / system, given.get("seed", 0)
    data, own = locate_prepared(given["data"])
    inputs, lock = [*referenced_paths(given["task"]), *own], Path(path).with_name("dvc.lock")
    with stage("fit", {"name": family, **given}, given, inputs, title=system, lock=lock) as run:
        section = {"task": given["task"], "fit": given["fit"]}
        try:
            if "tune" in given:
                ready = run.spread("pipelines.workers.training.prepare_data", given["data"], str(data), given["task"])
                setup = TrialSetup(section, f"{data}/prepared", f"{data}/augmented", seed)
                section = recipe.overlay(section, search_values(run, given["tune"], setup, ready, out))
            fit = {"section": section, "run": str(run.folder), "out": str(out / "model"), "seed": seed}
            trained = recipe.fill_defaults("training.engine.fit", section["fit"])
            shards = trained["shards"]
            found = run.spread("pipelines.workers.training.fit_and_score", given["data"], str(data), fit, parts=shards)
        finally:
            run.log_input(data / "prepared")  # of a fit that fails, too
        metrics = summarise_scores(found)
        write_history(out / "history.csv", {system: run.folder})
        write_json(out / "metrics.json", metrics)
        cost = found["cost"] | training_speed(run.folder, trained["batch"])
        write_json(out / "cost.json", cost)
        run.journal.write("metric", step=0, values={f"test/{name}": value for name, value in metrics.items()})
        run.journal.write("metric", step=0, values={f"cost/{name}": value for name, value in cost.items()})
        for name, value in {"data.digest": found["digest"], "hardware": found["hardware"], **found["tags"]}.items():
            run.journal.write("tag", name=name, value=value)
        for file in [*draw_curves(run.folder, out / "pictures" / "curves.png"), *found["pictures"]]:
            run.log_artifact(file, "pictures")
        if found["example"]:
            run.log_model(f"{family}-{system}", out / "model", **found["example"], requires=found["requires"])
        diagnoses.diagnose_fit(run, system, found, f"{family}/{system}")
        told = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        run.log_text(f"{found['split']} {told}")
        for name, value in found["tags"].items():
            run.log_text(f"{name}: {value}")


def locate_prepared(data: dict[str, Any]) -> tuple[Path, list[str]]:
    """Where the section `data` is prepared, and files and code of a user's own for it: their bytes decide it."""
    paths = [*list_own_files(recipe.build(data)), *allowed.foreign_sources(data)]
    own = {str(path): bytes_digest(path) for path in paths}
    return work_folder() / "prepared" / recipe.digest([data, own, code_digest()])[:16], list(own)


def referenced_paths(task: dict[str, Any]) -> list[str]:
    """The files and folders that a section `task` names, such as another recipe's model: the result depends on them."""
    texts = [value for value in recipe.flatten(task).values() if isinstance(value, str)]
    return [text for text in texts if "/" in text and Path(text).exists()]


def search_values(
    run: Stage, tune: dict[str, Any], setup: TrialSetup, ready: dict[str, Any], out: Path
) -> dict[str, Any]:
    """Run the search of the section `tune`, write its table and picture to `out`, and return the best values.

    ready: splits, monitor and trivial loss of the prepared data, as `prepare_data` returns them.
    """
    kind = next(kind for kind in RUNG_FUNCTIONS if kind in tune)
    count = tune[kind]
    if kind != "folds" and "validation" not in ready["splits"]:
        raise Refusal(f"tune.{kind}: the data have no validation split to score on; give the data one, or tune.folds")
    arguments = {"folds": {"count": count}, "seeds": {}, "epochs": {"epochs": count}}[kind]
    objective = Objective(
        RUNG_FUNCTIONS[kind],
        {"trials": {"setup": setup, **arguments}},
        rungs=count,
        monitor=ready["monitor"],
        cumulative=kind == "epochs",
        gpu=plan.plan_workers().gpu,
    )

    def report_trial(trial: Trial, folder: Path) -> None:
        run.add_trial(f"trial {trial.number:02d}", folder, trial.values, out.name, trial.rung_scores)

    options = {"seed": setup.seed} | tune["search"]
    result = run_search(run, objective, options, ready["trivial"], report_trial)["trials"]
    diagnosed = zip(result.trials, result.diagnoses, strict=True)
    rows = [trial_row(trial, kind) | {"diagnosis": diagnosis.verdict} for trial, diagnosis in diagnosed]
    write_table(out / "search.csv", rows)
    drawing = draw_trials(result.trials, objective.monitor[0], kind)
    run.log_artifact(figures.save_figure(drawing, out / "pictures" / "search.png"), "pictures")
    run.log_text(f"best of {len(result.trials)} trials: {describe_trial(result.best, rungs=kind)}")
    return result.best.values


def trial_row(trial: Trial, kind: str = "folds") -> dict[str, Any]:
    """Return a trial's line in search.csv; `seconds` are per rung, evaluation included. kind: what a rung is."""
    deviations = {
        f"{name}_std": float(np.std([part[name] for part in trial.parts], ddof=1))
        for name in trial.scores
        if len(trial.parts) > 1 and not trial.cumulative
    }
    return {
        "trial": trial.number,
        **recipe.flatten(trial.values),
        **trial.scores,
        **deviations,
        kind: len(trial.parts),
        "seconds": round(trial.seconds / max(1, len(trial.parts)), 3),
        "finished": trial.finished,
    }


def draw_trials(trials: list[Trial], score: str, kind: str = "folds") -> Any:
    """Draw a search: the curve of every trial over epochs, or each finished trial's mean and standard deviation.

    The points below a mean are its folds or seeds.
    """
    if kind == "epochs":
        curves = [([part[score] for part in trial.parts], trial.finished) for trial in trials if trial.parts]
        return search.draw_trials(curves, f"{score} after each epoch", score)
    intervals = {}
    for trial in trials:
        if trial.finished:
            points = tuple(part[score] for part in trial.parts)
            mean = float(np.mean(points))
            deviation = float(np.std(points, ddof=1)) if len(points) > 1 else 0.0
            name = f"trial {trial.number:02d}  {describe_trial(trial, values_only=True)}"
            intervals[name] = figures.Interval(mean, mean - deviation, mean + deviation, points)
    title = f"{score} over the {kind}, mean ± standard deviation"
    return figures.draw_intervals(intervals, title, score, percent=score.endswith("accuracy"))


def summarise_scores(found: dict[str, Any]) -> dict[str, float]:
    """The scores, and of the monitored one its interval over the examples where it is a mean."""
    scores: dict[str, float] = dict(found["scores"])
    if found["outcomes"] is None:
        return scores
    from components.metrics.classification import bootstrap_interval

    name = found["monitor"][0]
    low, high = bootstrap_interval(found["outcomes"], LEVEL)
    return {**scores, f"{name}_low": low, f"{name}_high": high}


def training_speed(folder: Path, batch: int) -> dict[str, float]:
    """Seconds spent on steps, and examples a second, by a run's journal: whatever else was done between the steps, and
    however often the run was begun again."""
    lines = {r.payload["step"]: r.payload["speed"] for r in journal.read_records(folder / journal.LOG, "progress")}
    if not lines:
        return {}
    examples = batch * np.diff([0, *sorted(lines)])
    seconds = float(sum(count / lines[step] for count, step in zip(examples, sorted(lines), strict=True)))
    return {"train_seconds": seconds, "samples_per_second": float(examples.sum()) / seconds}


def draw_curves(folder: Path, path: Path) -> list[Path]:
    """The picture of the losses in a run's journal, in training and on the split it is watched on; none without a
    curve (counts have one value, a search for saddle points has no loss)."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for metrics in journal.read_metrics(folder):
        for name, value in metrics.values.items():
            group, _, metric = name.partition("/")
            if group in ("epoch", "validation") and metric.endswith("loss"):
                title = f"{metric.replace('_', ' ')}, {'training' if group == 'epoch' else group}"
                lines.setdefault(title, []).append((metrics.epoch, value))
    groups = {name: [tuple(np.array(points).T)] for name, points in lines.items()}
    if not any(len(points) > 1 for points in lines.values()):
        return []
    title = "Losses" if len(groups) > 1 else next(iter(groups)).capitalize()
    return [figures.save_figure(figures.draw_curves(groups, title), path)]
