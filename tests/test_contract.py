"""Train every system in small and check the contract: it learns, distributes, resumes, predicts and can be restored.

The suite finds all recipes by itself. It reduces data and budgets; networks, tasks, optimisers and options stay as they
are in the recipe.
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

from components.errors import Refusal
from components.recipes import allowed, recipe
from components.runs import journal
from components.storage.dataset import Dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks import adversarial
from components.training import checkpoint, engine, evaluation, exported
from components.training.meter import Meter
from components.training.peers import Peers, fork_workers
from components.training.task import Shard, Spec, Task
from components.training.update import ShardedUpdate
from pipelines import flagship
from pipelines.workers import augmentation, preparation
from pipelines.workers.scoring import constant_loss
from pipelines.workers.training import read_spec
from tests.components.tasks.test_finetuning import SECTION as TOY_BERT
from tests.components.tasks.test_finetuning import Toys

ROOT = Path(__file__).parent.parent
RECIPES = sorted(
    path for path in ROOT.glob("pipelines/*/*.yaml") if path.name != "dvc.yaml" and path.parent.name != "own"
)
# Arguments that replace those of every section `fit`.
SMALL_FIT = {"epochs": 3, "batch": 20, "shards": 2, "log_every": 2, "checkpoint_seconds": 0.05}
# Data set -> arguments that make it small.
SMALL_DATA = {
    "data.code_words.CodeWords": {"limit": 12, "train": 60},
    "data.captioned_glyphs.CaptionedGlyphs": {"per_class": 2},
    "data.curve.Curve": {"train": 50, "test": 100},
    "data.digits.Digits": {"labels": 120, "validation": 60},
    "data.gaussians.Gaussians": {"per_class": 32},
    "data.number_languages.NumberLanguages": {"train": 140, "validation": 35, "test": 35},
    "data.scene_contents.SceneContents": {"count": 40, "test": 20},
    "data.waves.Waves": {"train": 200, "validation": 80, "test": 80, "window": 24, "horizon": 6},
    "data.glyphs.Glyphs": {"per_class": 6, "validation": 2},
    "data.hidden_markov.HiddenMarkov": {"train": 100, "validation": 40, "test": 40, "length": 12},
    "data.moving_glyphs.MovingGlyphs": {"per_class": 4},
    "data.recall.Recall": {"train": 200, "validation": 60, "test": 60, "length": 8},
    "data.number_words.NumberWords": {"below": 500, "train": 200, "validation": 40, "test": 40},
    "data.outlined_glyphs.OutlinedGlyphs": {"per_class": 4},
    "data.posed_glyphs.PosedGlyphs": {"per_class": 6},
    "data.sounding_digits.SoundingDigits": {"labels": 120, "validation": 60},
    "data.text.Text": {"limit": 10_000},
    "data.photos.Photos": {"size": [32, 48]},
    "data.proposals.Search": {"most": 40},
    "data.docstrings.Docstrings": {"limit": 16},
    "data.scenes.Scenes": {"count": 24, "test": 10},
    "data.sentence_pairs.SentencePairs": {"limit": 12, "maskings": 1, "length": 24},
    "data.sine.Sine": {"train": 300, "validation": 100, "test": 100},
}
# Systems whose result does not depend on the seed, and why.
SEED_INDEPENDENT = {"language/ngram": "it counts, in the order of the text"}
# Systems that update no weights: they measure at one point.
STATIONARY = {"studies/gradient-variance"}
# Systems whose score need not improve, and why.
UNSTABLE = {
    "generative/collapse": "it demonstrates how a GAN fails to learn",
    "generative/dropping": "it demonstrates how a GAN fails to learn",
    "studies/bad-start": "it measures the point where it starts",
    "studies/convexity": "it measures the line between two networks only after many steps",
    "studies/error-surface": "it measures the point where it starts",
    "studies/error-surface-bytes": "it measures the point where it starts",
}
# Recipe on original files whose task no other recipe has -> kind of the toy sentences that take the place of its data.
TOYS = {"bert/cola": "sentences", "bert/stsb": "regression", "bert/xquad": "answering"}


def reads_original_files(data: dict[str, Any]) -> bool:
    """Return whether a section `data`, or a section inside it, reads original files instead of embedded data."""
    inner = [value for value in data.values() if isinstance(value, dict) and "use" in value]
    file, _, name = data["use"].rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(f"components.{file}"), name)).parameters
    reads = "folder" in data or "raw" in data or ("raw" in parameters and data["use"] not in SMALL_DATA)
    return reads or any(reads_original_files(section) for section in inner)


def find_systems() -> dict[str, dict[str, Any]]:
    """Return {name: {data, task, fit}} for every recipe on embedded data and the flagship's two trained stages.

    Recipes on original files are left out, because those may be missing; other recipes cover the same systems, or toys
    take the place of the files.
    """
    contents = {f"{path.parent.name}/{path.stem}": recipe.load(path) for path in RECIPES}
    systems = {name: content for name, content in contents.items() if not reads_original_files(content["data"])}
    for name, kind in TOYS.items():
        task = {key: value for key, value in contents[name]["task"].items() if key != "start"}
        task |= {"model": TOY_BERT | {"layers": 4}, "length": 40}
        data = {"use": f"{Toys.__module__}.{Toys.__name__}", "kind": kind}
        systems[name] = contents[name] | {
            "data": data,
            "task": task | {"model": TOY_BERT | {"layers": 4}, "length": 40},
        }
    params = recipe.load(ROOT / "params.yaml")
    systems["flagship/pretrain"] = {"data": params["data"]["source"], **flagship.pretrain_section(params)}
    systems["flagship/scratch"] = {"data": params["data"]["target"], **flagship.arm_section(params, "scratch")}
    return systems


SYSTEMS = find_systems()
each_system = pytest.mark.parametrize("name", SYSTEMS)


def test_every_recipe_is_found() -> None:
    assert len(RECIPES) == 161
    assert len(SYSTEMS) == 117
    tasks = {recipe.load(path)["task"]["use"] for path in RECIPES}
    covered = {system["task"]["use"] for system in SYSTEMS.values()}
    assert tasks <= covered, "let a recipe on embedded data, or toys, cover the task"


@pytest.fixture(scope="module", autouse=True)
def toys_are_allowed():
    """Let sections name the toys, a class of another package."""
    before = ",".join(allowed.PACKAGES)
    allowed.replace_packages("tests")
    yield
    allowed.replace_packages(before)


def shrink_data(section: dict[str, Any]) -> dict[str, Any]:
    """Return a section `data` whose data set, and any data set that it wraps, is small."""
    inner = {key: shrink_data(value) if isinstance(value, dict) else value for key, value in section.items()}
    return inner | SMALL_DATA.get(section["use"], {})


class PreparedData(dict[str, Path]):
    """Name of a system -> folder with its small data, written on first use; systems with the same data share a folder.

    If a recipe refers to another recipe's model, that model is trained first, and its path replaces the reference.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __missing__(self, name: str) -> Path:
        system = SYSTEMS[name]
        data = shrink_data(system["data"])
        folder = self[name] = self.root / recipe.digest(data)[:12]
        if not folder.is_dir():
            preparation.write_data_set(Peers(), recipe.build(data, Dataset), folder / "prepared")
            augmentation.write_statistics(Peers(), Store(folder / "prepared"), folder / "augmented")
        for key, value in system["task"].items():
            if str(value).startswith("results/"):
                other = value.removeprefix("results/").removesuffix("/model")
                if not (self.root / other).is_dir():
                    train_system(Peers(), other, self[other], self.root / other)
                system["task"][key] = str(self.root / other / "model")
        return folder


