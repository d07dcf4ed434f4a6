"""A trained model as a folder: weights.safetensors, and model.json with everything needed to rebuild it.

tokenizer-COLUMN.json is the tokenizer of a column of tokens. contents.npy holds the digests of the examples that the
model was trained on (see storage/content.py). Models that were exported before there was such a record have none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import Refusal, first_line
from ..files import check_fields, read_object, write_json
from ..recipes import recipe
from ..storage.content import CONTENTS_FILE, Digests, read_digests, write_digests
from ..storage.tokenizer_files import read_tokenizers, write_tokenizers
from . import checkpoint
from .task import Spec, State, Task

# arguments of a task that name where its weights came from; an exported model brings its own
ORIGIN_ARGUMENTS = ("start", "weights", "random")
WEIGHTS_FILE, RECORD_FILE = "weights.safetensors", "model.json"
RECORD_FIELDS = {"task": dict, "columns": dict, "classes": list, "statistics": dict, "step": int}
# What a record with odd values raises while the model is built from it: its arguments may be anything.
BUILDING_ERRORS = (
    *(TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError),
    *(RuntimeError, MemoryError),  # torch's; a RecursionError is one, too
)
REMEDY = "run the stage that writes it (dvc repro)"


def write_model(
    folder: str | Path, state: State, spec: Spec, task: dict[str, Any], contents: Digests | None = None
) -> None:
    """Write the modules (or their moving averages) and tables of `state`, and the recipe's section `task`.

    contents: digests of the training examples, or None if they are not known. The examples of the model that training
    started from are added where that model has a record of them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    modules = state.modules | state.averages
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    record = {
        "task": {key: value for key, value in task.items() if key not in ORIGIN_ARGUMENTS} | state.arguments,
        "columns": spec.columns,
        "classes": spec.classes,
        "statistics": spec.statistics,
        "step": state.step,
        "parameters": sum(p.numel() for module in state.modules.values() for p in module.parameters()),
    }
    if tokenizers := spec.tokenizers | state.tokenizers:
        record["tokenizers"] = write_tokenizers(folder, tokenizers)
    tensors |= {f"tables/{name}": torch.from_numpy(table) for name, table in state.tables.items()}
    save_file(checkpoint.serializable_tensors(tensors), folder / WEIGHTS_FILE)
    write_json(folder / RECORD_FILE, record)
    if contents is not None:
        start = task.get("start")
        earlier = read_digests(Path(start) / CONTENTS_FILE) if start else None
        parts = [contents] if earlier is None else [contents, earlier]
        write_digests(folder / CONTENTS_FILE, np.unique(np.concatenate(parts)))


def read_model(folder: str | Path, device: torch.device | None = None) -> tuple[Task, State]:
    """Return the task and its state, ready to predict on `device`."""
    folder = Path(folder)
    try:
        return _restore(folder, _read_record(folder), device or torch.device("cpu"))
    except (Refusal, torch.OutOfMemoryError):  # a full GPU is not the model's fault
        raise
    except (SafetensorError, OSError) as error:
        raise Refusal(f"{folder / WEIGHTS_FILE}: damaged or missing ({first_line(error)}); {REMEDY}") from None
    except BUILDING_ERRORS as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise Refusal(f"{folder}: its record and its weights do not fit together ({reason}); {REMEDY}") from None


def _restore(folder: Path, record: dict[str, Any], device: torch.device) -> tuple[Task, State]:
    task: Task = recipe.build(record["task"], Task)
    columns = {name: tuple(shape) for name, shape in record["columns"].items()}
    tokenizers = read_tokenizers(folder, record.get("tokenizers", {}), REMEDY)
    state = task.setup(Spec(columns, tuple(record["classes"]), record["statistics"], tokenizers))
    weights = load_file(folder / WEIGHTS_FILE)
    for name, module in state.modules.items():
        module.load_state_dict(checkpoint.select_prefix(weights, f"{name}."))
        module.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    state.tables = {name: tensor.numpy() for name, tensor in checkpoint.select_prefix(weights, "tables/").items()}
    state.step = record["step"]
    return task, state


def class_names(folder: str | Path) -> list[str]:
    """Return the names of the classes that the model in `folder` predicts."""
    return list(_read_record(folder)["classes"])


def task_section(folder: str | Path) -> dict[str, Any]:
    """Return the recipe's section `task` of the model in `folder`."""
    return dict(_read_record(folder)["task"])


def tokenizer_digests(folder: str | Path) -> dict[str, str]:
    """Return {column: SHA-256 of its tokenizer} of the model in `folder`."""
    return dict(_read_record(folder).get("tokenizers", {}))


def _read_record(folder: str | Path) -> dict[str, Any]:
    file = Path(folder) / RECORD_FILE
    if not file.is_file():
        raise Refusal(f"{folder}: holds no exported model; {REMEDY}")
    try:
        record = read_object(file)
        check_fields(record, RECORD_FIELDS)
        if not isinstance(record["task"].get("use"), str):
            raise ValueError("'task' names no class")
        return record
    except ValueError as error:
        raise Refusal(f"{file}: damaged ({first_line(error)}); {REMEDY}") from None
