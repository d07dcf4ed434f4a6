"""Train recipes on the workers: open the data, build the task, call the engine, export the weights.

The stages name these functions by their dotted paths: torch is imported on the workers, and in no driver.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from components.recipes import recipe
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import engine, evaluation, exported
from components.training.peers import Peers
from components.training.recorder import draw_pictures
from components.training.task import Spec, Task
from components.verdicts.diagnosis import Measurements, comparable_loss
from pipelines.workers.augmentation import draw_augmented, write_statistics
from pipelines.workers.preparation import write_section
from pipelines.workers.records import DataFacts, FitJob, FitResult
from pipelines.workers.scoring import (
    constant_loss,
    describe_hardware,
    measure_model,
    model_cost,
    parameter_count,
    serving_example,
    training_scores,
)


def read_spec(prepared: str, augmented: str) -> Spec:
    """Return shapes, classes and tokenizers of the prepared data, and the statistics that `augment` wrote."""
    store = Store(prepared)
    manifest = store.manifest
    columns = {name: tuple(column["shape"]) for name, column in manifest["columns"].items()}
    statistics = json.loads((Path(augmented) / "statistics.json").read_text())
    return Spec(columns, tuple(manifest["classes"]), statistics, store.tokenizers())


def train_feed(prepared: str, augmented: str, rows: np.ndarray | None = None, device: Any = None) -> Feed:
    """Return a feed of the training split: the originals, then the copies that `augment` derived from them."""
    derived = [augmented] if (Path(augmented) / "manifest.json").is_file() else []
    return Feed(Store(prepared).split("train", extra=derived), rows, device)


def train_all(peers: Peers, jobs: list[FitJob], prepared: str, augmented: str) -> list[dict[str, float]]:
    """Run all jobs; return the last scores of each.

    Each worker runs some jobs alone, without any exchange. Jobs that remain when these are shared out evenly are run
    by all workers together, if they have enough shards. The bytes are the same either way.
    """
    # A worker alone writes the model on its own machine. All workers run all jobs together if that may be elsewhere.
    remainder = len(jobs) % peers.size if peers.apart is None else len(jobs)
    fits = [recipe.fill_defaults("training.engine.fit", job.section["fit"]) for job in jobs[-remainder:]]
    if remainder and any(fit["shards"] < peers.size for fit in fits):
        remainder = 0
    separate = range(len(jobs) - remainder)
    with peers.independent() as alone:
        own = {
            number: fit_and_export(alone, jobs[number], prepared, augmented) for number in peers.share_at_home(separate)
        }
    scores = {number: last for share in peers.gather(own) for number, last in share.items()}
    together = [fit_and_export(peers, job, prepared, augmented) for job in jobs[len(separate) :]]
    return [scores[number] for number in separate] + together


def train_and_examine(peers: Peers, job: FitJob, prepared: str, augmented: str) -> Measurements:
    """Run one job on all workers; return the scores on the validation split, if there is one, and on training data."""
    scores = fit_and_export(peers, job, prepared, augmented)
    peers.gather(None)  # rank 0 has written the model
    peers.hand_over(job.out)
    task, state = exported.read_model(job.out, peers.device)
    feed = train_feed(prepared, augmented, None, peers.device)
    return measure_model(peers, task, state, Store(prepared), feed, {"validation": scores} if scores else {})


def fit_and_export(peers: Peers, job: FitJob, prepared: str, augmented: str) -> dict[str, float]:
    """Train in the folder `job.run`, from its last checkpoint if there is one, and export the weights into `job.out`.

    Return the last scores on the split that training watches; empty where it watches none.
    """
    peers.hand_over(prepared, augmented, *recipe.possible_paths(job.section["task"]))
    spec = read_spec(prepared, augmented)
    task: Task = recipe.build(job.section["task"], Task)
    store = Store(prepared)
    watched = watched_split(list(store.manifest["splits"]))
    validation = Feed(store.split(watched), None, peers.device) if watched else None
    folder = Path(job.run)
    if peers.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
    feed = train_feed(prepared, augmented, None, peers.device)
    arguments = {"seed": job.seed} | recipe.resolve_arguments(job.section["fit"], "training.engine.fit")
    outcome = engine.fit(task, spec, feed, validation, folder, peers, **arguments)
    if peers.rank == 0:
        exported.write_model(job.out, outcome.state, spec, job.section["task"], store.contents("train"))
    return outcome.scores


def watched_split(names: list[str]) -> str | None:
    """Return the split on which training is watched: validation, or train if it is the only one; never a test split."""
    if "validation" in names:
        return "validation"
    return "train" if names == ["train"] else None


def prepare_data(peers: Peers, data: dict[str, Any], folder: str, task: dict[str, Any]) -> DataFacts:
    """Prepare the section `data` below `folder`; check the data instead if they are there already."""
    prepared, augmented = Path(folder) / "prepared", Path(folder) / "augmented"
    exists = (augmented / "statistics.json").is_file()
    if exists and peers.rank == 0:
        Store(prepared).verify()
    if not peers.broadcast(exists):
        write_section(peers, data, prepared)
        peers.gather(None)  # all parts are written before any is read
        peers.hand_over(prepared)
        write_statistics(peers, Store(prepared), augmented)
        peers.gather(None)
    peers.hand_over(prepared, augmented, *recipe.possible_paths(task))
    built: Task = recipe.build(task, Task)
    built.check_data(read_spec(str(prepared), str(augmented)))
    manifest = Store(prepared).manifest
    trivial = constant_loss(built, Store(prepared), objective=False)
    return DataFacts(str(manifest["digest"]), tuple(manifest["splits"]), built.monitor, trivial)


def fit_and_score(peers: Peers, data: dict[str, Any], folder: str, job: FitJob) -> FitResult | None:
    """Prepare `data` below `folder`, run the job, and score the exported model on the split kept for the end.

    Draw the pictures beside the model's folder. Return None on all ranks but 0.
    """
    facts = prepare_data(peers, data, folder, job.section["task"])
    prepared, augmented = f"{folder}/prepared", f"{folder}/augmented"
    watched = fit_and_export(peers, job, prepared, augmented)
    peers.gather(None)  # rank 0 has written the model
    peers.hand_over(job.out)
    store = Store(prepared)
    split = store.final_split
    task, state = exported.read_model(job.out, peers.device)
    feed = Feed(store.split(split), None, peers.device)
    scores, predictions = evaluation.evaluate(task, state, feed, peers)
    # The exported task no longer names where its weights started; the recipe's does.
    trained: Task = recipe.build(job.section["task"], Task)
    tags = {f"tokenizer.{column}": digest for column, digest in exported.tokenizer_digests(job.out).items()}
    tags |= trained.tags(state, scores)
    targets = evaluation.target_columns(task, feed)
    outcomes = task.outcomes(predictions, targets)
    by_split = {split: scores}
    if split == "test" and watched:
        by_split["validation"] = watched
    if split != "train" and comparable_loss(scores, task.monitor, task.objective()) is not None:
        train = train_feed(prepared, augmented, None, peers.device)
        by_split["train"] = training_scores(task, state, train, peers)
    if peers.rank > 0:
        return None
    example, cost = serving_example(task, state, feed), model_cost(task, state, feed)
    pictures = Path(job.out).parent / "pictures"
    files = draw_pictures(task, state, predictions, targets, pictures)
    files += draw_augmented(store, job.section["task"], pictures / "augmented.png", job.seed)
    return FitResult(
        split=split,
        scores=scores,
        examples=store.manifest["splits"]["train"]["rows"],
        outcomes=outcomes,
        measurements=Measurements(
            by_split,
            facts.monitor,
            parameter_count(state),
            facts.digest,
            trivial=constant_loss(task, store),
            objective=task.objective(),
        ),
        tags=tags,
        requires=task.requires,
        example=example,
        cost=cost,
        hardware=describe_hardware(peers),
        pictures=tuple(map(str, files)),
    )
