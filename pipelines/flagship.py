"""Name the flagship's data sets, arms, models and result files, and read the stages' sections of its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROLES = {"source": "pretrain", "target": "finetune"}  # role of a data set: the stage that trains on it
PREPARED = "data/prepared"
AUGMENTED = "data/augmented"
SOURCE_PREPARED = f"{PREPARED}/source"
SOURCE_AUGMENTED = f"{AUGMENTED}/source"
TARGET_PREPARED = f"{PREPARED}/target"
TARGET_AUGMENTED = f"{AUGMENTED}/target"

ARMS = ("finetuned", "scratch")
ARM_NAMES = {"finetuned": "fine-tuned", "scratch": "from scratch"}
PRETRAINED = "models/pretrain"

BEST_FILE = "tune/best.json"
TRIALS_FILE = "plots/tune.csv"
PRETRAIN_METRICS_FILE = "metrics/pretrain.json"
PRETRAIN_CURVES_FILE = "plots/pretrain.csv"
FINETUNE_CURVES_FILE = "plots/finetune.csv"
METRICS_FILE = "metrics/evaluate.json"
CONFUSION_FILE = "plots/confusion.csv"
MISTAKES_FILE = "plots/mistakes.svg"


def prepared_folder(role: str) -> str:
    """Return the folder of the prepared `source` or `target`."""
    return f"{PREPARED}/{role}"


def preview_file(role: str) -> str:
    """Return the picture that shows examples of the `source` or `target` as training sees them."""
    return f"{AUGMENTED}/{role}/preview.png"


def models_folder(arm: str) -> str:
    """Return the folder that holds the models of an arm, one per seed."""
    return f"models/{arm}"


def model_folder(arm: str, seed: int) -> str:
    """Return the folder of the model of an arm and a seed."""
    return f"{models_folder(arm)}/{seed}"


def list_models(arm: str, root: Path = Path()) -> list[Path]:
    """Return the folders of an arm's models below `root`, ordered by seed; empty before any was trained."""
    folder = root / models_folder(arm)
    if not folder.is_dir():
        return []
    return sorted(folder.iterdir(), key=lambda path: int(path.name))


def served_model(root: Path = Path()) -> Path:
    """Return the fine-tuned model that is registered and served: the first seed's.

    This choice needs no look at the test split. There must be a model.
    """
    return list_models("finetuned", root)[0]


def pretrain_section(params: dict[str, Any]) -> dict[str, Any]:
    """Return {task, fit} of pretraining, with the pipeline's model."""
    section = params["pretrain"]
    return {"task": section["task"] | {"model": params["model"]}, "fit": section["fit"]}


def arm_section(params: dict[str, Any], arm: str) -> dict[str, Any]:
    """Return {task, fit} of one arm of fine-tuning, with the pipeline's model.

    The arms differ only in where they start, and from scratch the body learns at the full rate.
    """
    section = params["finetune"]
    task = section["task"] | {"model": params["model"]}
    if arm == "finetuned":
        task |= {"start": PRETRAINED}
    else:
        task |= {"body_rate": 1.0}
    return {"task": task, "fit": section["fit"]}
