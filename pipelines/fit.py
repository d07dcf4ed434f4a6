"""Run one recipe of a family: prepare its data, fit, export and score the model, in one call of the workers.

With a `tune` section a search runs first, and its best values replace the recipe's. It is scored on folds of the
training split, or on the validation split over seeds or over the epochs of a fit. Recipes with the same `data` section
share prepared data, as long as the user's own files keep their bytes.

results/<family>/<system>/metrics.json   scores on the split kept for the end, the monitored one with its interval
                          cost.json      parameters, operations per prediction, seconds of training, samples per second
                          history.csv    metrics against step and epoch
                          tables/        search.csv: values of each trial, and mean and standard deviation of its scores
                                         over folds or seeds, or the scores of its last epoch; trials.csv: curves
                          pictures/      curves, the search, examples of augmentation, what the task draws; of a grid
                                         also the score over a numeric value, and the gradient norms of its fits
                          model/         weights, and how to build the model again
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from components.cluster import plan
from components.drawings import figures
from components.errors import Refusal, pluralize, suggest_name
from components.files import bytes_digest, write_json
from components.recipes import allowed, recipe
from components.runs import journal
from components.search.objective import Objective
from components.search.trials import FIT, Trial, describe_trial
from components.storage.dataset import list_own_files
from components.storage.section import build_dataset
from components.storage.store import Store
from components.training.options import batch_size
from components.verdicts.caveats import constant_answer, describe_data, describe_perfect_score, describe_worthless
from components.workspace import work_folder
from pipelines.reports.search_pictures import (
    draw_gradient_norms,
    draw_sweep,
    draw_trials,
    read_gradient_norms,
)
from pipelines.stage import diagnoses, trial_curves
from pipelines.stage.check import check_recipe, check_rungs, check_unwatched
from pipelines.stage.context import Stage, stage
from pipelines.stage.outputs import write_history, write_table
from pipelines.stage.provenance import code_digest
from pipelines.stage.search import ArmResult, run_search
from pipelines.stage.starting_points import read_starting_points
from pipelines.workers.records import DataFacts, FitJob, FitResult, TrialSetup

RESULTS = Path("results")
SEARCH_FILE, CURVES_FILE = "tables/search.csv", "tables/trials.csv"
RUNG_FUNCTIONS = {  # what the rungs of a trial are: the function that scores one
    "folds": "pipelines.workers.rungs.score_fold",
    "seeds": "pipelines.workers.rungs.score_seed",
    "epochs": "pipelines.workers.rungs.score_epoch",
}
LEVEL = 0.95  # confidence level of the intervals


def main(path: str) -> None:
    """Run the recipe at `path`: prepare its data, search if it says so, fit, score and record the results."""
    content = recipe.load(path)
    check_recipe(content, path)
    if "tune" in content:
        content["tune"]["search"] = read_starting_points(content["tune"]["search"])
    family, system = Path(path).parent.name, Path(path).stem
    out, seed = RESULTS / family / system, content.get("seed", 0)
    data, own_files = locate_prepared(content["data"])
    (out / SEARCH_FILE).parent.mkdir(parents=True, exist_ok=True)  # DVC expects it of fits without a search, too
    inputs, lock = [*referenced_paths(content["task"]), *own_files], Path(path).with_name("dvc.lock")
    with stage("fit", {"name": family, **content}, content, inputs, title=system, lock=lock) as run:
        section = {"task": content["task"], "fit": content["fit"]}
        try:
            if "tune" in content:
                arguments = (content["data"], str(data), content["task"])
                facts = run.spread("pipelines.workers.training.prepare_data", *arguments)
                setup = TrialSetup(
                    section,
                    f"{data}/prepared",
                    f"{data}/augmented",
                    seed,
                    curves=str((run.folder / "curves").resolve()),
                )
                section = recipe.overlay(section, search_values(run, content["tune"], setup, facts, out))
            job = FitJob(section, run=str(run.folder), out=str(out / "model"), seed=seed)
            fit = recipe.fill_defaults("training.engine.fit", section["fit"])
            arguments = (content["data"], str(data), job)
            result = run.spread("pipelines.workers.training.fit_and_score", *arguments, parts=fit["shards"])
        finally:
            run.log_input(data / "prepared")  # also when the fit fails
        batch = batch_size(fit["batch"], result.examples)
        _record_result(run, family, system, out, result, batch)
        _log_caveats(run, result, data / "prepared")


def _record_result(run: Stage, family: str, system: str, out: Path, result: FitResult, batch: int) -> None:
    """Write the files of results/, and record scores, tags, pictures, model and diagnosis with the run."""
    metrics = summarise_scores(result)
    write_history(out / "history.csv", {system: run.folder})
    write_json(out / "metrics.json", metrics)
    cost = result.cost | training_speed(run.folder, batch)
    write_json(out / "cost.json", cost)
    run.journal.write("metric", step=0, values={f"test/{name}": value for name, value in metrics.items()})
    run.journal.write("metric", step=0, values={f"cost/{name}": value for name, value in cost.items()})
    tags = {"data.digest": result.measurements.data, "hardware": result.hardware, **result.tags}
    for name, value in tags.items():
        run.journal.write("tag", name=name, value=value)
    files = draw_curves(run.folder, out / "pictures" / "curves.png", result.measurements.objective) + [
        Path(file) for file in result.pictures
    ]
    for file in files:
        run.log_artifact(file, "pictures")
    example = result.example
    if example is not None:
        name, folder = f"{family}-{system}", out / "model"
        run.log_model(name, folder, example.inputs, example.outputs, requires=result.requires, free=example.free)
    diagnoses.diagnose_fit(run, system, result.measurements, f"{family}/{system}")
    scores = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    run.log_text(f"{result.split} {scores}")
    for name, value in result.tags.items():
        run.log_text(f"{name}: {value}")


def _log_caveats(run: Stage, result: FitResult, prepared: Path) -> None:
    """Log the splits' sizes, the score of a constant answer, and what makes the result uncertain."""
    manifest = Store(prepared).manifest
    sizes = ", ".join(f"{entry['rows']:,} {split}" for split, entry in manifest["splits"].items())
    run.log_text(f"examples: {sizes}")
    name = result.measurements.monitor[0]
    constant = constant_answer(manifest, result.split)
    if constant is not None and "accuracy" in result.scores:
        run.log_text(f"constant answer '{constant[0]}': {result.split} accuracy {constant[1]:.4f}")
    worthless = describe_worthless(result.scores, None if constant is None else constant[1])
    if worthless is not None:
        run.log_text(worthless)
    if result.outcomes is not None and name in result.scores:
        perfect = describe_perfect_score(result.scores[name], len(result.outcomes))
        if perfect is not None:
            run.log_text(f"{name} {perfect}")
    for sentence in describe_data(manifest):
        run.log_text(sentence)