class FinishedRuns(dict[str, Path]):
    """Name of a system -> folder of its undisturbed run on one worker, trained on first use."""

    def __init__(self, root: Path, prepared: PreparedData) -> None:
        self.root = root
        self.prepared = prepared

    def __missing__(self, name: str) -> Path:
        folder = self[name] = self.root / name
        fork_workers(train_system, 1, name, self.prepared[name], folder)
        return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return PreparedData(tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
def finished(prepared: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> FinishedRuns:
    return FinishedRuns(tmp_path_factory.mktemp("finished"), prepared)


def evaluation_feed(store: Store, device: torch.device | None = None) -> Feed:
    """Return the validation split or, if there is none, the test or training split."""
    name = next(name for name in ("validation", "test", "train") if name in store.manifest["splits"])
    return Feed(store.split(name), None, device)


def train_system(peers: Peers, name: str, data: Path, folder: Path, until: int | None = None) -> engine.Outcome:
    """Train a system in `folder`, at most until step `until`; export it to `folder`/model once it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    task = recipe.build(SYSTEMS[name]["task"], Task)
    spec = read_spec(str(data / "prepared"), str(data / "augmented"))
    store = Store(data / "prepared")
    fit = recipe.resolve_arguments(SYSTEMS[name]["fit"] | SMALL_FIT, "training.engine.fit")
    train = Feed(store.split("train"), None, peers.device)
    fit["batch"] = "all" if task.full_batch else min(fit["batch"], len(train))
    outcome = engine.fit(task, spec, train, evaluation_feed(store, peers.device), folder, peers, until=until, **fit)
    if peers.rank == 0 and outcome.done:
        exported.write_model(folder / "model", outcome.state, spec, SYSTEMS[name]["task"])
    return outcome


def read_result(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return a digest of the saved state and the metrics, and the metrics themselves.

    The digest covers the order of the metrics, because tables are made from them.
    """
    tensors, record = checkpoint.read_checkpoint(checkpoint.list_checkpoints(folder)[0])
    digest = hashlib.sha256(json.dumps([record["step"], record["scalars"]], sort_keys=True).encode())
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].numpy().tobytes())
    metrics = [record.payload for record in journal.read_records(folder / journal.LOG, "metric")]
    digest.update(json.dumps(metrics).encode())
    return digest.hexdigest(), metrics


