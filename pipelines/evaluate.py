"""Score both arms on the test split, which no other stage opens; write the report and register the served model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from components.drawings import figures
from components.files import bytes_digest, write_json
from components.metrics import comparison
from components.storage.store import Split, Store
from components.verdicts.caveats import describe_data, describe_perfect_score, describe_worthless
from pipelines import flagship
from pipelines.flagship import ARMS, TARGET_PREPARED
from pipelines.reports import report
from pipelines.stage import diagnoses
from pipelines.stage.context import Stage, stage
from pipelines.stage.outputs import write_table
from pipelines.workers.records import ScoredModel


def main(params: dict[str, Any]) -> None:
    """Run the stage: compare the arms, then show and register the served model."""
    settings = params["evaluate"]
    folders = {arm: flagship.list_models(arm) for arm in ARMS}
    models = [folder for arm in ARMS for folder in folders[arm]]
    tracked = {"evaluate": settings, "seed": params["seed"]}
    with stage("evaluate", params, tracked, [TARGET_PREPARED, *map(flagship.models_folder, ARMS)]) as run:
        store = Store(TARGET_PREPARED)
        split, classes = store.split("test"), store.manifest["classes"]
        truth = split.array("label")
        arguments = ([str(folder) for folder in models], TARGET_PREPARED, "test")
        results = run.spread("pipelines.workers.scoring.score_models", *arguments, parts=len(models))
        scored: dict[Path, ScoredModel] = dict(zip(models, results, strict=True))
        by_arm = {arm: [scored[folder] for folder in folders[arm]] for arm in ARMS}
        losses = {arm: [model.scores["loss"] for model in models] for arm, models in by_arm.items()}
        correct = {
            arm: np.stack([model.predictions["label"] == truth for model in models]) for arm, models in by_arm.items()
        }
        metrics = compare_arms(losses, correct, settings["level"], settings["draws"])
        metrics["constant_accuracy"] = comparison.constant_accuracy(store.split("train").array("label"), truth)
        write_json(flagship.METRICS_FILE, metrics)
        served = flagship.served_model()
        predictions = scored[served].predictions
        write_confusion(predictions, truth, classes)
        draw_mistakes(split, predictions, truth, classes, settings["mistakes"])
        run.log_text(f"accuracy {metrics['accuracy']:.4f} fine-tuned, {metrics['scratch_accuracy']:.4f} from scratch")
        _log_caveats(run, metrics, store.manifest)
        _diagnose_models(run, folders, scored)
        for lines in (run.pipeline, run.journal):
            lines.write("metric", step=0, values={k: v for k, v in metrics.items() if not isinstance(v, list)})
        inputs = {name: values for name, values in split.take(np.arange(2)).items() if name != "label"}
        run.log_model(run.params["name"], served, inputs, predictions)
        for path in [*report.write_report(), Path(flagship.MISTAKES_FILE)]:
            run.log_artifact(path)


def _log_caveats(run: Stage, metrics: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Log the score of a constant answer, and what makes the result uncertain."""
    run.log_text(f"accuracy {metrics['constant_accuracy']:.4f} of a constant answer")
    worthless = describe_worthless({"accuracy": metrics["accuracy"]}, metrics["constant_accuracy"])
    if worthless is not None:
        run.log_text(worthless)
    perfect = describe_perfect_score(metrics["accuracy"], metrics["examples"])
    for sentence in [*([f"accuracy {perfect}"] if perfect else []), *describe_data(manifest)]:
        run.log_text(sentence)


def compare_arms(
    losses: dict[str, list[float]], correct: dict[str, np.ndarray], level: float, draws: int
) -> dict[str, Any]:
    """Return the metrics of both arms and the gain of fine-tuning, with bootstrap intervals at `level`.

    losses: {arm: one loss per seed}. correct: {arm: bool [seeds, N]}. draws: bootstrap samples.
    """
    metrics: dict[str, Any] = {"seeds": len(correct["finetuned"]), "examples": correct["finetuned"].shape[1]}
    for arm, prefix in (("finetuned", ""), ("scratch", "scratch_")):
        summary = comparison.accuracy_summary(correct[arm], level, draws)
        metrics[f"{prefix}accuracy"] = summary["accuracy"]
        metrics |= {f"{prefix}accuracy_{name}": summary[name] for name in ("low", "high", "std")}
        metrics[f"{prefix}accuracy_by_seed"] = correct[arm].mean(1).tolist()
        metrics[f"{prefix}loss"] = float(np.mean(losses[arm]))
    return metrics | comparison.gain(correct["finetuned"], correct["scratch"], level, draws)


def write_confusion(predictions: dict[str, np.ndarray], truth: np.ndarray, classes: list[str]) -> None:
    """Write the names of true and predicted class, one row per example."""
    pairs = zip(truth, predictions["label"], strict=True)
    write_table(
        flagship.CONFUSION_FILE,
        [{"truth": classes[true], "predicted": classes[predicted]} for true, predicted in pairs],
    )


def draw_mistakes(
    split: Split, predictions: dict[str, np.ndarray], truth: np.ndarray, classes: list[str], count: int
) -> None:
    """Draw the `count` wrong answers with the greatest probability, as pictures."""
    labels, confidence = predictions["label"], predictions["probability"].max(1)
    wrong = np.flatnonzero(labels != truth)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    captions = [f"{classes[truth[row]]} → {classes[labels[row]]}  p={confidence[row]:.2f}" for row in worst]
    figures.save_figure(figures.draw_grid(split.take(worst)["image"], captions), flagship.MISTAKES_FILE)


def _diagnose_models(run: Stage, folders: dict[str, list[Path]], scored: dict[Path, ScoredModel]) -> None:
    """Diagnose every model, and label the run of the fit that exported it."""
    verdicts = {}
    for arm, models in folders.items():
        for folder in models:
            place = run.folder / "fits" / f"{arm}-{folder.name}"
            verdict = diagnoses.write_verdict(place, f"{arm} {folder.name}", scored[folder].measurements)
            verdicts[bytes_digest(folder)] = verdict
    diagnoses.label_fits(verdicts)
