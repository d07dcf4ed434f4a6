"""One suite over every system: whatever a recipe names must learn, distribute, resume, predict and come back from disk.

Recipes are found by themselves. Budgets are cut down; the networks, tasks, optimisers and options are the recipes' own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components import checkpoint, engine, exported, journal, recipe
from components.data.feed import Feed
from components.data.store import Store
from components.peers import Peers, fork
from pipelines import augment, finetune, prepare, pretrain
from pipelines.training import specification

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path for path in ROOT.glob("pipelines/*/*.yaml") if path.name != "dvc.yaml")
TINY = {"epochs": 3, "batch": 20, "shards": 2, "log_every": 2, "checkpoint_seconds": 0.05}
FEW = {"labels": 200, "per_class": 6, "validation": 2}  # examples, where a data set can be told so


def systems() -> dict[str, dict[str, Any]]:
    """Name -> {data, task, fit}: every recipe, and the two trained stages of the flagship."""
    found = {f"{path.parent.name}/{path.stem}": recipe.load(path) for path in RECIPES}
    params = recipe.load(ROOT / "params.yaml")
    found["flagship/pretrain"] = {"data": params["data"]["source"], **pretrain.section_of(params)}
    found["flagship/scratch"] = {"data": params["data"]["target"], **finetune.section_of(params, "scratch")}
    return found


SYSTEMS = systems()
everyone = pytest.mark.parametrize("name", SYSTEMS)


def test_every_recipe_is_found() -> None:
    assert len(RECIPES) == 4
    assert len(SYSTEMS) == 6


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a system -> a folder with its data in small; systems with the same data share one."""
    root, folders = tmp_path_factory.mktemp("contract"), {}
    for name, system in SYSTEMS.items():
        known = recipe.signature(system["data"]["use"])
        data = system["data"] | {key: value for key, value in FEW.items() if key in known}
        folder = folders[name] = root / recipe.digest(data)[:12]
        if not folder.is_dir():
            prepare.write_one(Peers(), recipe.build(data), folder / "prepared")
            augment.normalise(Peers(), Store(folder / "prepared"), folder / "augmented")
    return folders


def run(peers: Peers, name: str, data: Path, folder: Path, until: int | None = None) -> engine.Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    task = recipe.build(SYSTEMS[name]["task"])
    spec = specification(str(data / "prepared"), str(data / "augmented"))
    store = Store(data / "prepared")
    train, test = (Feed(store.split(split)) for split in ("train", sorted(store.manifest["splits"])[0]))
    fit = recipe.arguments(SYSTEMS[name]["fit"] | TINY)
    outcome = engine.fit(task, spec, train, test, folder, peers, until=until, **fit)
    if peers.rank == 0 and outcome.done:
        exported.write(folder / "model", outcome.state, spec, SYSTEMS[name]["task"])
    return outcome


def result(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Digest of all that is saved, and every metric."""
    tensors, record = checkpoint.read(checkpoint.found(folder)[0])
    whole = hashlib.sha256(json.dumps([record["step"], record["scalars"]], sort_keys=True).encode())
    for key in sorted(tensors):
        whole.update(key.encode() + tensors[key].numpy().tobytes())
    return whole.hexdigest(), [r.payload for r in journal.read(folder / journal.LOG) if r.kind == "metric"]


@pytest.fixture(scope="module")
def alone(prepared: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> folder of its run on one worker."""
    root = tmp_path_factory.mktemp("alone")
    for name in SYSTEMS:
        fork(run, 1, name, prepared[name], root / name)
    return {name: root / name for name in SYSTEMS}


@everyone
def test_the_loss_is_finite_and_falls(name: str, alone: dict[str, Path]) -> None:
    losses = [m["values"]["epoch/loss"] for m in result(alone[name])[1] if "epoch/loss" in m["values"]]
    assert len(losses) == TINY["epochs"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@everyone
def test_two_workers_write_the_same_bytes(name: str, alone: dict[str, Path], prepared: dict, tmp_path: Path) -> None:
    fork(run, 2, name, prepared[name], tmp_path)
    assert result(tmp_path) == result(alone[name])


@everyone
def test_stopped_and_repeated_it_ends_the_same(name: str, alone: dict, prepared: dict, tmp_path: Path) -> None:
    """Stopped inside an epoch on one worker, gone on with on two."""
    total = checkpoint.read(checkpoint.found(alone[name])[0])[1]["step"]
    fork(run, 1, name, prepared[name], tmp_path, total // 2 + 1)
    fork(run, 2, name, prepared[name], tmp_path)
    assert result(tmp_path) == result(alone[name])


@everyone
def test_another_seed_ends_otherwise(name: str, alone: dict, prepared: dict, tmp_path: Path, monkeypatch) -> None:
    """The comparisons above can fail."""
    monkeypatch.setitem(SYSTEMS[name], "fit", {**SYSTEMS[name]["fit"], "seed": 1})
    run(Peers(), name, prepared[name], tmp_path)
    assert result(tmp_path)[0] != result(alone[name])[0]


@everyone
def test_the_exported_model_predicts_the_same(name: str, prepared: dict, tmp_path: Path) -> None:
    outcome = run(Peers(), name, prepared[name], tmp_path)
    store = Store(prepared[name] / "prepared")
    feed = Feed(store.split(sorted(store.manifest["splits"])[0]))
    task = recipe.build(SYSTEMS[name]["task"])
    task.setup(specification(str(prepared[name] / "prepared"), str(prepared[name] / "augmented")))
    random = torch.random.get_rng_state()
    scores, predictions = engine.evaluate(task, outcome.state, feed)
    again, restored = engine.evaluate(*exported.read(tmp_path / "model"), feed)
    assert scores == again
    assert task.monitor[0] in scores
    assert all(np.isfinite(value) for value in scores.values())
    for key, values in predictions.items():
        assert len(values) == len(feed)
        assert np.array_equal(values, restored[key])
    torch.random.set_rng_state(random)
    assert engine.evaluate(task, outcome.state, feed)[0] == scores
