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
from components.search import ray_tune
from components.search.trials import Trial, best_trial, describe_trial
from components.storage.dataset import list_own_files
from components.workspace import work_folder
from pipelines.stage import diagnoses
from pipelines.stage.check import check_recipe
from pipelines.stage.context import Stage, stage
from pipelines.stage.outputs import write_history, write_table
from pipelines.stage.provenance import code_digest

RESULTS = Path("results")
RUNGS = {kind: f"pipelines.workers.rungs.{kind[:-1]}" for kind in ("folds", "seeds", "epochs")}
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
                section = recipe.overlay(section, search_values(run, given["tune"], section, data, seed, ready, out))
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
    run: Stage,
    tune: dict[str, Any],
    section: dict[str, Any],
    data: Path,
    seed: int,
    ready: dict[str, Any],
    out: Path,
) -> dict[str, Any]:
    """The best values {dotted key: value} of the search that the section `tune` describes; its table and picture."""
    by = next(kind for kind in RUNGS if kind in tune)
    if by != "folds" and "validation" not in ready["splits"]:
        raise Refusal(f"tune.{by}: the data have no validation split to score on; give the data one, or tune.folds")
    trial = {"section": section, "prepared": f"{data}/prepared", "augmented": f"{data}/augmented", "seed": seed}
    monitor, more = ready["monitor"], {"folds": {"count": tune[by]}, "epochs": {"epochs": tune[by]}}
    trials = ray_tune.search(
        RUNGS[by],
        {"trials": trial | more.get(by, {})},
        run.folder,
        rungs=tune[by],
        monitor=monitor,
        cumulative=by == "epochs",
        gpu=plan.plan_workers().gpu,
        on_trial=lambda trial, at: run.add_trial(f"trial {trial.number:02d}", at, trial.values, out.name, trial.rungs),
        **{"seed": seed} | tune["search"],
    )["trials"]
    verdicts = diagnoses.diagnose_trials(trials, monitor, ready["trivial"])
    diagnoses.label_trials(run.folder, trials, verdicts)
    rows = [trial_row(trial, by) | {"diagnosis": found.verdict} for trial, found in zip(trials, verdicts, strict=True)]
    write_table(out / "search.csv", rows)
    picture = figures.save_figure(draw_trials(trials, monitor[0], by), out / "pictures" / "search.png")
    run.log_artifact(picture, "pictures")
    winner = best_trial(trials, monitor)
    run.log_text(f"best of {len(trials)} trials: {describe_trial(winner, rungs=by)}")
    return winner.values


def trial_row(trial: Trial, by: str = "folds") -> dict[str, Any]:
    """A trial as a line of search.csv; its seconds are those of a rung, evaluation included."""
    spread = {
        f"{name}_std": float(np.std([part[name] for part in trial.parts], ddof=1))
        for name in trial.scores
        if len(trial.parts) > 1 and not trial.cumulative
    }
    return {
        "trial": trial.number,
        **recipe.flatten(trial.values),
        **trial.scores,
        **spread,
        by: len(trial.parts),
        "seconds": round(trial.seconds / max(1, len(trial.parts)), 3),
        "finished": trial.finished,
    }


def draw_trials(trials: list[Trial], score: str, by: str = "folds") -> Any:
    """The trials that finished: mean and standard deviation over the folds or seeds, these below; of epochs, all as
    curves."""
    if by == "epochs":
        tried = [([part[score] for part in trial.parts], trial.finished) for trial in trials if trial.parts]
        return search.draw_trials(tried, f"{score} after each epoch", score)
    rows = {}
    for trial in (t for t in trials if t.finished):
        points = tuple(part[score] for part in trial.parts)
        mean, std = float(np.mean(points)), float(np.std(points, ddof=1)) if len(points) > 1 else 0.0
        rows[f"trial {trial.number:02d}  {describe_trial(trial, values_only=True)}"] = figures.Interval(
            mean, mean - std, mean + std, points
        )
    title = f"{score} over the {by}, mean ± standard deviation"
    return figures.draw_intervals(rows, title, score, percent=score.endswith("accuracy"))


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
