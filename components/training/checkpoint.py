"""Checkpoints: safetensors and JSON in one folder, written whole or not at all, each file's SHA-256 beside it.

    checkpoint-00000120/state.safetensors   every tensor of State (modules, averages, optimisers, tables)
                        state.json          step, optimiser scalars, the engine's progress, the SHA-256

The newest that passes its checksum is used; the one before it is kept as the fallback. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from ..errors import Refusal
from ..files import atomic_path
from .task import State

MAX_CHECKPOINTS = 2
log = logging.getLogger(__name__)


def write_checkpoint(
    folder: Path, state: State, progress: dict[str, Any], extra: dict[str, Tensor] | None = None
) -> Path:
    """Writes `checkpoint-STEP` below `folder`, then removes all but the newest two."""
    tensors, scalars = pack_state(state)
    blob = save(tensors | {f"extra/{name}": value for name, value in serializable_tensors(extra or {}).items()})
    record = {
        "step": state.step,
        "scalars": scalars,
        "progress": progress,
        "sha256": hashlib.sha256(blob).hexdigest(),
    }
    text = json.dumps(record, sort_keys=True)
    seal = hashlib.sha256(text.encode()).hexdigest()
    sealed = json.dumps({"record": record, "sha256": seal})  # in the record's own order, that of tables' columns
    final = folder / f"checkpoint-{state.step:08d}"
    draft = folder / f".draft-{os.getpid()}"
    for left in folder.glob(".draft-*"):
        shutil.rmtree(left, ignore_errors=True)
    with atomic_path(final, draft):
        draft.mkdir()
        try:
            _write_through(draft / "state.safetensors", blob)
            _write_through(draft / "state.json", sealed.encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(final)) from None
        shutil.rmtree(final, ignore_errors=True)
    _sync_folder(folder)
    for old in list_checkpoints(folder)[MAX_CHECKPOINTS:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def check_free_space(folder: Path, state: State) -> None:
    """Refuses to begin where the disk has no room for the checkpoints of `state` (before its optimisers have slots)."""
    tensors, slots = (
        module_tensors(state),
        2 if state.optimizers else 0,
    )  # Adam's; two checkpoints are kept, one is written
    folder.mkdir(parents=True, exist_ok=True)
    need = (MAX_CHECKPOINTS + 1) * (1 + slots) * sum(value.nbytes for value in tensors.values())
    free = shutil.disk_usage(folder).free
    if free < need:
        raise Refusal(
            f"{folder}: {free / 1e6:,.0f} MB free, but checkpoints may need {need / 1e6:,.0f} MB;"
            " make room (dvc gc --workspace, old runs below .trainyard)"
        )


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted(folder.glob("checkpoint-*"), reverse=True)


def load_latest(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """(tensors, record) of the newest whole checkpoint; damaged ones are passed over with a warning."""
    for path in list_checkpoints(folder):
        try:
            return read_checkpoint(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%s): using the checkpoint before it", path, error)
    return None


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Raises ValueError or OSError unless both files are whole."""
    sealed = json.loads((path / "state.json").read_bytes())
    text = json.dumps(sealed["record"], sort_keys=True)
    if hashlib.sha256(text.encode()).hexdigest() != sealed["sha256"]:
        raise ValueError("state.json fails its checksum")
    blob = (path / "state.safetensors").read_bytes()
    if hashlib.sha256(blob).hexdigest() != sealed["record"]["sha256"]:
        raise ValueError("state.safetensors fails its checksum")
    return load(blob), sealed["record"]


# ------------------------------------------------------------------------------------------------ State <-> tensors


def pack_state(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Every tensor of `state` by a path-like name, and the optimisers' scalars as JSON."""
    tensors, scalars = module_tensors(state), {}
    for name, optimizer in state.optimizers.items():
        saved = optimizer.state_dict()
        scalars[name] = {"groups": saved["param_groups"], "state": {}}
        for index, slots in saved["state"].items():
            for slot, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizers/{name}/{index}/{slot}"] = value
                else:
                    scalars[name]["state"].setdefault(str(index), {})[slot] = value
    tensors |= {f"tables/{name}": torch.from_numpy(table) for name, table in state.tables.items()}
    tensors |= {f"carry/{index}/{name}": t for index, kept in state.carry.items() for name, t in kept.items()}
    return serializable_tensors(tensors), scalars


def unpack_state(
    state: State, tensors: dict[str, Tensor], record: dict[str, Any], device: torch.device | None = None
) -> None:
    """Fills a freshly set-up `state` in place; memory formats and devices are kept."""
    load_modules(state, tensors)
    for name, optimizer in state.optimizers.items():
        saved = record["scalars"][name]
        slots: dict[int, dict[str, Any]] = {int(i): dict(s) for i, s in saved["state"].items()}
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        for key, value in select_prefix(tensors, f"optimizers/{name}/").items():
            index, slot = key.split("/")
            like = moved[int(index)]
            if value.shape == like.shape:
                value = torch.empty_like(like, device="cpu", dtype=value.dtype).copy_(value)
            slots.setdefault(int(index), {})[slot] = value
        groups = [  # JSON knows no tuples (betas)
            {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
            for group in saved["groups"]
        ]
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
    state.tables = {name: t.numpy() for name, t in select_prefix(tensors, "tables/").items()}
    state.carry = {}
    for key, value in select_prefix(tensors, "carry/").items():
        index, name = key.split("/")
        state.carry.setdefault(int(index), {})[name] = value.to(device or "cpu")
    state.step = record["step"]


def module_tensors(state: State) -> dict[str, Tensor]:
    """Parameters and buffers of all modules and their averages: `modules/net/head.weight`, on the host."""
    kinds = (("modules", state.modules), ("averages", state.averages))
    return {
        f"{kind}/{name}/{key}": value.detach().cpu()
        for kind, modules in kinds
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def load_modules(state: State, tensors: dict[str, Tensor]) -> None:
    """Copies what `weights` gave back into the modules."""
    for kind, modules in (("modules", state.modules), ("averages", state.averages)):
        for name, module in modules.items():
            module.load_state_dict(select_prefix(tensors, f"{kind}/{name}/"))


def serializable_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous, on the host, and no two in one memory (tied weights): as safetensors wants them."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return apart


def select_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
