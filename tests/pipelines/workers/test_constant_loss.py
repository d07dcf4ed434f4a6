"""Check the loss of constant answers against formulas, and the diagnosis of fits that are compared with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.data.curve import Curve
from components.data.sine import Sine
from components.data.waves import Waves
from components.models.bert import BERT
from components.models.mlp import MLP
from components.models.nadaraya_watson import NadarayaWatson
from components.models.window_linear import WindowLinear
from components.recipes import recipe
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from components.tasks.classification import Classification
from components.tasks.forecast import Forecast
from components.tasks.kernel_regression import KernelRegression
from components.tasks.multi_label import MultiLabel
from components.tasks.picture_regression import PictureRegression
from components.tasks.regression import Regression
from components.tasks.sentences import SentenceClassification
from components.tasks.text_classification import TextClassification
from components.tasks.window_forecast import WindowForecast
from components.training.peers import Peers
from components.verdicts.diagnosis import trivial_loss
from pipelines.stage.diagnoses import write_verdict
from pipelines.workers import training
from pipelines.workers.records import FitJob
from pipelines.workers.scoring import constant_loss

ROOT = Path(__file__).parents[3]
LINE = partial(MLP, hidden=[], dropout=0.0)


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("curve")
    prepare_dataset(Curve(train=40), folder)
    return Store(folder)


def test_the_constant_of_a_regression_is_the_mean_or_the_median(curve: Store) -> None:
    y = curve.split("train").array("y").astype(np.float64)
    assert constant_loss(Regression(LINE), curve) == pytest.approx(y.var())
    absolute = Regression(LINE, criterion="mae")
    assert constant_loss(absolute, curve) == pytest.approx(np.abs(y - np.median(y)).mean())
    assert constant_loss(absolute, curve, objective=False) == pytest.approx(np.square(y - np.median(y)).mean())
    assert constant_loss(KernelRegression(NadarayaWatson), curve) == pytest.approx(y.var())


def test_the_constant_of_a_forecast_is_that_of_one_step(tmp_path: Path) -> None:
    prepare_dataset(Sine(train=80, validation=20, test=20), tmp_path)
    store = Store(tmp_path)
    y = store.split("train").array("y").astype(np.float64)
    assert constant_loss(Forecast(LINE, ahead=[1, 4]), store) == pytest.approx(y.var())


def test_the_constant_of_a_window_forecast_is_the_mean_of_each_step(tmp_path: Path) -> None:
    prepare_dataset(Waves(train=200, validation=100, test=100, noise=0.5), tmp_path)
    store = Store(tmp_path)
    y = store.split("train").array("y").astype(np.float64)
    deviation = np.array([2.0, 1.0, 0.5])
    task = WindowForecast(WindowLinear)
    assert constant_loss(task, store) is None, "the scores have no unit yet"
    task.moments["y"] = (torch.zeros(3), torch.tensor(deviation, dtype=torch.float32))
    assert constant_loss(task, store) == pytest.approx((y.var(0) / deviation**2).mean(), rel=1e-5)


def test_the_constant_of_a_classification_has_the_entropy_of_the_labels(digits: Path) -> None:
    store = Store(digits / "prepared")
    assert constant_loss(Classification(LINE), store) == pytest.approx(trivial_loss(store.split("train")))


@pytest.mark.parametrize("kind", [SentenceClassification, TextClassification])
def test_the_constant_of_texts_is_the_most_frequent_class(kind: Callable[..., Any]) -> None:
    label = np.array([0, 2, 2, 1, 2])
    answer = kind(model=BERT).constant({"label": label}, 3)
    assert answer["label"].tolist() == [2, 2, 2]
    assert answer["probability"].tolist() == [[0.2, 0.2, 0.6]] * 3
    scores = kind(model=BERT).score(kind(model=BERT).constant({"label": label}, 5), {"label": label})
    assert scores["accuracy"] == pytest.approx(0.6), "a task that is not set up yet scores its constant"
    assert scores["loss"] == pytest.approx(-np.mean(np.log([0.2, 0.6, 0.6, 0.2, 0.6])))


def test_the_constants_of_pictures_are_the_median_and_the_frequency_of_each_tag() -> None:
    value = PictureRegression(LINE).constant({"y": np.array([0.0, 1.0, 8.0])}, 2)
    assert value["y"].tolist() == [1.0, 1.0]
    tags = MultiLabel(LINE).constant({"labels": np.array([[1, 0], [1, 1], [1, 0], [0, 0]])}, 2)
    assert tags["labels"].tolist() == [[1, 0]] * 2
    assert tags["probability"].tolist() == [[0.75, 0.25]] * 2


@pytest.mark.parametrize(
    ("system", "verdict"),
    [
        ("attention/average", "model bias"),
        ("attention/parametric", "model bias"),
        ("sequence/linear", "fine"),
        ("forecast/linear", "model bias"),
        ("studies/regression", "optimisation"),
    ],
)
def test_regressions_forecasts_and_kernels_are_diagnosed(
    system: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fit recipes without classes; a line through a curve learns next to nothing, and forecasts a sine wave."""
    content = recipe.load(ROOT / f"pipelines/{system}.yaml")
    monkeypatch.chdir(tmp_path)
    job = FitJob({"task": content["task"], "fit": content["fit"]}, run="run", out="model", seed=0)
    result = training.fit_and_score(Peers(), content["data"], "data", job)
    assert result is not None
    diagnosis = write_verdict(Path("run"), system, result.measurements)
    assert diagnosis.verdict == verdict, diagnosis
