"""One suite over every system: whatever a recipe names must learn, distribute, resume, predict and come back from disk.

Recipes are found by themselves. Budgets are cut down; the networks, tasks, optimisers and options are the recipes' own.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.recipes import recipe
from components.runs import journal
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import checkpoint, engine, exported
from components.training.peers import Peers, fork_workers
from pipelines import flagship
from pipelines.workers import augmentation, preparation
from pipelines.workers.training import read_spec

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path for path in ROOT.glob("pipelines/*/*.yaml") if path.name != "dvc.yaml")
TINY = {"epochs": 3, "batch": 20, "shards": 2, "log_every": 2, "checkpoint_seconds": 0.05}
SMALL = {  # data set -> arguments that make it so
    "data.curve.Curve": {"train": 50, "test": 100},
    "data.digits.Digits": {"labels": 120, "validation": 60},
    "data.gaussians.Gaussians": {"per_class": 32},
    "data.glyphs.Glyphs": {"per_class": 6, "validation": 2},
    "data.number_words.NumberWords": {"below": 500, "train": 200, "validation": 40, "test": 40},
    "data.text.Text": {"limit": 20_000},
    "data.photos.Photos": {"size": [32, 48]},
    "data.scenes.Scenes": {"count": 40, "test": 20},
    "data.sine.Sine": {"train": 300, "validation": 100, "test": 100},
}
ONE_RESULT = {"language/ngram": "it counts, in the order of the text"}  # systems whose result no seed changes, and why
WHOLE = {"tasks.critical_points.CriticalPoints"}  # tasks whose every step is over all training examples
UNSTABLE = {
    "generative/collapse": "it shows how a GAN fails to learn",
    "studies/error-surface": "it measures the point it starts from",
}


def original(data: dict[str, Any]) -> bool:
    """Whether the section `data`, or one inside it, reads original files other than by the embedded default."""
    inner = [value for value in data.values() if isinstance(value, dict) and "use" in value]
    file, _, name = data["use"].rpartition(".")
    takes = inspect.signature(getattr(importlib.import_module(f"components.{file}"), name)).parameters
    reads = "raw" in data or ("raw" in takes and data["use"] not in SMALL)
    return reads or any(original(section) for section in inner)


def systems() -> dict[str, dict[str, Any]]:
    """Name -> {data, task, fit}: every recipe, and the two trained stages of the flagship.

    Recipes on original files, which need not be there, name systems that others show on embedded data.
    """
    loaded = {f"{path.parent.name}/{path.stem}": recipe.load(path) for path in RECIPES}
    found = {name: content for name, content in loaded.items() if not original(content["data"])}
    params = recipe.load(ROOT / "params.yaml")
    found["flagship/pretrain"] = {"data": params["data"]["source"], **flagship.pretrain_section(params)}
    found["flagship/scratch"] = {"data": params["data"]["target"], **flagship.arm_section(params, "scratch")}
    return found


SYSTEMS = systems()
everyone = pytest.mark.parametrize("name", SYSTEMS)


def test_every_recipe_is_found() -> None:
    assert len(RECIPES) == 65
    assert len(SYSTEMS) == 46


def small(section: dict[str, Any]) -> dict[str, Any]:
    """A section `data` cut down, in those it wraps too."""
    inner = {key: small(value) if isinstance(value, dict) else value for key, value in section.items()}
    return inner | SMALL.get(section["use"], {})


class Prepared(dict[str, Path]):
    """Name of a system -> a folder with its data in small, made when it is asked for; systems with the same data share
    one. Where a recipe names another one's model, that one is trained before, and the name is made to point to it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __missing__(self, name: str) -> Path:
        system = SYSTEMS[name]
        data = small(system["data"])
        folder = self[name] = self.root / recipe.digest(data)[:12]
        if not folder.is_dir():
            preparation.write_data_set(Peers(), recipe.build(data), folder / "prepared")
            augmentation.write_statistics(Peers(), Store(folder / "prepared"), folder / "augmented")
        for key, value in system["task"].items():
            if str(value).startswith("results/"):
                other = value.removeprefix("results/").removesuffix("/model")
                if not (self.root / other).is_dir():
                    run(Peers(), other, self[other], self.root / other)
                system["task"][key] = str(self.root / other / "model")
        return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Prepared(tmp_path_factory.mktemp("contract"))


def watched(store: Store, device: torch.device | None = None) -> Feed:
    """A split of data that training may look at, or whatever there is."""
    name = next(name for name in ("validation", "test", "train") if name in store.manifest["splits"])
    return Feed(store.split(name), None, device)