def locate_prepared(data: dict[str, Any]) -> tuple[Path, list[str]]:
    """Return the folder for the prepared data of the section `data`, and the user's own files and code in it.

    The folder's name is a digest of the section, of the bytes of these files, and of the code. Refuse missing files.
    """
    paths = [*list_own_files(build_dataset(data)), *allowed.foreign_sources(data)]
    for path in paths:
        if not path.exists():
            raise Refusal(f"data: {path} does not exist; put the data there, or name another place")
    own_files = {str(path): bytes_digest(path) for path in paths}
    key = recipe.digest([data, own_files, code_digest()])[:16]
    return work_folder() / "prepared" / key, list(own_files)


def referenced_paths(task: dict[str, Any]) -> list[str]:
    """Return the files and folders that a section `task` names, such as another recipe's model."""
    return [text for text in recipe.possible_paths(task) if Path(text).exists()]


def search_values(run: Stage, tune: dict[str, Any], setup: TrialSetup, facts: DataFacts, out: Path) -> dict[str, Any]:
    """Run the search of the section `tune`, write its tables and pictures to `out`, and return the best values.

    facts: what `prepare_data` returned of the prepared data.
    """
    kind = rung_kind(tune)
    count = tune[kind]
    if "validation" not in facts.splits:
        check_rungs(tune, "")
        if facts.splits != ("train",):  # otherwise the training split is watched
            check_unwatched(setup.section["fit"], tune["search"]["space"], "")
    objective = Objective(
        RUNG_FUNCTIONS[kind],
        {"trials": {"setup": setup, **rung_arguments(kind, count)}},
        rungs=count,
        monitor=facts.monitor,
        cumulative=kind == "epochs",
        gpu=plan.plan_workers().gpu,
    )

    norms: dict[str, figures.Curve] = {}

    def report_trial(trial: Trial, folder: Path) -> None:
        if trial.finished:
            check_shown(tune, trial_row(trial, kind))
        curve = read_gradient_norms(folder / FIT)
        if curve is not None:
            norms[describe_trial(trial, values_only=True)] = curve
        run.add_trial(f"trial {trial.number:02d}", folder, trial, out.name)
        if trial.lost:
            run.log_text(f"trial {trial.number}: {describe_trial(trial, rungs=kind)}")

    options = {"seed": setup.seed} | tune["search"]
    result = run_search(run, objective, options, facts.trivial, report_trial)["trials"]
    curves = write_search(kind, result, Path(setup.curves), out)
    score = tune.get("show", objective.monitor[0])
    drawings = {
        "search": draw_trials(result.trials, score, kind),
        "trials": trial_curves.draw_trial_curves(curves, result.trials),
    }
    if tune["search"].get("sampler") == "grid":
        drawings["sweep"] = draw_sweep(result.trials, tune["search"]["space"], score)
        drawings["gradient-norms"] = draw_gradient_norms(norms)
    for name, drawing in drawings.items():
        if drawing is not None:
            run.log_artifact(figures.save_figure(drawing, out / "pictures" / f"{name}.png"), "pictures")
    trials = pluralize(len(result.trials), "trial")
    run.log_text(f"best of {trials}: {describe_trial(result.best, rungs=kind)}")
    return result.best.values


