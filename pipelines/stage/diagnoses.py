"""Diagnose runs and trials with `components.verdicts.diagnosis`, and put the verdicts on their pages in MLflow.

A system is compared with smaller ones that were trained on the same data on this machine: each run leaves evidence.json
in its folder. The verdict is therefore no output of a stage, whose outputs depend on its recipe alone.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from components.errors import Refusal, first_line
from components.files import read_object, write_json
from components.recipes import recipe
from components.runs import journal
from components.runs.description import RUN
from components.runs.journal import STAGE_LOG, Journal
from components.search.trials import Trial, describe_trial, trial_name
from components.tracking.mirror import mirror_unless_shared
from components.verdicts.diagnosis import Diagnosis, Evidence, Measurements, comparable_loss, diagnose, is_rate
from components.workspace import runs_folder
from pipelines.stage.context import MODEL_TAG, Stage
from pipelines.stage.lock import hold_lock

log = logging.getLogger(__name__)
EVIDENCE, VERDICT = "evidence.json", "verdict.json"
VERDICT_TAG, NOTE_TAG = "trainyard.diagnosis", "mlflow.note.content"
# Arguments that keep a model from fitting its training data, on purpose.
REGULARISERS = {"weight_decay", "dropout", "label_smoothing", "augment", "mix", "patience"}


def diagnose_fit(run: Stage, system: str, measurements: Measurements, shown: str = "") -> Diagnosis:
    """Diagnose the fit of a stage; tag its run with the verdict and print it.

    shown: the run's name in the report, where the system's name does not say enough.
    """
    verdict = write_verdict(run.folder, system, measurements, shown)
    label_run(run.journal, verdict)
    run.log_text(f"diagnosis: {verdict.verdict}: {'; '.join(verdict.reasons)}")
    for remedy in verdict.remedies:
        run.log_text(f"remedy: {remedy}")
    return verdict


def write_verdict(folder: Path, system: str, measurements: Measurements, shown: str = "") -> Diagnosis:
    """Diagnose the run in `folder` and write the verdict there, for the report."""
    verdict = _diagnose_run(folder, system, measurements)
    write_json(folder / VERDICT, {"run": shown or system, "verdict": verdict.verdict, "reasons": verdict.reasons})
    return verdict


def read_verdicts() -> list[dict[str, Any]]:
    """Return the newest verdict of each run on this machine, {run, verdict, reasons}, ordered by name."""
    files = [file for pattern in (VERDICT, f"fits/*/{VERDICT}") for file in runs_folder().glob(f"*/{pattern}")]
    newest: dict[str, dict[str, Any]] = {}
    for file in sorted(files, key=lambda file: (file.stat().st_mtime_ns, file)):
        for verdict in _read_records(file, "run", "verdict", "reasons"):
            newest[verdict["run"]] = verdict
    return [newest[run] for run in sorted(newest)]


def _diagnose_run(folder: Path, system: str, measurements: Measurements) -> Diagnosis:
    """Diagnose from the measurements and the curves of the run in `folder`, and write its evidence there."""
    monitor, objective = measurements.monitor, measurements.objective
    losses = {split: comparable_loss(scores, monitor, objective) for split, scores in measurements.scores.items()}
    train = losses.get("train")
    train_scores = measurements.scores.get("train", {})
    curves = read_curves(folder, objective if objective in train_scores else None)
    trivial = 1.0 if is_rate(train_scores, monitor, objective) else measurements.trivial
    trivial = trivial or next(iter(curves["train/loss"]), None)
    if train is None or trivial is None:
        return _undiagnosed(measurements.monitor)
    write_json(
        folder / EVIDENCE,
        {"system": system, "data": measurements.data, "parameters": measurements.parameters, "train": train},
    )
    return diagnose(
        Evidence(
            train,
            losses.get("validation"),
            losses.get("test"),
            trivial=trivial,
            trained=measurements.parameters > 0,
            training_curve=curves["epoch/loss"],
            validation_curve=curves[f"validation/{objective}"],
            gradient_norms=curves["train/gradient_norm"],
            smaller=_losses_of_smaller_systems(measurements),
        )
    )


def _losses_of_smaller_systems(measurements: Measurements) -> dict[str, float]:
    """Return {system: training loss} of the systems with fewer parameters that were trained on the same data here."""
    files = sorted(runs_folder().glob(f"*/{EVIDENCE}"))
    evidence = [record for file in files for record in _read_records(file, "system", "data", "parameters", "train")]
    return {
        other["system"]: other["train"]
        for other in evidence
        if other["data"] == measurements.data and 0 < other["parameters"] < measurements.parameters
    }


def _read_records(file: Path, *names: str) -> list[dict[str, Any]]:
    """Return a list of the record in `file`; an empty one, with a warning, if it is damaged or lacks one of `names`."""
    try:
        record = read_object(file)
    except (Refusal, ValueError) as error:
        log.warning("%s is damaged (%s): it is left out", file, first_line(error))
        return []
    if not record.keys() >= {*names}:
        log.warning("%s is damaged (it needs %s): it is left out", file, ", ".join(names))
        return []
    return [record]


def _undiagnosed(monitor: tuple[str, str]) -> Diagnosis:
    return Diagnosis("not diagnosed", (f"{monitor[0]} alone does not tell how well it fits",))


def label_run(lines: Journal, verdict: Diagnosis) -> None:
    """Write the verdict as the run's tag and description."""
    lines.write("tag", name=VERDICT_TAG, value=verdict.verdict)
    lines.write("tag", name=NOTE_TAG, value=str(verdict))