def run(peers: Peers, name: str, data: Path, folder: Path, until: int | None = None) -> engine.Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    task = recipe.build(SYSTEMS[name]["task"])
    spec = read_spec(str(data / "prepared"), str(data / "augmented"))
    store = Store(data / "prepared")
    fit = recipe.resolve_arguments(SYSTEMS[name]["fit"] | TINY)
    train = Feed(store.split("train"), None, peers.device)
    fit["batch"] = len(train) if SYSTEMS[name]["task"]["use"] in WHOLE else min(fit["batch"], len(train))
    outcome = engine.fit(task, spec, train, watched(store, peers.device), folder, peers, until=until, **fit)
    if peers.rank == 0 and outcome.done:
        exported.write_model(folder / "model", outcome.state, spec, SYSTEMS[name]["task"])
    return outcome


def result(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Digest of all that is saved and of the metrics, in their order too: tables are made of them; every metric."""
    tensors, record = checkpoint.read_checkpoint(checkpoint.list_checkpoints(folder)[0])
    whole = hashlib.sha256(json.dumps([record["step"], record["scalars"]], sort_keys=True).encode())
    for key in sorted(tensors):
        whole.update(key.encode() + tensors[key].numpy().tobytes())
    metrics = [r.payload for r in journal.read_records(folder / journal.LOG, "metric")]
    whole.update(json.dumps(metrics).encode())
    return whole.hexdigest(), metrics


@pytest.fixture(scope="module")
def alone(prepared: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> folder of its run on one worker."""
    root = tmp_path_factory.mktemp("alone")
    for name in SYSTEMS:
        fork_workers(run, 1, name, prepared[name], root / name)
    return {name: root / name for name in SYSTEMS}


@everyone
def test_it_learns(name: str, alone: dict[str, Path], prepared: dict[str, Path]) -> None:
    """The loss falls; where there is no single one, the monitored score is better than before the first step."""
    metrics = [m["values"] for m in result(alone[name])[1]]
    assert all(np.isfinite(value) for values in metrics for value in values.values())
    losses = [values["epoch/loss"] for values in metrics if "epoch/loss" in values]
    if losses:
        assert len(losses) == TINY["epochs"]
        assert losses[-1] < losses[0]
        return
    task = recipe.build(SYSTEMS[name]["task"])
    torch.manual_seed(0)
    state = task.setup(read_spec(str(prepared[name] / "prepared"), str(prepared[name] / "augmented")))
    score, direction = task.monitor
    before = engine.evaluate(task, state, watched(Store(prepared[name] / "prepared")))[0][score]
    if name in UNSTABLE:
        return
    after = [values[f"validation/{score}"] for values in metrics if f"validation/{score}" in values][-1]
    assert after > before if direction == "max" else after < before


@everyone
def test_two_workers_write_the_same_bytes(name: str, alone: dict[str, Path], prepared: dict, tmp_path: Path) -> None:
    fork_workers(run, 2, name, prepared[name], tmp_path)
    assert result(tmp_path) == result(alone[name])


@everyone
def test_stopped_and_repeated_it_ends_the_same(name: str, alone: dict, prepared: dict, tmp_path: Path) -> None:
    """Stopped inside an epoch on one worker, gone on with on two."""
    total = checkpoint.read_checkpoint(checkpoint.list_checkpoints(alone[name])[0])[1]["step"]
    fork_workers(run, 1, name, prepared[name], tmp_path, total // 2 + 1)
    fork_workers(run, 2, name, prepared[name], tmp_path)
    assert result(tmp_path) == result(alone[name])


@everyone
def test_another_seed_goes_otherwise(name: str, alone: dict, prepared: dict, tmp_path: Path, monkeypatch) -> None:
    """The comparisons above can fail: from the first epoch on."""
    monkeypatch.setitem(SYSTEMS[name], "fit", {**SYSTEMS[name]["fit"], "seed": 1})
    total = checkpoint.read_checkpoint(checkpoint.list_checkpoints(alone[name])[0])[1]["step"]
    run(Peers(), name, prepared[name], tmp_path, total // TINY["epochs"])
    begun = result(tmp_path)[1]
    assert begun
    assert (begun == result(alone[name])[1][: len(begun)]) == (name in ONE_RESULT)


@everyone
def test_the_exported_model_predicts_the_same(name: str, alone: dict, prepared: dict) -> None:
    outcome = run(Peers(), name, prepared[name], alone[name])  # nothing is left to do: the state as it was saved
    feed = watched(Store(prepared[name] / "prepared"))
    task = recipe.build(SYSTEMS[name]["task"])
    task.setup(read_spec(str(prepared[name] / "prepared"), str(prepared[name] / "augmented")))
    random = torch.random.get_rng_state()
    scores, predictions = engine.evaluate(task, outcome.state, feed)
    again, restored = engine.evaluate(*exported.read_model(alone[name] / "model"), feed)
    assert scores == again
    assert task.monitor[0] in scores
    assert all(np.isfinite(value) for value in scores.values())
    for key, values in predictions.items():
        assert len(values) == len(feed)
        assert np.array_equal(values, restored[key])
    torch.random.set_rng_state(random)
    assert engine.evaluate(task, outcome.state, feed)[0] == scores
