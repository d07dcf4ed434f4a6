"""Run small fits on digits, of networks and options that carry state from step to step, and read their results."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

from components import optimizers, schedules
from components.augment.affine import RandomAffine
from components.models.lenet import LeNet
from components.models.resnet import ResNet
from components.runs import journal
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.classification import Classification
from components.training import checkpoint, engine
from components.training.peers import Peers
from components.training.task import Spec
from pipelines.workers.training import read_spec

FIT = {"epochs": 2, "batch": 60, "shards": 4, "log_every": 3, "checkpoint_seconds": 0.01}

# options of each kind; together they cover every option that carries state from step to step
OPTIONS = {
    "lenet": {"clip": 1.0, "ema": 0.9},
    "resnet": {"clip": 1.0, "ema": 0.9, "keep": "best", "noise_scale": True},
    "patient": {"patience": 1, "epochs": 9, "evaluate_every": 2},
    "bfloat16": {"precision": "bfloat16", "accumulate": 2, "noise_scale": True},
}


def tasks(kind: str) -> Classification:
    if kind in ("lenet", "patient", "bfloat16"):  # bfloat16 convolutions are slow on most processors
        return Classification(LeNet, partial(optimizers.adamw, lr=0.003), augment=[partial(RandomAffine, degrees=10)])
    small = partial(ResNet, widths=[8, 16], blocks=1, stem="cifar", dropout=0.2)
    return Classification(small, partial(optimizers.sgd, lr=0.1, momentum=0.9), label_smoothing=0.1)


def feeds(digits: Path) -> tuple[Feed, Feed]:
    store = Store(digits / "prepared")
    return Feed(store.split("train")), Feed(store.split("test"))


def spec(digits: Path) -> Spec:
    return read_spec(str(digits / "prepared"), str(digits / "augmented"))


def run(peers: Peers, kind: str, digits: Path, folder: Path, until: int | None = None, **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    train, test = feeds(digits)
    options = FIT | {"schedule": partial(schedules.cosine, warmup=0.1)} | OPTIONS[kind]
    engine.fit(tasks(kind), spec(digits), train, test, folder, peers, until=until, **options, **more)


def result(folder: Path) -> tuple[str, list]:
    """Return the digest of everything saved (weights, averages, optimiser state), and every metric line."""
    tensors, record = checkpoint.read_checkpoint(checkpoint.list_checkpoints(folder)[0])
    digest = hashlib.sha256(b"".join(k.encode() + tensors[k].numpy().tobytes() for k in sorted(tensors)))
    digest.update(json.dumps([record["step"], record["scalars"]], sort_keys=True).encode())
    return digest.hexdigest(), journal.read_metrics(folder)