def label_fits(verdicts: dict[str, Diagnosis]) -> None:
    """Label the fits of `finetune` that ran on this machine; verdicts: {digest of the exported model: verdict}."""
    files: dict[str, Path] = {}
    for file in sorted(runs_folder().glob(f"finetune-*/*/{STAGE_LOG}"), key=lambda file: file.stat().st_mtime_ns):
        tags = [record.payload for record in journal.read_records(file, "tag")]
        files |= {tag["value"]: file for tag in tags if tag["name"] == MODEL_TAG and tag["value"] in verdicts}
    with mirror_unless_shared(*(file.parent for file in files.values())):
        for digest, file in files.items():
            with hold_lock(file.parent.parent.name):
                label_run(Journal(file), verdicts[digest])


def read_curves(folder: Path, objective: str | None) -> defaultdict[str, list[float]]:
    """Return the curves that a diagnosis needs, {metric: values in order}, from the journal of the run in `folder`.

    objective: the score that training minimises. If it is None, the losses in the journal have another unit than the
    losses of the diagnosis and are left out. So are the two losses of a GAN.
    """
    names = {"train/gradient_norm"}
    if objective is not None:
        names |= {"train/loss", "epoch/loss", f"validation/{objective}"}
    curves = defaultdict[str, list[float]](list)
    for metrics in journal.read_metrics(folder):
        for name in names & metrics.values.keys():
            curves[name].append(metrics.values[name])
    return curves


# ------------------------------------------------------------------------------------------------ a search


def diagnose_trials(trials: list[Trial], monitor: tuple[str, str], trivial: float | None) -> list[Diagnosis]:
    """Diagnose each trial from its scores on held-out examples and on training examples.

    trivial: the loss of the best constant prediction, if known. A trial is compared with trials of no more parameters
    that got a lower training loss, unless a regulariser differs: then the loss says nothing of the optimisation.
    """
    names = [f"trial {trial.number:02d}, {describe_trial(trial, values_only=True)}" for trial in trials]
    train_losses = [comparable_loss(_training_scores(trial), monitor) for trial in trials]
    return [_diagnose_trial(index, trials, names, train_losses, monitor, trivial) for index in range(len(trials))]


def _diagnose_trial(
    index: int,
    trials: list[Trial],
    names: list[str],
    train_losses: list[float | None],
    monitor: tuple[str, str],
    trivial: float | None,
) -> Diagnosis:
    trial, train = trials[index], train_losses[index]
    validation = comparable_loss(trial.scores, monitor)
    parameters = trial.scores.get("parameters", 0.0)
    if trial.diverged:
        return Diagnosis("optimisation", (trial.diverged,))
    trivial = 1.0 if is_rate(trial.scores, monitor) else trivial
    if train is None or validation is None or trivial is None:
        return _undiagnosed(monitor)
    smaller = {
        names[other]: loss
        for other, loss in enumerate(train_losses)
        if other != index and loss is not None and math.isfinite(loss)
        if trials[other].scores.get("parameters", 0.0) <= parameters
        if not REGULARISERS & _differing_keys(trials[other], trial)
    }
    return diagnose(Evidence(train, validation, trivial=trivial, smaller=smaller))


def _differing_keys(first: Trial, second: Trial) -> set[str]:
    """Return the last words of the keys whose values differ between two trials."""
    values, others = recipe.flatten(first.values), recipe.flatten(second.values)
    return {key.rpartition(".")[2] for key in values | others if values.get(key) != others.get(key)}


def _training_scores(trial: Trial) -> dict[str, float]:
    """Return the trial's scores on training examples, without their prefix."""
    prefix = "train_"
    return {name.removeprefix(prefix): value for name, value in trial.scores.items() if name.startswith(prefix)}


def label_trials(folder: Path, trials: list[Trial], verdicts: list[Diagnosis]) -> None:
    """Label the trials of the search in `folder` that were described as runs."""
    for trial, verdict in zip(trials, verdicts, strict=True):
        place = folder / trial.arm / trial_name(trial.number)
        if (place / RUN).is_file():
            label_run(Journal(place / STAGE_LOG), verdict)
