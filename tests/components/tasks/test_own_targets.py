"""Tags and numbers of pictures, and forecasts of tables: losses by hand, scores as in scikit-learn."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn
from torch.nn import functional as F

from components.errors import Refusal
from components.metrics.multi_label import average_precisions, multi_label_scores
from components.models.convnet import ConvNet
from components.models.softmax import Softmax
from components.models.window_gru import WindowGRU
from components.models.window_linear import WindowLinear
from components.tasks.multi_label import MultiLabel
from components.tasks.picture_regression import PictureRegression
from components.tasks.window_forecast import WindowForecast
from components.training.peers import Peers
from components.training.task import Shard, Spec
from components.training.update import ShardedUpdate

PIXELS = {"mean": [0.5], "std": [0.25]}
IMAGES = torch.randint(0, 256, (8, 4, 4, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_multi_label_scores_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((80, 5)) < [0.1, 0.3, 0.5, 0.9, 0.05]).astype(np.uint8)
    probability = np.round(np.clip(labels * 0.3 + random.random((80, 5)) * 0.7, 0, 1), 1)  # with many equal values
    values = average_precisions(probability, labels)
    expected = [metrics.average_precision_score(labels[:, tag], probability[:, tag]) for tag in range(5)]
    assert values == pytest.approx(expected)
    scores = multi_label_scores(probability, labels)
    answer = probability > 0.5
    assert scores["map"] == pytest.approx(np.mean(expected))
    assert scores["micro_f1"] == pytest.approx(metrics.f1_score(labels, answer, average="micro"))
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(labels, answer, average="macro", zero_division=0))
    assert scores["exact_match"] == pytest.approx(metrics.accuracy_score(labels, answer))
    assert np.isnan(average_precisions(probability[:3], np.zeros((3, 5)))).all()


def test_multi_label_has_one_sigmoid_per_tag() -> None:
    task = MultiLabel(partial(Softmax))
    state = task.setup(Spec({"image": (4, 4, 1), "labels": (3,)}, ("a", "b", "c"), PIXELS))
    labels = torch.randint(0, 2, (8, 3), dtype=torch.uint8)
    loss, measured = task.loss(state, Shard({"image": IMAGES, "labels": labels}, torch.Generator(), 0))
    logits = state.modules["net"]((IMAGES.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)
    torch.testing.assert_close(loss, F.binary_cross_entropy(logits.sigmoid(), labels.float()))
    predictions = task.predict(state, {"image": IMAGES})
    assert torch.equal(predictions["labels"] == 1, logits > 0)
    assert float(measured["accuracy"]) == pytest.approx(float(((logits > 0) == (labels == 1)).float().mean()))
    of_split = {"probability": predictions["probability"].detach().numpy()}
    figure: Any = task.draw(state, of_split, {"labels": labels.numpy()})["tags"]
    bars = [bar for group in figure.axes[0].containers for bar in group]
    assert {bar.get_x() for bar in bars} == {0}
    assert max(bar.get_width() for bar in bars) <= 1
    with pytest.raises(Refusal, match="MultiLabel needs a column 'labels'"):
        MultiLabel(partial(Softmax)).setup(Spec({"image": (4, 4, 1), "label": ()}, ("a",), PIXELS))


@pytest.mark.parametrize(
    ("build", "column", "values"),
    [
        (MultiLabel, "labels", torch.eye(3, dtype=torch.uint8).repeat(3, 1)[:8]),
        (PictureRegression, "y", torch.arange(8.0)),
    ],
)
def test_a_frozen_body_keeps_its_weights_and_batch_statistics(build: Any, column: str, values: torch.Tensor) -> None:
    columns = {"image": (4, 4, 1), column: tuple(values.shape[1:])}
    statistics = {**PIXELS, "moments": {"y": {"mean": [3.5], "std": [2.3]}}}
    bytes_before, bytes_after = [], []
    for rate in (0.0, 0.1):
        task = build(partial(ConvNet, convolutions=[1], widths=[4], norm=nn.BatchNorm2d), body_rate=rate)
        state = task.setup(Spec(columns, ("a", "b", "c"), statistics))
        net = state.modules["net"].train()
        bytes_before.append({name: value.clone() for name, value in net.state_dict().items()})
        update = ShardedUpdate(state, Peers())
        update.begin([{"image": IMAGES, column: values, "row": torch.arange(8)}], [8])
        task.step(state, update)
        bytes_after.append(net.state_dict())
    changed = [
        {name for name in before if not torch.equal(before[name], after[name])}
        for before, after in zip(bytes_before, bytes_after, strict=True)
    ]
    assert changed[0] == {"head.weight", "head.bias"}
    assert any("running_mean" in name for name in changed[1])


def test_regression_does_not_depend_on_the_unit() -> None:
    y = torch.arange(8.0)
    losses = []
    for factor, shift in ((1.0, 0.0), (1000.0, 50.0)):
        values = y * factor + shift
        moments = {"y": {"mean": [float(values.mean())], "std": [float(values.std(correction=0))]}}
        task = PictureRegression(partial(Softmax))
        torch.manual_seed(0)
        state = task.setup(Spec({"image": (4, 4, 1), "y": ()}, (), {**PIXELS, "moments": moments}))
        loss, measured = task.loss(state, Shard({"image": IMAGES, "y": values}, torch.Generator(), 0))
        predicted = task.predict(state, {"image": IMAGES})["y"]
        assert float(measured["mae"]) == pytest.approx(float((predicted - values).detach().abs().mean()), rel=1e-5)
        losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    with pytest.raises(Refusal, match="PictureRegression needs a column 'y' of one number"):
        task.setup(Spec({"image": (4, 4, 1), "y": (3, 2)}, (), PIXELS))


SHAPES = {"x": (6, 3), "y": (4, 2), "last": (2,), "time": ()}
MOMENTS = {"x": {"mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 4.0]}, "y": {"mean": [1.0, 3.0], "std": [1.0, 4.0]}}


def test_a_forecast_is_scored_in_deviations_and_against_the_last_value() -> None:
    task = WindowForecast(partial(WindowLinear))
    task.setup(Spec(SHAPES, ("a", "b"), {"moments": MOMENTS}))
    y = np.random.default_rng(0).normal(size=(5, 4, 2)).astype(np.float32)
    last = np.zeros((5, 2), np.float32)
    repeated = np.repeat(last[:, None], 4, 1)
    targets = {"y": y, "last": last, "time": np.arange(5)}
    assert task.score({"y": repeated}, targets)["skill"] == pytest.approx(0)
    assert task.score({"y": y}, targets)["skill"] == pytest.approx(1)
    scores = task.score({"y": y + np.array([1.0, 4.0])}, targets)
    assert (scores["mse"], scores["mae"]) == pytest.approx((1, 1), rel=1e-5)
    assert (scores["mae_a"], scores["mae_b"]) == pytest.approx((1, 4), rel=1e-5)
    assert set(task.draw(None, {"y": y}, targets)) == {"horizon", "series"}  # type: ignore[arg-type]


def test_a_forecast_learns_in_deviations_and_answers_in_units() -> None:
    task = WindowForecast(partial(WindowGRU, hidden=8))
    state = task.setup(Spec(SHAPES, ("a", "b"), {"moments": MOMENTS}))
    x, y = torch.randn(5, 6, 3), torch.randn(5, 4, 2)
    loss, _ = task.loss(state, Shard({"x": x, "y": y}, torch.Generator(), 0))
    predicted = task.predict(state, {"x": x})["y"]
    assert float(loss.detach()) == pytest.approx(
        float((((predicted - y) / torch.tensor([1.0, 4.0])) ** 2).mean().detach()), rel=1e-5
    )
    with pytest.raises(Refusal, match="WindowForecast needs x"):
        task.setup(Spec({"x": (4,), "y": ()}, (), {}))


def test_the_linear_forecast_with_differences_moves_with_its_input() -> None:
    net = WindowLinear(window=6, columns=2, horizon=4, targets=2, difference=True)
    x = torch.randn(3, 6, 2)
    torch.testing.assert_close(net(x + 5), net(x) + 5)
    assert WindowLinear(window=6, columns=3, horizon=4, targets=2)(torch.randn(3, 6, 3)).shape == (3, 4, 2)
    with pytest.raises(Refusal, match="difference: needs all columns as targets"):
        WindowLinear(window=6, columns=3, horizon=4, targets=2, difference=True)
