"""Check a linear autoregressive model against its closed form, k-step predictions, and errors that grow with k."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from components.data.sine import Sine
from components.errors import Refusal
from components.models.mlp import MLP
from components.optimizers import sgd
from components.schedules import cosine
from components.storage.dataset import prepare_dataset
from components.storage.feed import Feed
from components.storage.store import Store
from components.tasks.forecast import Forecast, horizon_errors
from components.training import engine, evaluation
from components.training.task import Spec

TAU = 4
LINEAR = partial(MLP, hidden=[], dropout=0.0)
SPEC = Spec({"x": (TAU,), "y": (), "time": ()}, (), {})


@pytest.fixture(scope="module")
def data() -> Sine:
    return Sine(train=600, validation=100, test=400, tau=TAU)


@pytest.fixture(scope="module")
def store(data: Sine, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("sine")
    prepare_dataset(data, folder)
    return Store(folder)


@pytest.fixture(scope="module")
def fitted(store: Store) -> tuple[Forecast, engine.Outcome]:
    train = Feed(store.split("train"))
    task = Forecast(LINEAR, partial(sgd, lr=0.1, momentum=0.9))
    return task, engine.fit(task, SPEC, train, epochs=400, batch=len(train), shards=2, schedule=partial(cosine))


def closed_form(series: np.ndarray) -> np.ndarray:
    """Return the least-squares weights and bias [TAU + 1] of each value on the TAU values before it."""
    windows = np.lib.stride_tricks.sliding_window_view(series.astype(np.float64), TAU + 1)
    return np.linalg.lstsq(np.column_stack([windows[:, :-1], np.ones(len(windows))]), windows[:, -1], rcond=None)[0]


def test_the_weights_are_the_closed_form_of_the_training_split(fitted: tuple, data: Sine) -> None:
    """Check to 1e-3; the closed form of the entire series differs by more."""
    head = fitted[1].state.modules["net"].get_submodule("head")
    weights = torch.cat([head.weight[0], head.bias]).detach().numpy()
    past = closed_form(data.series[:600])
    assert weights == pytest.approx(past, abs=1e-3)
    assert np.abs(closed_form(data.series) - past).max() > 5e-3, "the comparison must distinguish the two series"


def test_each_prediction_is_fed_back(fitted: tuple, store: Store, data: Sine) -> None:
    task, outcome = fitted
    scores, predictions = evaluation.evaluate(task, outcome.state, test := Feed(store.split("test")))
    head = outcome.state.modules["net"].get_submodule("head")
    weight, bias = head.weight[0].detach().numpy(), head.bias.item()
    time, truth = test.column("time"), {}
    for row in (0, 57, len(test) - 1):
        series = data.series[time[row] - TAU : time[row]].tolist()
        for k in range(64):
            series.append(float(weight @ series[-TAU:] + bias))
            truth[row, k] = series[-1]
    assert [predictions["ahead"][at] for at in truth] == pytest.approx(list(truth.values()), abs=1e-4)
    assert np.array_equal(predictions["ahead"][:, 0], predictions["y"])
    assert scores["error_1"] == pytest.approx(np.sqrt(scores["mse"]))
    last = predictions["ahead"][:-63, 63] - data.series[time[:-63] + 63]
    assert scores["error_64"] == pytest.approx(np.sqrt(np.square(last, dtype=np.float64).mean()), rel=1e-5)


def test_errors_grow_with_the_steps(fitted: tuple, store: Store) -> None:
    scores = evaluation.evaluate(*fitted[:1], fitted[1].state, Feed(store.split("test")))[0]
    grown = [scores[f"error_{k}"] for k in (1, 4, 16, 64)]
    assert grown == sorted(grown)
    assert grown[-1] > 3 * grown[0]


def test_errors_are_matched_by_time_in_any_row_order() -> None:
    """Check rows with gaps, as in a fold: predictions without a true value are left out."""
    random = np.random.default_rng(0)
    ahead, y, time = random.normal(size=(30, 5)), random.normal(size=30), random.permutation(60)[:30]
    value = dict(zip(time.tolist(), y, strict=True))
    for k, error in enumerate(horizon_errors(ahead, y, time)):
        pairs = [(ahead[n, k], value[t + k]) for n, t in enumerate(time.tolist()) if t + k in value]
        assert 0 < len(pairs) <= 30
        assert error == pytest.approx(np.sqrt(np.mean([(a - b) ** 2 for a, b in pairs])))


def test_pictures_show_the_error_over_k_and_the_series_at_its_times(fitted: tuple, store: Store, data: Sine) -> None:
    task, outcome = fitted
    predictions = evaluation.evaluate(task, outcome.state, test := Feed(store.split("test")))[1]
    drawn = task.draw(outcome.state, predictions, targets := evaluation.target_columns(task, test))
    assert set(drawn) == {"against", "error", "series"}
    (line,) = drawn["error"].axes[0].lines
    assert line.get_xdata().tolist() == list(range(1, 65))
    assert line.get_ydata() == pytest.approx(horizon_errors(predictions["ahead"], targets["y"], targets["time"]))
    lines = {line.get_label(): line for line in drawn["series"].axes[0].lines}
    assert list(lines) == ["truth", "1 ahead", "4 ahead", "16 ahead"]
    at = lines["16 ahead"].get_xdata()
    assert at[0] == test.column("time")[0] + 15
    assert len(at) == 300
    assert lines["truth"].get_ydata() == pytest.approx(data.series[lines["truth"].get_xdata()])


def test_unusable_arguments_are_refused() -> None:
    with pytest.raises(Refusal, match=r"task\.ahead: no two of 3 examples are 3 steps apart"):
        horizon_errors(np.zeros((3, 4)), np.zeros(3), np.arange(3))
    with pytest.raises(Refusal, match="name at least one number of steps"):
        Forecast(LINEAR, ahead=[])
    with pytest.raises(Refusal, match="needs a column 'time'"):
        Forecast(LINEAR).setup(Spec({"x": (TAU,), "y": ()}, (), {}))
