"""What a worker does to train or score one recipe: open the data, build the task, call the engine, export the weights.

Imported by the verbs through `spread`; torch is imported here and in no driver.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from components import checkpoint, engine, recipe
from components.data.feed import Feed
from components.data.order import folds
from components.data.store import Store
from components.peers import Peers
from components.refusal import Refusal
from components.task import Spec, State, Task


def specification(prepared: str, augmented: str) -> Spec:
    """Shapes and classes from the prepared data's manifest, statistics from the augment stage."""
    manifest = Store(prepared).manifest
    columns = {name: tuple(column["shape"]) for name, column in manifest["columns"].items()}
    statistics = json.loads((Path(augmented) / "statistics.json").read_text())
    return Spec(columns, tuple(manifest["classes"]), statistics)


def train_feed(prepared: str, augmented: str, rows: np.ndarray | None = None, device: Any = None) -> Feed:
    """The training split: the originals, and behind them what the augment stage derived from them."""
    derived = [augmented] if (Path(augmented) / "manifest.json").is_file() else []
    return Feed(Store(prepared).split("train", extra=derived), rows, device)


def train_all(peers: Peers, fits: list[dict[str, Any]], prepared: str, augmented: str) -> list[dict[str, float]]:
    """Each of `fits` ({section, run, out, seed}) in turn, on all workers; the last scores of each."""
    return [train(peers, prepared=prepared, augmented=augmented, **fit) for fit in fits]


def train(
    peers: Peers, section: dict[str, Any], prepared: str, augmented: str, run: str, out: str, seed: int
) -> dict[str, float]:
    """Fits `section` ({task, fit}) in the folder `run`, from where it was left, and exports the weights into `out`."""
    spec = specification(prepared, augmented)
    task: Task = recipe.build(section["task"])
    store = Store(prepared)
    held_out = "validation" in store.manifest["splits"]
    validation = Feed(store.split("validation"), None, peers.device) if held_out else None
    folder = Path(run)
    if peers.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
    feed = train_feed(prepared, augmented, None, peers.device)
    fit = {"seed": seed} | recipe.arguments(section["fit"])
    outcome = engine.fit(task, spec, feed, validation, folder, peers, **fit)
    if peers.rank == 0:
        export(outcome.state, spec, section["task"], Path(out))
    return outcome.scores


def trial(
    values: dict[str, Any],
    accumulate: int,
    report: Any,
    section: dict[str, Any],
    prepared: str,
    augmented: str,
    count: int,
    seed: int,
) -> None:
    """One trial of a search: `count` stratified folds of the training split, the mean score reported after each."""
    section = recipe.overlay(section, values)
    spec = specification(prepared, augmented)
    labels = train_feed(prepared, augmented).column("label")
    seen: list[dict[str, float]] = []
    for rows, held_out in folds(labels, count, seed):
        task: Task = recipe.build(section["task"])
        fit = {"seed": seed, "accumulate": accumulate} | recipe.arguments(section["fit"])
        fit |= {"evaluate_every": fit.get("epochs", 10)}
        validation = train_feed(prepared, augmented, held_out)
        outcome = engine.fit(task, spec, train_feed(prepared, augmented, rows), validation, **fit)
        seen.append(outcome.scores)
        if report({name: float(np.mean([scores[name] for scores in seen])) for name in outcome.scores}):
            return


def score(
    peers: Peers, models: list[str], prepared: str, split: str
) -> list[tuple[dict[str, float], dict[str, np.ndarray]]]:
    """(scores, predictions) of each exported model on `split`; nothing is returned but from rank 0."""
    results = []
    feed = Feed(Store(prepared).split(split), None, peers.device)
    for folder in models:
        task, state = restore(folder, peers.device)
        results.append(engine.evaluate(task, state, feed, peers))
    return results


# ------------------------------------------------------------------------------------------------ exported models


def export(state: State, spec: Spec, task: dict[str, Any], out: Path) -> None:
    """weights.safetensors (`<module>.<key>`, the moving average where there is one) and model.json: all to rebuild it."""
    out.mkdir(parents=True, exist_ok=True)
    modules = state.modules | state.averages
    tensors = {f"{n}.{k}": v.detach().cpu().contiguous() for n, m in modules.items() for k, v in m.state_dict().items()}
    save_file(tensors, out / "weights.safetensors")
    record = {
        "task": {key: value for key, value in task.items() if key != "start"},
        "columns": spec.columns,
        "classes": spec.classes,
        "statistics": spec.statistics,
        "step": state.step,
        "parameters": sum(p.numel() for m in state.modules.values() for p in m.parameters()),
    }
    (out / "model.json").write_text(json.dumps(record, indent=1))


def restore(folder: str | Path, device: torch.device | None = None) -> tuple[Task, State]:
    """The task and its state from an exported model folder, ready to predict."""
    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise Refusal(f"{folder}: holds no exported model; run the stage that writes it (dvc repro)")
    record = json.loads((folder / "model.json").read_text())
    task: Task = recipe.build(record["task"])
    columns = {name: tuple(shape) for name, shape in record["columns"].items()}
    state = task.setup(Spec(columns, tuple(record["classes"]), record["statistics"]))
    weights = load_file(folder / "weights.safetensors")
    for name, module in state.modules.items():
        module.load_state_dict(checkpoint.below(weights, f"{name}."))
        module.to(device or torch.device("cpu"), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return task, state