def write_search(kind: str, result: ArmResult, own_curves: Path, out: Path) -> list[dict[str, Any]]:
    """Write the tables of a search's trials and of their curves to `out`, and return the lines of the latter.

    own_curves: the folder for the curves of this search; others come from searches whose trials it has taken over.
    """
    diagnosed = zip(result.trials, result.diagnoses, strict=True)
    rows = [trial_row(trial, kind) | {"diagnosis": diagnosis.verdict} for trial, diagnosis in diagnosed]
    write_table(out / SEARCH_FILE, rows)
    folders = [own_curves, *(earlier / "curves" for earlier in result.earlier)]
    curves = trial_curves.read_curves(folders, result.trials)
    write_table(out / CURVES_FILE, curves)
    return curves


def rung_kind(tune: dict[str, Any]) -> str:
    """Return what the rungs of a checked section `tune` are: folds, seeds or epochs."""
    return next(kind for kind in RUNG_FUNCTIONS if kind in tune)


def rung_arguments(kind: str, count: int) -> dict[str, int]:
    """Return the arguments of a function of RUNG_FUNCTIONS that do not depend on the trial, apart from the setup."""
    arguments: dict[str, dict[str, int]] = {"folds": {"count": count}, "seeds": {}, "epochs": {"epochs": count}}
    return arguments[kind]


def check_shown(tune: dict[str, Any], row: dict[str, Any], where: str = "") -> None:
    """Refuse a section `tune` whose `show` or `columns` name none of the scores in a trial's line of search.csv.

    where: begins the message.
    """
    names = {"show": [tune["show"]] if "show" in tune else [], "columns": tune.get("columns", [])}
    for key, chosen in names.items():
        for name in chosen:
            if name not in row:
                names_there = f"{suggest_name(name, row)}; they have {', '.join(row)}"
                raise Refusal(f"{where}tune.{key}: the trials have no '{name}'{names_there}")


def trial_row(trial: Trial, kind: str = "folds") -> dict[str, Any]:
    """Return a trial's line in search.csv; `seconds` are per rung, evaluation included. kind: what a rung is."""
    values = {name: [part[name] for part in trial.parts if name in part] for name in trial.scores}
    deviations = {
        f"{name}_std": float(np.std(numbers, ddof=1))
        for name, numbers in values.items()
        if len(numbers) > 1 and not trial.cumulative
    }
    return {
        "trial": trial.number,
        **recipe.flatten(trial.values),
        **trial.scores,
        **deviations,
        kind: len(trial.parts),
        "seconds": round(trial.seconds / max(1, len(trial.parts)), 3),
        "finished": trial.finished,
        **({"reason": trial.reason} if trial.reason else {}),
    }


def summarise_scores(result: FitResult) -> dict[str, float]:
    """Return the scores; add the interval of the monitored one over the examples, where it is a mean of them."""
    if result.outcomes is None:
        return result.scores
    from components.metrics.classification import bootstrap_interval

    name = result.measurements.monitor[0]
    low, high = bootstrap_interval(result.outcomes, LEVEL)
    return {**result.scores, f"{name}_low": low, f"{name}_high": high}


def training_speed(folder: Path, batch: int) -> dict[str, float]:
    """Return the seconds spent on steps, and the examples per second, of the run in `folder`.

    They come from its journal: what is done between steps does not count, nor do steps that were run again.
    """
    payloads = [record.payload for record in journal.read_records(folder / journal.LOG, "progress")]
    speeds = {payload["step"]: payload["speed"] for payload in payloads}
    if not speeds:
        return {}
    steps = sorted(speeds)
    examples = batch * np.diff([0, *steps])
    seconds = float(sum(count / speeds[step] for count, step in zip(examples, steps, strict=True)))
    return {"train_seconds": seconds, "samples_per_second": float(examples.sum()) / seconds}


def draw_curves(folder: Path, path: Path, objective: str | None = "loss") -> list[Path]:
    """Draw the losses in a run's journal, on training and on the watched split, into `path`; return [path].

    Losses of different kinds have different axes; `objective` is the score that measures what training minimises.
    Return [] where no loss has two values: counting has one epoch, a search for saddle points has no loss.
    """
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for metrics in journal.read_metrics(folder):
        for name, value in metrics.values.items():
            group, _, metric = name.partition("/")
            if group == "epoch" and metric == "loss":
                quantity = objective or "what training minimises"
            elif group in ("epoch", "validation") and (metric.endswith("loss") or metric == objective):
                quantity = metric
            else:
                continue
            series = "training" if group == "epoch" else group
            panels.setdefault(quantity.replace("_", " "), {}).setdefault(series, []).append((metrics.epoch, value))
    if not any(len(curve) > 1 for curves in panels.values() for curve in curves.values()):
        return []
    groups = {
        quantity: {name: (np.array(curve)[:, 0], np.array(curve)[:, 1]) for name, curve in curves.items()}
        for quantity, curves in panels.items()
    }
    return [figures.save_figure(figures.draw_panels(groups, "Losses" if len(groups) > 1 else "Loss"), path)]
