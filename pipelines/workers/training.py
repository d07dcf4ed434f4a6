"""What a worker does to train or score one recipe: open the data, build the task, call the engine, export the weights.

The verbs name these functions by their dotted paths: torch is imported here, on the workers, and in no driver.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from components.errors import Refusal
from components.recipes import recipe
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import engine, exported
from components.training.peers import Peers
from components.training.task import Spec, State, Task
from components.verdicts.diagnosis import comparable_loss, trivial_loss
from pipelines import augment, prepare

TRAINING_EXAMPLES = 2000  # training examples that are looked at for the diagnosis


def read_spec(prepared: str, augmented: str) -> Spec:
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
    """All of `fits` ({section, run, out, seed}); the last scores of each.

    Each worker takes whole ones, for that needs no exchange; those that would leave some without work, all take
    together, if they can be cut into so many shards. The bytes are the same either way.
    """
    rest = len(fits) % peers.size
    last = [recipe.fill_defaults("training.engine.fit", fit["section"]["fit"]) for fit in fits[-rest:]]
    if rest and any(fit["shards"] < peers.size for fit in last):
        rest = 0
    data: dict[str, Any] = {"prepared": prepared, "augmented": augmented}
    whole = range(len(fits) - rest)
    with peers.independent() as alone:
        mine = {number: fit_and_export(alone, **data, **fits[number]) for number in whole[peers.rank :: peers.size]}
    found = {number: scores for theirs in peers.gather(mine) for number, scores in theirs.items()}
    return [found[number] for number in whole] + [fit_and_export(peers, **data, **fit) for fit in fits[len(whole) :]]


def train_and_examine(peers: Peers, fit: dict[str, Any], prepared: str, augmented: str) -> dict[str, Any]:
    """One such fit: its last scores, and its `evidence`."""
    scores = fit_and_export(peers, prepared=prepared, augmented=augmented, **fit)
    peers.gather(None)  # the model is there
    model, feed = exported.read_model(fit["out"], peers.device), train_feed(prepared, augmented, None, peers.device)
    seen = {"validation": scores} if scores else {}
    return {"scores": scores} | diagnosis_evidence(peers, *model, Store(prepared), feed, seen)


def fit_and_export(
    peers: Peers, section: dict[str, Any], prepared: str, augmented: str, run: str, out: str, seed: int
) -> dict[str, float]:
    """Fits `section` ({task, fit}) in the folder `run`, from where it was left, and exports the weights into `out`."""
    spec = read_spec(prepared, augmented)
    task: Task = recipe.build(section["task"])
    store = Store(prepared)
    watched = watched_split(list(store.manifest["splits"]))
    validation = Feed(store.split(watched), None, peers.device) if watched else None
    folder = Path(run)
    if peers.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
    feed = train_feed(prepared, augmented, None, peers.device)
    fit = {"seed": seed} | recipe.resolve_arguments(section["fit"])
    outcome = engine.fit(task, spec, feed, validation, folder, peers, **fit)
    if peers.rank == 0:
        exported.write_model(out, outcome.state, spec, section["task"])
    return outcome.scores


def watched_split(names: list[str]) -> str | None:
    """What training is watched on: the validation split, or all there is; never a split kept for testing."""
    return "validation" if "validation" in names else "train" if names == ["train"] else None


def prepare_data(peers: Peers, data: dict[str, Any], folder: str, task: dict[str, Any]) -> dict[str, Any]:
    """Prepares the section `data` below `folder`, unless it is there, whole: {digest, splits, monitor, trivial}."""
    prepared, augmented = Path(folder) / "prepared", Path(folder) / "augmented"
    there = (augmented / "statistics.json").is_file()
    if there and peers.rank == 0:
        Store(prepared).verify()
    if not peers.broadcast(there):
        prepare.write_data_set(peers, recipe.build(data), prepared)
        peers.gather(None)  # nobody reads before all is written
        augment.write_statistics(peers, Store(prepared), augmented)
        peers.gather(None)
    built: Task = recipe.build(task)
    store = Store(prepared)
    found = {"digest": str(store.manifest["digest"]), "splits": list(store.manifest["splits"])}
    return found | {"monitor": built.monitor, "trivial": trivial_loss(store.split("train"))}


def fit_and_score(peers: Peers, data: dict[str, Any], folder: str, fit: dict[str, Any]) -> dict[str, Any]:
    """Prepares `data`, fits, and scores the exported model on the split kept for the end; draws, beside the model.

    {split, scores, outcomes [N] or None, tags, monitor, digest, splits, trivial, seen: {split: scores}, parameters,
    example: {inputs, outputs} or None, cost, hardware, pictures: [path]}
    """
    found, prepared = prepare_data(peers, data, folder, fit["section"]["task"]), f"{folder}/prepared"
    watched = fit_and_export(peers, prepared=prepared, augmented=f"{folder}/augmented", **fit)
    peers.gather(None)
    store = Store(prepared)
    split = next(name for name in ("test", "validation", "train") if name in store.manifest["splits"])
    task, state = exported.read_model(fit["out"], peers.device)
    feed = Feed(store.split(split), None, peers.device)
    scores, predictions = engine.evaluate(task, state, feed, peers)
    trained: Task = recipe.build(fit["section"]["task"])  # which still knows where its weights came from
    found |= {"split": split, "scores": scores, "tags": trained.tags(state, scores), "requires": task.requires}
    found["outcomes"] = task.outcomes(predictions, engine.target_columns(task, feed))
    found["parameters"] = parameter_count(state)
    found["seen"] = {"validation": watched, "test": scores} if split == "test" and watched else {split: scores}
    if split != "train" and comparable_loss(scores, task.monitor) is not None:
        found["seen"]["train"] = training_scores(
            task, state, train_feed(prepared, f"{folder}/augmented", None, peers.device), peers
        )
    if peers.rank == 0:
        found["example"] = serving_example(task, state, feed)
        found["cost"] = model_cost(task, state, feed)
        found["hardware"] = describe_hardware(peers)
        pictures = Path(fit["out"]).parent / "pictures"
        drawn = engine.draw_pictures(task, state, predictions, feed, pictures)
        found["pictures"] = [str(file) for file in [*drawn, *draw_augmented(store, fit, pictures / "augmented.png")]]
    return found


def draw_augmented(store: Store, fit: dict[str, Any], path: Path) -> list[Path]:
    """A grid of pictures and what the fit's training made of them, in a list; none where it took them as they are."""
    changes = augment.online_transforms(fit["section"]["task"])
    if not changes or not {"image", "label"} <= store.split("train").columns.keys():
        return []
    augment.draw_preview(store, path, changes, fit["seed"])
    return [path]


