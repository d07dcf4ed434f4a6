"""Checkpoints: safetensors and JSON in one folder, written atomically with the SHA-256 of each file.

    checkpoint-00000120/state.safetensors   every tensor of State (modules, averages, optimisers, tables)
                        state.json          step, optimiser scalars, the engine's progress, the SHA-256

The newest checkpoint that passes its checksum is used; the one before it is kept as a fallback. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..errors import Refusal, first_line
from ..files import atomic_path, open_regular, sync_folder, write_through
from .task import State

MAX_CHECKPOINTS = 2
DRAFT = ".draft-"
DRAFT_LIFETIME = 3600.0  # seconds after which a draft of another machine is abandoned; writing takes much less
log = logging.getLogger(__name__)


def write_checkpoint(
    folder: Path, state: State, progress: dict[str, Any], extra: dict[str, Tensor] | None = None
) -> Path:
    """Write `checkpoint-STEP` below `folder` and remove all but the newest two; return its path."""
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
    # not sorted: the order of keys is that of the tables' columns
    sealed = json.dumps({"record": record, "sha256": seal})
    final = folder / f"checkpoint-{state.step:08d}"
    draft = folder / f"{DRAFT}{platform.node()}-{os.getpid()}"
    for old_draft in folder.glob(f"{DRAFT}*"):
        if _is_abandoned(old_draft):
            shutil.rmtree(old_draft, ignore_errors=True)
    with atomic_path(final, draft):
        draft.mkdir()
        try:
            write_through(draft / "state.safetensors", blob)
            write_through(draft / "state.json", sealed.encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(final)) from None
        shutil.rmtree(final, ignore_errors=True)
    sync_folder(folder)
    for old in list_checkpoints(folder)[MAX_CHECKPOINTS:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def check_free_space(folder: Path, state: State) -> None:
    """Refuse to begin where the disk has no space for checkpoints of `state`, whose optimisers are still empty."""
    slots = 2 if state.optimizers else 0  # Adam has the most
    folder.mkdir(parents=True, exist_ok=True)
    # one more than is kept: the oldest is removed after the newest is written
    copies = (MAX_CHECKPOINTS + 1) * (1 + slots)
    need = copies * sum(value.nbytes for value in module_tensors(state).values())
    free = shutil.disk_usage(folder).free
    if free < need:
        raise Refusal(
            f"{folder}: {free / 1e6:,.0f} MB free, but checkpoints may need {need / 1e6:,.0f} MB;"
            " make room (dvc gc --workspace, old runs below .trainyard)"
        )


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders, newest first."""
    return sorted(folder.glob("checkpoint-*"), reverse=True)


def load_latest(folder: Path, state: State | None = None) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return (tensors, record) of the newest valid checkpoint; warn of damaged ones and skip them.

    state: the freshly set-up one that the checkpoint must fit.
    """
    for path in list_checkpoints(folder):
        try:
            tensors, record = read_checkpoint(path)
            if state is not None:
                _check_fit(state, tensors, record)
            return tensors, record
        except (
            Refusal,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
            SafetensorError,
        ) as error:
            log.warning("%s is damaged (%s): using the checkpoint before it", path, first_line(error))
    return None


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return (tensors, record) of a checkpoint; raise an error of Python's or safetensors' if a file is damaged."""
    with open_regular(path / "state.json") as file:
        sealed = json.load(file)
    text = json.dumps(sealed["record"], sort_keys=True)
    if hashlib.sha256(text.encode()).hexdigest() != sealed["sha256"]:
        raise ValueError("state.json fails its checksum")
    _check_structure(sealed["record"])
    with open_regular(path / "state.safetensors") as file:
        blob = file.read()
    if hashlib.sha256(blob).hexdigest() != sealed["record"]["sha256"]:
        raise ValueError("state.safetensors fails its checksum")
    return load(blob), sealed["record"]


def _check_structure(record: dict[str, Any]) -> None:
    """Raise ValueError for a record whose fields are not those of `write_checkpoint`."""
    kinds = {"step": int, "scalars": dict, "progress": dict, "sha256": str}
    for name, kind in kinds.items():
        if type(record[name]) is not kind:
            raise ValueError(f"'{name}' is not of type {kind.__name__}")