def last_step(folder: Path) -> int:
    step: int = checkpoint.read_checkpoint(checkpoint.list_checkpoints(folder)[0])[1]["step"]
    return step


@each_system
def test_it_learns(name: str, finished: FinishedRuns, prepared: PreparedData) -> None:
    """Check that the loss falls or, without a single loss, that the monitored score is better than at the start."""
    metrics = [payload["values"] for payload in read_result(finished[name])[1]]
    assert all(np.isfinite(value) for values in metrics for value in values.values())
    losses = [values["epoch/loss"] for values in metrics if "epoch/loss" in values]
    if losses:
        assert len(losses) == SMALL_FIT["epochs"]
        if name in STATIONARY:
            assert losses[-1] == pytest.approx(losses[0], rel=1e-6)
        else:
            assert losses[-1] < losses[0]
        return
    task = recipe.build(SYSTEMS[name]["task"], Task)
    torch.manual_seed(0)
    state = task.setup(read_spec(str(prepared[name] / "prepared"), str(prepared[name] / "augmented")))
    score, direction = task.monitor
    before = evaluation.evaluate(task, state, evaluation_feed(Store(prepared[name] / "prepared")))[0][score]
    if name in UNSTABLE:
        return
    after = [values[f"validation/{score}"] for values in metrics if f"validation/{score}" in values][-1]
    assert after > before if direction == "max" else after < before


@each_system
def test_data_without_what_it_scores_are_refused(name: str) -> None:
    task = recipe.build(SYSTEMS[name]["task"], Task)
    if not task.targets:
        return
    with pytest.raises(Refusal, match=rf"^task: {type(task).__name__} needs a column '\w+', but the data have other;"):
        task.check_data(Spec({"other": ()}, ("a",), {}))


@each_system
def test_the_best_constant_answer_is_scored_before_setup(name: str, prepared: PreparedData) -> None:
    """Check what preparation asks of every task: a task without such an answer has no loss of it."""
    task = recipe.build(SYSTEMS[name]["task"], Task)
    loss = constant_loss(task, Store(prepared[name] / "prepared"), objective=False)
    assert loss is None or np.isfinite(loss)


# Part of an update's length by which it may differ between numbers of shards and microbatches.
ROUNDING = 1e-3
# Arguments of tasks that replace what draws from a shard's own random stream (R-CNN then takes all regions), and an
# optimiser that does not magnify the rounding of small gradients.
DETERMINISTIC = {
    "augment": None,
    "mix": None,
    "mismatch": 0.0,
    "samples": 10_000,
    "foreground": 1.0,
    "optimizer": {"use": "optimizers.sgd", "lr": 0.01},
}


def latents_by_row(count: int, size: int, shard: Shard) -> torch.Tensor:
    """Return a GAN's latent vectors by the rows' numbers instead of from the shard's stream."""
    return torch.from_numpy(adversarial.latents(shard.batch["row"].numpy(), size))


