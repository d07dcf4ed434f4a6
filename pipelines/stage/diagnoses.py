"""What the diagnosis says of a run or of a search's trials, on the run's page: its tag and its description.

A system is compared with the smaller ones that were trained on the same data before, as far as this machine knows: each
run leaves evidence.json in its folder. So the verdict is no output of a stage, which must depend on its recipe alone.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from components.files import write_json
from components.recipes import recipe
from components.runs import journal
from components.runs.journal import STAGE_LOG, Journal
from components.search.trials import Trial, describe_trial, trial_name
from components.tracking.mirror import mirror_unless_shared
from components.verdicts.diagnosis import Diagnosis, Evidence, comparable_loss, diagnose
from components.workspace import runs_folder
from pipelines.stage.context import MODEL_TAG, Stage

EVIDENCE, VERDICT = "evidence.json", "verdict.json"
REGULARISERS = {"weight_decay", "dropout", "label_smoothing", "augment", "mix", "patience"}
TAG, NOTE = "trainyard.diagnosis", "mlflow.note.content"


def diagnose_fit(run: Stage, system: str, found: dict[str, Any], shown: str = "") -> Diagnosis:
    """Of a fit, from what `training.from_data_to_scores` found and the run's journal; tagged and told.

    shown: its name in the report, where the system's does not say enough.
    """
    verdict = write_verdict(run.folder, system, found, shown)
    label_run(run.journal, verdict)
    run.log_text(f"diagnosis: {verdict.verdict}: {'; '.join(verdict.reasons)}")
    for remedy in verdict.remedies:
        run.log_text(f"remedy: {remedy}")
    return verdict


def write_verdict(folder: Path, system: str, found: dict[str, Any], shown: str = "") -> Diagnosis:
    """The verdict, which lies in `folder` for the report."""
    verdict = _judged(folder, system, found)
    write_json(folder / VERDICT, {"run": shown or system, "verdict": verdict.verdict, "reasons": verdict.reasons})
    return verdict


def read_verdicts() -> list[dict[str, Any]]:
    """The newest of each run that this machine knows: {run, verdict, reasons}, by name."""
    files = [file for pattern in (VERDICT, f"fits/*/{VERDICT}") for file in runs_folder().glob(f"*/{pattern}")]
    newest: dict[str, dict[str, Any]] = {}
    for file in sorted(files, key=lambda file: (file.stat().st_mtime_ns, file)):
        found = json.loads(file.read_text())
        newest[found["run"]] = found
    return [newest[run] for run in sorted(newest)]


def _judged(folder: Path, system: str, found: dict[str, Any]) -> Diagnosis:
    measured = {name: comparable_loss(scores, found["monitor"]) for name, scores in found["seen"].items()}
    seen = read_curves(folder)
    trivial = found["trivial"] if "loss" in found["seen"].get("train", {}) else 1.0
    trivial = trivial or next(iter(seen["train/loss"]), None)
    if measured.get("train") is None or trivial is None:
        return Diagnosis("not diagnosed", (f"{found['monitor'][0]} alone does not tell how well it fits",))
    facts = {"system": system, "data": found["digest"], "parameters": found["parameters"], "train": measured["train"]}
    write_json(folder / EVIDENCE, facts)
    known = [json.loads(file.read_text()) for file in sorted(runs_folder().glob(f"*/{EVIDENCE}"))]
    smaller = {
        other["system"]: other["train"]
        for other in known
        if other["data"] == facts["data"] and 0 < other["parameters"] < facts["parameters"]
    }
    return diagnose(
        Evidence(
            **measured,  # type: ignore[arg-type]
            trivial=trivial,
            training_curve=seen["epoch/loss"],
            validation_curve=seen["validation/loss"],
            gradient_norms=seen["train/gradient_norm"],
            smaller=smaller,
        )
    )


def label_run(lines: Journal, verdict: Diagnosis) -> None:
    """A run's tag and its description."""
    lines.write("tag", name=TAG, value=verdict.verdict)
    lines.write("tag", name=NOTE, value=str(verdict))


def label_fits(verdicts: dict[str, Diagnosis]) -> None:
    """The pages of the fits of an earlier stage that exported the models with these digests, if they ran here."""
    pages: dict[str, Path] = {}
    for log in sorted(runs_folder().glob(f"finetune-*/*/{STAGE_LOG}"), key=lambda log: log.stat().st_mtime_ns):
        tags = [record.payload for record in journal.read_records(log, "tag")]
        pages |= {tag["value"]: log for tag in tags if tag["name"] == MODEL_TAG and tag["value"] in verdicts}
    with mirror_unless_shared(*(log.parent for log in pages.values())):
        for digest, log in pages.items():
            label_run(Journal(log), verdicts[digest])


def read_curves(folder: Path) -> dict[str, list[float]]:
    """What the diagnosis reads of a run's journal, in order; a GAN's two losses are no such curve."""
    found: dict[str, list[float]] = {
        name: [] for name in ("train/loss", "epoch/loss", "validation/loss", "train/gradient_norm")
    }
    for metrics in journal.read_metrics(folder):
        for name, value in metrics.values.items():
            if name in found:
                found[name].append(value)
    return found


# ------------------------------------------------------------------------------------------------ a search


def diagnose_trials(trials: list[Trial], monitor: tuple[str, str], trivial: float | None) -> list[Diagnosis]:
    """Of each trial, its scores on the fold held out and on examples it learned from.

    A trial that another one with no more parameters beats on its training data is no matter of the model, unless they
    differ in what holds a model back on purpose.
    """
    names = [
        f"trial {trial.number:02d}, {describe_trial(trial, values_only=True)}" for trial in trials
    ]  # may print alike
    learned = [comparable_loss(_learned(trial), monitor) for trial in trials]
    return [_one(at, trials, names, learned, monitor, trivial) for at in range(len(trials))]


def _one(
    at: int,
    trials: list[Trial],
    names: list[str],
    learned: list[float | None],
    monitor: tuple[str, str],
    trivial: float | None,
) -> Diagnosis:
    trial, train = trials[at], learned[at]
    validation, own = comparable_loss(trial.scores, monitor), trial.scores.get("parameters", 0.0)
    if trial.diverged:
        return Diagnosis("optimisation", (trial.diverged,))
    trivial = trivial if "loss" in trial.scores else 1.0
    if train is None or validation is None or trivial is None:
        return Diagnosis("not diagnosed", (f"{monitor[0]} alone does not tell how well it fits",))
    smaller = {
        names[i]: lower
        for i, lower in enumerate(learned)
        if lower is not None and math.isfinite(lower) and i != at and trials[i].scores.get("parameters", 0.0) <= own
        if not REGULARISERS & _differing(trials[i], trial)
    }
    return diagnose(Evidence(train, validation, trivial=trivial, smaller=smaller))


def _differing(one: Trial, other: Trial) -> set[str]:
    """The last words of the keys whose values two trials do not share."""
    ours, theirs = recipe.flatten(one.values), recipe.flatten(other.values)
    return {key.rpartition(".")[2] for key in ours | theirs if ours.get(key) != theirs.get(key)}


def _learned(trial: Trial) -> dict[str, float]:
    return {n.removeprefix("train_"): value for n, value in trial.scores.items() if n.startswith("train_")}


def label_trials(folder: Path, trials: list[Trial], verdicts: list[Diagnosis]) -> None:
    """The pages of the trials, whose folders lie below `folder`."""
    for trial, verdict in zip(trials, verdicts, strict=True):
        at = folder / trial.arm / trial_name(trial.number)
        if (at / journal.RUN).is_file():
            label_run(Journal(at / STAGE_LOG), verdict)
