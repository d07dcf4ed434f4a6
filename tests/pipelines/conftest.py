"""Provide a folder with small versions of all files that the stages write, with numbers that are easy to recognise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.drawings import figures
from components.files import write_json
from pipelines.stage.outputs import write_table

ROOT = Path(__file__).parent.parent.parent
TRIALS = [  # arm, learning rate, batch, accuracy, folds
    ("finetuned", 0.0123, 8, 0.91, 4),
    ("finetuned", 0.0822, 16, 0.95, 4),
    ("finetuned", 0.45, 16, 0.97, 1),
    ("scratch", 0.1, 32, 0.85, 4),
    ("scratch", 0.02, 8, 0.4, 1),
]


def metrics() -> dict[str, Any]:
    """Return the content of metrics/evaluate.json."""
    return {
        **{"accuracy": 0.9514, "accuracy_low": 0.9433, "accuracy_high": 0.9588, "accuracy_std": 0.0029},
        **{"scratch_accuracy": 0.8832, "scratch_accuracy_low": 0.8705, "scratch_accuracy_high": 0.8955},
        **{"scratch_accuracy_std": 0.0084, "gain": 0.0682, "gain_low": 0.0561, "gain_high": 0.0802},
        **{"seeds": 2, "seeds_won": 2, "loss": 0.171, "scratch_loss": 0.412, "constant_accuracy": 0.1018},
        **{"accuracy_by_seed": [0.949, 0.9538], "scratch_accuracy_by_seed": [0.8801, 0.8863]},
    }


def answers() -> tuple[np.ndarray, np.ndarray]:
    """Return truth and prediction of 400 digits; in addition to 40 wrong ones, 13 digits 8 are read as 1."""
    truth = np.arange(400) % 10
    predicted = truth.copy()
    predicted[::10] = (truth[::10] + np.arange(40) % 9 + 1) % 10
    eights = np.flatnonzero(truth == 8)[:13]
    predicted[eights] = 1
    return truth, predicted


def history(run: str, epochs: int, steps: int, rate: float, validated: bool = False) -> list[dict[str, Any]]:
    """Return the rows of a table of curves; steps: per epoch."""
    rows = []
    for step in range(1, epochs * steps + 1):
        loss = 2.3 * float(np.exp(-step / steps / 5))
        row = {
            "run": run,
            "step": step,
            "epoch": round(step / steps, 4),
            "train/loss": loss,
            "train/accuracy": 1 - loss / 3,
        }
        row |= {"learning_rate": rate * (1 - step / (epochs * steps))}
        if step % steps == 0:
            row |= {"epoch/loss": loss, "epoch/accuracy": 1 - loss / 3}
            row |= {"validation/accuracy": 1 - loss / 2.5} if validated else {}
        rows.append(row)
    return rows


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a temporary folder with the files of a run the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_json("metrics/evaluate.json", metrics())
    names = ("arm", "task.optimizer.lr", "fit.batch", "accuracy", "rungs")
    trials = [{"trial": n, **dict(zip(names, trial, strict=True))} for n, trial in enumerate(TRIALS)]
    write_table("plots/tune.csv", [trial | {"finished": trial["rungs"] == 4} for trial in trials])
    best = {"finetuned": ({"task.optimizer.lr": 0.0822, "fit.batch": 16}, 0.95, 3)}
    best |= {"scratch": ({"task.optimizer.lr": 0.1, "fit.batch": 32}, 0.85, 2)}
    write_json(
        "tune/best.json",
        {arm: {"values": v, "scores": {"accuracy": a}, "trials": n} for arm, (v, a, n) in best.items()},
    )
    write_table("plots/pretrain.csv", history("pretrain", 3, 20, 0.2, validated=True))
    write_table(
        "plots/finetune.csv",
        [row for a in ("finetuned", "scratch") for s in (0, 1) for row in history(f"{a} {s}", 14, 3, 0.1)],
    )
    write_table("plots/confusion.csv", [{"truth": a, "predicted": b} for a, b in zip(*answers(), strict=True)])
    for role, count in (("source", 36), ("target", 10)):
        manifest = {
            "name": f"{role}-set",
            "licence": "CC0",
            "source": f"the {role}'s origin",
            "digest": f"{count}ab" * 16,
        }
        manifest |= {
            "classes": [str(n) for n in range(count)],
            "splits": {"train": {"rows": 100}, "test": {"rows": 1697}},
        }
        write_json(f"data/prepared/{role}/manifest.json", manifest)
        preview = tmp_path / f"data/augmented/{role}/preview.png"
        preview.parent.mkdir(parents=True)
        Image.fromarray(np.full((8, 8), count, np.uint8)).save(preview)
    parts = {"import": 1.0, "connect": 0.5, "workers": 10.0, "total": 13.0}
    write_json(".trainyard/seconds.json", {"prepare": parts, "evaluate": parts | {"workers": 2.0, "total": 5.0}})
    for run, verdict in {"pretrain": "model bias", "finetuned 0": "fine", "finetuned 1": "fine"}.items():
        content = {"run": run, "verdict": verdict, "reasons": [f"loss training 0.5 of {run}"]}
        write_json(f".trainyard/runs/evaluate-1/fits/{run.replace(' ', '-')}/verdict.json", content)
    figures.save_figure(figures.draw_grid([np.eye(4)], ["8 → 1  p=0.98"]), "plots/mistakes.svg")
    return tmp_path


def read(path: str | Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(Path(path).read_text())


@pytest.fixture
def yard(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch):
    """Provide a folder in which retrains compare real models (see yard.py)."""
    from tests.pipelines import yard

    return yard.make_yard(tmp_path, empty_store, monkeypatch)