def first_steps(name: str, data: Path, shards: int, accumulate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the first steps change in a system's weights and tables, and the means of its metrics.

    A state that is carried from step to step takes part in the second of two steps. Modules are in evaluation mode:
    dropout and batch statistics legitimately depend on the shards.
    """
    section, store = SYSTEMS[name], Store(data / "prepared")
    file, _, kind = section["task"]["use"].rpartition(".")
    arguments = inspect.signature(getattr(importlib.import_module(f"components.{file}"), kind)).parameters
    replaced = {key: value for key, value in DETERMINISTIC.items() if key in arguments}
    task = recipe.build(section["task"] | replaced, Task)
    torch.manual_seed(0)
    state = task.setup(read_spec(str(data / "prepared"), str(data / "augmented")))
    train = Feed(store.split("train"))
    batch = len(train) if task.full_batch else min(10, len(train))
    sequential = section["fit"].get("order") == "sequential"
    cut = min(shards, batch)
    walk = train.walk(batch, 0, cut, range(cut), sequential=sequential)
    update = ShardedUpdate(state, Peers(), shards=cut, accumulate=accumulate)
    progress = Meter(task.monitor)
    for module in state.modules.values():
        module.eval()
    before = [p.detach().clone() for module in state.modules.values() for p in module.parameters()]
    for _ in range(2 if sequential else 1):
        update.begin(*walk.at(state.step))
        progress.add(task.step(state, update), update.weight)
        state.step += 1
    after = [p.detach() for module in state.modules.values() for p in module.parameters()]
    moved = [(new - old).flatten().numpy() for old, new in zip(before, after, strict=True)]
    tables = [table.flatten() for table in state.tables.values()]
    return np.concatenate([*moved, *tables]), np.array(list(progress.take_means(state.step).values()))


@each_system
def test_shards_and_microbatches_do_not_change_the_objective(
    name: str, prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that a step on several shards and microbatches equals a step on one, up to rounding."""
    monkeypatch.setattr(adversarial, "draw_latents", latents_by_row)
    change, metrics = first_steps(name, prepared[name], 1, 1)
    assert np.linalg.norm(change) > 0
    for shards, accumulate in ((2, 1), (1, 3), (4, 3)):
        other_change, other_metrics = first_steps(name, prepared[name], shards, accumulate)
        difference = np.linalg.norm(other_change - change) / np.linalg.norm(change)
        assert difference < ROUNDING, f"{shards} shards, {accumulate} microbatches"
        assert other_metrics == pytest.approx(metrics, rel=ROUNDING, abs=ROUNDING)


@each_system
def test_neither_workers_nor_interruptions_change_the_bytes(
    name: str, finished: FinishedRuns, prepared: PreparedData, tmp_path: Path
) -> None:
    """Start on two workers, go on with one, end on two: each part stops inside an epoch and reads the other's state."""
    last = last_step(finished[name])
    for workers, until in ((2, last // 3 + 1), (1, 2 * last // 3 + 1), (2, None)):
        fork_workers(train_system, workers, name, prepared[name], tmp_path, until)
    assert read_result(tmp_path) == read_result(finished[name])


@each_system
def test_another_seed_changes_the_metrics(
    name: str, finished: FinishedRuns, prepared: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that the comparisons above can fail: metrics differ within the first epoch."""
    steps = last_step(finished[name]) // SMALL_FIT["epochs"]  # before the seed changes: this may train it
    monkeypatch.setitem(SYSTEMS[name], "fit", {**SYSTEMS[name]["fit"], "seed": 1})
    train_system(Peers(), name, prepared[name], tmp_path, steps)
    metrics = read_result(tmp_path)[1]
    assert metrics
    same = metrics == read_result(finished[name])[1][: len(metrics)]
    assert same == (name in SEED_INDEPENDENT)


@each_system
def test_the_exported_model_predicts_the_same(name: str, finished: FinishedRuns, prepared: PreparedData) -> None:
    # The run is complete, so this call trains nothing and returns the saved state.
    outcome = train_system(Peers(), name, prepared[name], finished[name])
    feed = evaluation_feed(Store(prepared[name] / "prepared"))
    task = recipe.build(SYSTEMS[name]["task"], Task)
    task.setup(read_spec(str(prepared[name] / "prepared"), str(prepared[name] / "augmented")))
    random = torch.random.get_rng_state()
    scores, predictions = evaluation.evaluate(task, outcome.state, feed)
    restored_scores, restored_predictions = evaluation.evaluate(*exported.read_model(finished[name] / "model"), feed)
    assert scores == restored_scores
    assert task.monitor[0] in scores
    assert all(np.isfinite(value) for value in scores.values())
    for key, values in predictions.items():
        assert len(values) == len(feed)
        assert np.array_equal(values, restored_predictions[key])
    torch.random.set_rng_state(random)
    assert evaluation.evaluate(task, outcome.state, feed)[0] == scores