def _check_fit(state: State, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Raise an error if `unpack_state` could not fill `state` with the content of a checkpoint."""
    for kind, modules in (("modules", state.modules), ("averages", state.averages)):
        for name, module in modules.items():
            for key, value in module.state_dict().items():
                stored = tensors[f"{kind}/{name}/{key}"]
                if (stored.shape, stored.dtype) != (value.shape, value.dtype):
                    raise ValueError(
                        f"{key} is {stored.dtype}{list(stored.shape)}, not {value.dtype}{list(value.shape)}"
                    )
    for name, optimizer in state.optimizers.items():
        packed = record["scalars"][name]
        groups = [len(group["params"]) for group in packed["groups"]]
        if groups != [len(group["params"]) for group in optimizer.param_groups]:
            raise ValueError(f"optimiser '{name}' has groups of {groups} parameters")
        slots = [key.split("/") for key in select_prefix(tensors, f"optimizers/{name}/")]
        indices = [int(index) for index, _ in slots] + [int(index) for index in packed["state"]]
        if indices and not 0 <= min(indices) <= max(indices) < sum(groups):
            raise ValueError(f"optimiser '{name}' has no parameter {max(indices)}")
    if type(record["progress"]["position"]) is not int:
        raise ValueError("'position' is not of type int")


# ------------------------------------------------------------------------------------------------ State <-> tensors


def pack_state(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return every tensor of `state` under a path-like name, and the optimisers' scalars as JSON."""
    tensors, scalars = module_tensors(state), {}
    for name, optimizer in state.optimizers.items():
        packed = optimizer.state_dict()
        scalars[name] = {"groups": packed["param_groups"], "state": {}}
        for index, slots in packed["state"].items():
            for slot, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizers/{name}/{index}/{slot}"] = value
                else:
                    scalars[name]["state"].setdefault(str(index), {})[slot] = value
    tensors |= {f"tables/{name}": torch.from_numpy(table) for name, table in state.tables.items()}
    tensors |= {f"carry/{index}/{name}": t for index, carry in state.carry.items() for name, t in carry.items()}
    return serializable_tensors(tensors), scalars


def unpack_state(
    state: State, tensors: dict[str, Tensor], record: dict[str, Any], device: torch.device | None = None
) -> None:
    """Fill a freshly set-up `state` in place; its memory formats and devices stay as they are."""
    load_modules(state, tensors)
    for name, optimizer in state.optimizers.items():
        packed = record["scalars"][name]
        slots: dict[int, dict[str, Any]] = {int(i): dict(s) for i, s in packed["state"].items()}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for key, value in select_prefix(tensors, f"optimizers/{name}/").items():
            index, slot = key.split("/")
            parameter = parameters[int(index)]
            if value.shape == parameter.shape:
                value = torch.empty_like(parameter, device="cpu", dtype=value.dtype).copy_(value)
            slots.setdefault(int(index), {})[slot] = value
        groups = [_with_tuples(group) for group in packed["groups"]]
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
    state.tables = {name: t.numpy() for name, t in select_prefix(tensors, "tables/").items()}
    state.carry = {}
    for key, value in select_prefix(tensors, "carry/").items():
        index, name = key.split("/")
        state.carry.setdefault(int(index), {})[name] = value.to(device or "cpu")
    state.step = record["step"]


def _with_tuples(group: dict[str, Any]) -> dict[str, Any]:
    """Return an optimiser's parameter group with tuples (betas) in place of JSON's lists."""
    return {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}


def module_tensors(state: State) -> dict[str, Tensor]:
    """Return parameters and buffers of all modules and averages on the host: `modules/net/head.weight`."""
    kinds = (("modules", state.modules), ("averages", state.averages))
    return {
        f"{kind}/{name}/{key}": value.detach().cpu()
        for kind, modules in kinds
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def load_modules(state: State, tensors: dict[str, Tensor]) -> None:
    """Copy what `module_tensors` returned back into the modules."""
    for kind, modules in (("modules", state.modules), ("averages", state.averages)):
        for name, module in modules.items():
            module.load_state_dict(select_prefix(tensors, f"{kind}/{name}/"))


def serializable_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as safetensors needs them: contiguous, on the host, none sharing memory (tied weights)."""
    addresses: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if address in addresses else tensor
        addresses.add(address)
    return separate


def select_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _is_abandoned(draft: Path) -> bool:
    """Return whether no process writes the draft any more; the name says which process on which machine wrote it."""
    machine, _, process = draft.name.removeprefix(DRAFT).rpartition("-")
    if process.isdecimal() and machine in ("", platform.node()):
        return int(process) == os.getpid() or not psutil.pid_exists(int(process))
    try:
        return time.time() - draft.stat().st_mtime > DRAFT_LIFETIME
    except FileNotFoundError:
        return False
