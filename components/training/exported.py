"""A finished model as a folder: weights.safetensors and model.json, which holds all there is to rebuild it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..errors import Refusal
from ..files import write_json
from ..recipes import recipe
from . import checkpoint
from .task import Spec, State, Task

ORIGIN_ARGUMENTS = ("start", "weights")  # arguments that name where weights came from: they are in the file now
WEIGHTS_FILE, RECORD_FILE = "weights.safetensors", "model.json"


def write_model(folder: str | Path, state: State, spec: Spec, task: dict[str, Any]) -> None:
    """Writes `state` (moving averages in place of the modules that have one) and the recipe's section `task`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    modules = state.modules | state.averages
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    record = {
        "task": {key: value for key, value in task.items() if key not in ORIGIN_ARGUMENTS},
        "columns": spec.columns,
        "classes": spec.classes,
        "statistics": spec.statistics,
        "step": state.step,
        "parameters": sum(p.numel() for module in state.modules.values() for p in module.parameters()),
    }
    tensors |= {f"tables/{name}": torch.from_numpy(table) for name, table in state.tables.items()}
    save_file(checkpoint.serializable_tensors(tensors), folder / WEIGHTS_FILE)
    write_json(folder / RECORD_FILE, record)


def read_model(folder: str | Path, device: torch.device | None = None) -> tuple[Task, State]:
    """The task and its state, ready to predict on `device`."""
    folder, record = Path(folder), _record(folder)
    task: Task = recipe.build(record["task"])
    columns = {name: tuple(shape) for name, shape in record["columns"].items()}
    state = task.setup(Spec(columns, tuple(record["classes"]), record["statistics"]))
    weights = load_file(folder / WEIGHTS_FILE)
    for name, module in state.modules.items():
        module.load_state_dict(checkpoint.select_prefix(weights, f"{name}."))
        module.to(device or torch.device("cpu"), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    state.tables, state.step = (
        {n: t.numpy() for n, t in checkpoint.select_prefix(weights, "tables/").items()},
        record["step"],
    )
    return task, state


def class_names(folder: str | Path) -> list[str]:
    """The names of the classes it was trained to tell apart."""
    return list(_record(folder)["classes"])


def _record(folder: str | Path) -> dict[str, Any]:
    file = Path(folder) / RECORD_FILE
    if not file.is_file():
        raise Refusal(f"{folder}: holds no exported model; run the stage that writes it (dvc repro)")
    record: dict[str, Any] = json.loads(file.read_text())
    return record