@torch.no_grad()
def serving_example(task: Task, state: State, feed: Feed) -> dict[str, dict[str, np.ndarray]] | None:
    """What a served model takes and gives, for two rows; None when there is nothing to serve."""
    if not task.inputs:
        return None
    batch = next(feed.batches(min(2, len(feed))))
    inputs = {name: batch[name] for name in task.inputs}
    outputs = task.predict(state, inputs)
    return {
        kind: {n: v.cpu().numpy() for n, v in part.items()} for kind, part in (("inputs", inputs), ("outputs", outputs))
    }


def describe_hardware(peers: Peers) -> str:
    """What the seconds were spent on: `1 worker on NVIDIA H100 80GB HBM3`, `2 workers on x86_64, 1 thread each`."""
    threads = torch.get_num_threads()
    of = f"{platform.machine()}, {threads} thread{'s' if threads > 1 else ''} each"
    if peers.device.type == "cuda":
        of = torch.cuda.get_device_name(peers.device)
    return f"{peers.size} worker{'s' if peers.size > 1 else ''} on {of}"


@torch.no_grad()
def model_cost(task: Task, state: State, feed: Feed) -> dict[str, float]:
    """Parameters of all modules; floating-point operations of predicting one example (a product and a sum are two)."""
    numbers = {"parameters": float(sum(p.numel() for module in state.modules.values() for p in module.parameters()))}
    if task.inputs and numbers["parameters"]:
        batch = next(feed.batches(1))
        with FlopCounterMode(display=False) as counter:
            task.predict(state, {name: batch[name] for name in task.inputs})
        numbers["flops"] = float(counter.get_total_flops())
    return numbers


def training_scores(
    task: Task, state: State, train: Feed, peers: Peers, most: int = TRAINING_EXAMPLES
) -> dict[str, float]:
    """Scores on (evenly spread) examples it learned from, as they are, without dropout: the gap's other side."""
    rows = train.rows[np.linspace(0, len(train) - 1, min(most, len(train))).astype(int)]
    return engine.evaluate(task, state, Feed(train.split, rows, peers.device), peers)[0]


def diagnosis_evidence(
    peers: Peers, task: Task, state: State, store: Store, train: Feed, seen: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """What `diagnoses` reads of a model: its scores `seen` and those on examples it learned from, and what it is."""
    return {
        "seen": seen | {"train": training_scores(task, state, train, peers)},
        "monitor": task.monitor,
        "parameters": parameter_count(state),
        "digest": str(store.manifest["digest"]),
        "trivial": trivial_loss(store.split("train")),
    }


def parameter_count(state: State) -> int:
    """Numbers that training may change."""
    return sum(p.numel() for module in state.modules.values() for p in module.parameters())


def score_models(
    peers: Peers, models: list[str], prepared: str, split: str
) -> list[tuple[dict[str, float], dict[str, np.ndarray], dict[str, Any]]]:
    """(scores, predictions, evidence) of each exported model on `split`; nothing is returned but from rank 0."""
    results = []
    store = Store(prepared)
    feed, train = (Feed(store.split(name), None, peers.device) for name in (split, "train"))
    for folder in models:
        if (classes := exported.class_names(folder)) != store.manifest["classes"]:
            raise Refusal(
                f"{folder}: tells {len(classes)} classes apart ({', '.join(classes[:3])}, ...), but {prepared} has"
                f" {len(store.manifest['classes'])}; train it on these data"
            )
        task, state = exported.read_model(folder, peers.device)
        scores, predictions = engine.evaluate(task, state, feed, peers)
        results.append((scores, predictions, diagnosis_evidence(peers, task, state, store, train, {split: scores})))
    return results
