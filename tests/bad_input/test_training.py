"""Bad settings of training, unusable models, and a loss that diverges.

A damaged checkpoint is repaired instead of refused (test_same_bytes.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components import optimizers
from components.models.lenet import LeNet
from components.models.resnet import ResNet
from components.recipes import recipe
from components.storage import dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.classification import Classification
from components.training import checkpoint, engine, exported
from components.training.task import State
from pipelines.door import exit_code
from pipelines.workers import training
from tests.bad_input.case import Call, Case, Setup, case_id, check_case


def train(*, task: type[Classification] = Classification, **options: Any) -> Setup:
    """Training of a small network on 100 digits."""

    def setup(folder: Path) -> Call:
        digits = {"use": "data.digits.Digits", "labels": 100, "size": 28}
        dataset.prepare_dataset(recipe.build(digits, dataset.Dataset), folder / "data")
        (folder / "statistics.json").write_text(json.dumps({"mean": [0.3], "std": [0.3]}))
        built = task(LeNet, partial(optimizers.sgd, lr=0.01))
        feed = Feed(Store("data").split("train"))
        spec = training.read_spec("data", ".")
        fit = {"epochs": 30, "batch": 20, "log_every": 4, "checkpoint_seconds": 1e-9} | options
        return lambda: engine.fit(built, spec, feed, None, Path("run"), **fit) and 0

    return setup


class Poisoned(Classification):
    """Classification whose loss is NaN for every batch with row 17, from step 50 on."""

    def loss(self, state: State, shard: Any) -> Any:
        loss, metrics = super().loss(state, shard)
        is_poisoned = state.step >= 50 and bool((shard.batch["row"] == 17).any())
        return loss * (float("nan") if is_poisoned else 1.0), metrics


def start_from(write_model: Callable[[Path], Any]) -> Setup:
    """Classification that starts from the model in the folder `before`."""

    def setup(folder: Path) -> Call:
        write_model(folder / "before")
        task = Classification(LeNet, start="before")
        return lambda: task.setup(training.Spec({"image": (28, 28, 1)}, ("a", "b"), {"mean": [0.0], "std": [1.0]}))

    return setup


def export_other_network(folder: Path) -> None:
    spec = training.Spec({"image": (16, 16, 1)}, ("a", "b"), {"mean": [0.0], "std": [1.0]})
    task = Classification(LeNet)
    exported.write_model(folder, task.setup(spec), spec, {"use": "tasks.classification.Classification"})


CASES = [
    # training
    Case(
        "a loss that is no number",
        train(task=Poisoned),
        "; lower the learning rate or set fit.clip",
        ("run", "run/*", "run/*/*"),
    ),
    Case("a batch larger than the data", train(batch=101), "fit.batch: 101 is larger than the 100 training examples"),
    Case("fewer examples than shards", train(batch=2, shards=4), "fit.batch: 2 is smaller than fit.shards: 4"),
    Case("patience without a validation split", train(patience=2), "need a validation split"),
    Case("a network of no stage", lambda folder: lambda: ResNet(1, (8, 8), 2, widths=[]), "model.widths: is empty"),
    Case("nothing to fine-tune from", start_from(lambda f: None), "task.start: no before/weights.safetensors"),
    Case("another network there", start_from(export_other_network), "weights.safetensors holds another network"),
    Case("no export there", lambda folder: lambda: exported.read_model("gone"), "gone: holds no exported model"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_bad_input_gets_one_line_and_exit_code_2(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    check_case(case, tmp_path, capsys)


def test_a_diverged_loss_is_reported_with_step_rows_and_the_checkpoint_before(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert exit_code(train(task=Poisoned)(tmp_path)) == 2
    message = capsys.readouterr().err
    report = json.loads(Path("run/diverged.json").read_text())
    assert f"step {report['step']}: the loss became nan on training rows" in message
    assert 17 in report["rows"]
    assert len(report["rows"]) == 20
    order = Feed(Store("data").split("train")).order(20, 0)
    first = next(step for step in range(50, 100) if 17 in order.indices(step))
    assert report["step"] == first + 1, "the exact step, although the journal has one line per four steps"
    last_checkpoint = checkpoint.list_checkpoints(Path("run"))[0]
    assert str(last_checkpoint) in message
    assert report["step"] - 4 <= checkpoint.read_checkpoint(last_checkpoint)[1]["step"] < report["step"]
