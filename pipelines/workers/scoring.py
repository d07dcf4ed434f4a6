"""Measure trained models on the workers: scores, evidence for the diagnosis, cost, and an example for serving."""

from __future__ import annotations

import platform
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from components.errors import Refusal, pluralize
from components.recipes import recipe
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import evaluation, exported
from components.training.memory import to_host
from components.training.peers import Peers
from components.training.task import State, Task
from components.verdicts.diagnosis import Measurements, comparable_loss
from pipelines.workers.records import ScoredModel, ServingExample

TIMED_PREDICTIONS = 9
TRAINING_EXAMPLES = 2000  # most training examples that a model is scored on for its diagnosis


def score_models(peers: Peers, models: list[str], prepared: str, split: str) -> list[ScoredModel]:
    """Score the exported models in the folders `models` on `split`.

    Raise Refusal for a model whose classes are not those of the prepared data.
    """
    results = []
    peers.hand_over(prepared, *models)
    sections = [exported.task_section(folder) for folder in models]
    peers.hand_over(*(path for section in sections for path in recipe.possible_paths(section)))
    store = Store(prepared)
    feed = Feed(store.split(split), None, peers.device)
    train = Feed(store.split("train"), None, peers.device)
    for folder in models:
        classes = exported.class_names(folder)
        if classes != store.manifest["classes"]:
            raise Refusal(
                f"{folder}: the model was trained on {len(classes)} classes ({', '.join(classes[:3])}, ...), but"
                f" {prepared} has {len(store.manifest['classes'])}; train it on these data"
            )
        task, state = exported.read_model(folder, peers.device)
        scores, predictions = evaluation.evaluate(task, state, feed, peers)
        measurements = measure_model(peers, task, state, store, train, {split: scores})
        results.append(ScoredModel(scores, predictions, measurements))
    return results


def measure_model(
    peers: Peers, task: Task, state: State, store: Store, train: Feed, scores: dict[str, dict[str, float]]
) -> Measurements:
    """Return what the diagnosis needs of a model; `scores` {split: scores} are joined by those on the feed `train`."""
    return Measurements(
        scores=scores | {"train": training_scores(task, state, train, peers)},
        monitor=task.monitor,
        parameters=parameter_count(state),
        data=str(store.manifest["digest"]),
        trivial=constant_loss(task, store),
        objective=task.objective(),
    )


def constant_loss(task: Task, store: Store, objective: bool = True) -> float | None:
    """Return the loss of the task's best constant answer on the training split; None if the task has none.

    objective: in the unit that training minimises; otherwise in one that trials with other criteria share.
    """
    if type(task).constant is Task.constant:  # without it, the targets need not be read
        return None
    targets = evaluation.target_columns(task, Feed(store.split("train")))
    constant = task.constant(targets, store.manifest["splits"]["train"]["rows"])
    if constant is None:
        return None
    return comparable_loss(task.score(constant, targets), task.monitor, task.objective() if objective else "loss")


def training_scores(
    task: Task, state: State, train: Feed, peers: Peers, most: int = TRAINING_EXAMPLES
) -> dict[str, float]:
    """Return the scores on at most `most` evenly spaced training examples, without augmentation or dropout."""
    return evaluation.evaluate(task, state, Feed(train.split, train.sample(most), peers.device), peers)[0]


def parameter_count(state: State) -> int:
    """Return the number of parameters of all modules."""
    return sum(p.numel() for module in state.modules.values() for p in module.parameters())


@torch.no_grad()
def model_cost(task: Task, state: State, feed: Feed) -> dict[str, float]:
    """Return the number of parameters, and the floating-point operations and seconds of predicting one example.

    A multiplication and an addition count as two operations. The seconds are the least of TIMED_PREDICTIONS, which the
    other work of a machine disturbs least. Neither is measured for a task that is not served.
    """
    cost = {"parameters": float(parameter_count(state))}
    if task.inputs and cost["parameters"]:
        batch = next(feed.batches(1))
        inputs = task.serving_inputs(batch)
        with FlopCounterMode(display=False) as counter:
            task.predict(state, inputs)
        cost["flops"] = float(counter.get_total_flops())
        cost["predict_seconds"] = min(_time_prediction(task, state, inputs) for _ in range(TIMED_PREDICTIONS))
    return cost


def _time_prediction(task: Task, state: State, inputs: dict[str, Any]) -> float:
    """Return the seconds that one prediction takes until its values are on the host."""
    started = time.perf_counter()
    for values in task.predict(state, inputs).values():
        to_host(values)
    return time.perf_counter() - started


@torch.no_grad()
def serving_example(task: Task, state: State, feed: Feed) -> ServingExample | None:
    """Return rows and their predictions as a served model takes and returns them; None if the task is not served."""
    if not task.inputs:
        return None
    batch = next(feed.batches(min(2, len(feed))))
    inputs = task.serving_inputs(batch)
    outputs = task.predict(state, inputs)
    free: dict[str, list[int]] = {}
    if task.any_size:
        other_inputs = inputs | {"image": inputs["image"][:, 1:, 1:]}
        other_outputs = task.predict(state, other_inputs)
        for columns, other_columns in ((inputs, other_inputs), (outputs, other_outputs)):
            for name, values in columns.items():
                shapes = zip(values.shape[1:], other_columns[name].shape[1:], strict=True)
                free[name] = [place for place, (length, other) in enumerate(shapes) if length != other]
    return ServingExample(
        inputs={name: to_host(values) for name, values in inputs.items()},
        outputs={name: to_host(values) for name, values in outputs.items()},
        free=free,
    )


def describe_hardware(peers: Peers) -> str:
    """Return what a fit ran on, for example `1 worker on NVIDIA H200` or `2 workers on x86_64, 1 thread each`."""
    if peers.device.type == "cuda":
        device = torch.cuda.get_device_name(peers.device)
    else:
        threads = torch.get_num_threads()
        device = f"{platform.machine()}, {pluralize(threads, 'thread')} each"
    return f"{pluralize(peers.size, 'worker')} on {device}"
