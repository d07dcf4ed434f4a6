"""evaluate: both arms on the test split, opened here and nowhere else; the report; the registered model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from components.drawings import figures
from components.files import path_digest, write_json
from components.metrics import comparison
from components.storage.store import Split, Store
from pipelines import flagship
from pipelines.flagship import ARMS, TARGET_PREPARED
from pipelines.reports import report
from pipelines.stage import diagnoses
from pipelines.stage.context import stage
from pipelines.stage.outputs import write_table


def main(params: dict[str, Any]) -> None:
    settings = params["evaluate"]
    folders = {arm: flagship.list_models(arm) for arm in ARMS}
    tracked = {"evaluate": settings, "seed": params["seed"]}
    with stage("evaluate", params, tracked, [TARGET_PREPARED, *map(flagship.models_folder, ARMS)]) as run:
        split, classes = Store(TARGET_PREPARED).split("test"), Store(TARGET_PREPARED).manifest["classes"]
        truth = split.array("label")
        models = [str(folder) for arm in ARMS for folder in folders[arm]]
        scored = run.spread(
            "pipelines.workers.training.score_models", models, TARGET_PREPARED, "test", parts=len(models)
        )
        arms = {arm: [scored.pop(0) for _ in folders[arm]] for arm in ARMS}
        losses = {arm: [scores["loss"] for scores, *_ in found] for arm, found in arms.items()}
        correct = {arm: np.stack([said["label"] == truth for _, said, _ in found]) for arm, found in arms.items()}
        metrics = compare_arms(losses, correct, settings["level"], settings["draws"])
        write_json(flagship.METRICS_FILE, metrics)
        served = flagship.served_model()
        _, chosen, _ = arms["finetuned"][folders["finetuned"].index(served)]
        names = np.array(classes)
        columns = {"truth": names[truth], "predicted": names[chosen["label"]]}
        pairs = zip(*columns.values(), strict=True)
        write_table(flagship.CONFUSION_FILE, [dict(zip(columns, pair, strict=True)) for pair in pairs])
        draw_mistakes(split, chosen, truth, classes, settings["mistakes"])
        run.log_text(f"accuracy {metrics['accuracy']:.4f} fine-tuned, {metrics['scratch_accuracy']:.4f} from scratch")
        verdicts = {}
        for arm, found in arms.items():
            for folder, (_, _, seen) in zip(folders[arm], found, strict=True):
                place = run.folder / "fits" / f"{arm}-{folder.name}"
                verdicts[path_digest(folder)] = diagnoses.write_verdict(place, f"{arm} {folder.name}", seen)
        diagnoses.label_fits(verdicts)
        for lines in (run.pipeline, run.journal):
            lines.write("metric", step=0, values={k: v for k, v in metrics.items() if not isinstance(v, list)})
        inputs = {name: values for name, values in split.take(np.arange(2)).items() if name != "label"}
        run.log_model(run.params["name"], served, inputs, chosen)
        for path in [*report.write_report(), Path(flagship.MISTAKES_FILE)]:
            run.log_artifact(path)


def compare_arms(
    losses: dict[str, list[float]], correct: dict[str, np.ndarray], level: float, draws: int
) -> dict[str, Any]:
    """losses: one a seed; correct: [seeds, N] of bool, each by arm -> what metrics/evaluate.json holds."""
    metrics: dict[str, Any] = {"seeds": len(correct["finetuned"]), "examples": correct["finetuned"].shape[1]}
    for arm, prefix in (("finetuned", ""), ("scratch", "scratch_")):
        found = comparison.accuracy_summary(correct[arm], level, draws)
        metrics[f"{prefix}accuracy"] = found["accuracy"]
        metrics |= {f"{prefix}accuracy_{name}": found[name] for name in ("low", "high", "std")}
        metrics[f"{prefix}accuracy_by_seed"] = correct[arm].mean(1).tolist()
        metrics[f"{prefix}loss"] = float(np.mean(losses[arm]))
    return metrics | comparison.gain(correct["finetuned"], correct["scratch"], level, draws)


def draw_mistakes(
    split: Split, chosen: dict[str, np.ndarray], truth: np.ndarray, classes: list[str], count: int
) -> None:
    """Draws the most confident wrong answers."""
    wrong = np.flatnonzero(chosen["label"] != truth)
    worst = wrong[np.argsort(-chosen["probability"][wrong].max(1), kind="stable")][:count]
    captions = [
        f"{classes[truth[row]]} → {classes[chosen['label'][row]]}  p={chosen['probability'][row].max():.2f}"
        for row in worst
    ]
    figures.save_figure(figures.draw_grid(split.take(worst)["image"], captions), flagship.MISTAKES_FILE)
