"""Evaluations and served models that run out of memory predict smaller batches, and training is not blamed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from components.errors import Refusal
from components.search.attempt import Attempt
from components.search.objective import Objective, Rung
from components.storage.feed import Feed
from components.storage.store import Store
from components.training import evaluation
from components.training.memory import predict_within_memory
from components.training.task import Batch, Spec, State, Task


class Hungry(Task):
    """A task that predicts labels, for at most `most` rows at once."""

    monitor: ClassVar[tuple[str, str]] = ("accuracy", "max")

    def __init__(self, most: int, sequential: bool = False) -> None:
        self.most, self.batches = most, []
        self.sequential = sequential  # type: ignore[misc]

    def setup(self, spec: Spec) -> State:
        return State()

    def predict(self, state: State, batch: Batch) -> dict[str, torch.Tensor]:
        rows = len(batch["row"])
        self.batches.append(batch["row"].tolist())
        if rows > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return {"label": batch["label"]}

    def score(self, predictions: dict[str, np.ndarray], targets: dict[str, Any]) -> dict[str, float]:
        return {"accuracy": float((predictions["label"] == targets["label"]).mean())}


def train_split(digits: Path) -> Feed:
    return Feed(Store(digits / "prepared").split("train"))


def test_an_evaluation_out_of_memory_predicts_halves(digits: Path) -> None:
    """The order of the rows, and with it the score, stays."""
    feed, task = train_split(digits), Hungry(125)
    scores, predictions = evaluation.evaluate(task, State(), feed)
    assert scores == {"accuracy": 1.0}
    assert np.array_equal(predictions["label"], feed.column("label"))
    assert [len(rows) for rows in task.batches] == [500, 250, 125, 125, 250, 125, 125]


@pytest.mark.parametrize(("most", "calls"), [(500, 1), (499, 3)])
def test_a_batch_is_halved_only_if_it_does_not_fit(most: int, calls: int, digits: Path) -> None:
    task = Hungry(most)
    evaluation.evaluate(task, State(), train_split(digits))
    assert len(task.batches) == calls


def test_texts_are_not_cut() -> None:
    """The batch is cut between texts, as near to its middle as possible; a text that does not fit is refused."""
    rows = torch.tensor([3, 4, 5, 6, 7, 20, 21, 40])
    task = Hungry(5, sequential=True)
    batch = {"row": rows, "label": rows * 2}
    assert predict_within_memory(task, State(), batch)["label"].tolist() == (rows * 2).tolist()
    assert task.batches[1:] == [[3, 4, 5, 6, 7], [20, 21, 40]]
    with pytest.raises(Refusal, match=r"^evaluation: .*predict 5 examples at once"):
        predict_within_memory(Hungry(4, sequential=True), State(), batch)


def test_another_error_of_a_prediction_stays() -> None:
    task = SimpleNamespace(predict=lambda state, batch: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        predict_within_memory(task, State(), {"row": torch.arange(2)})


def score_rung(digits: Path, task: Hungry, rungs: list[Rung], rung: Rung) -> dict[str, float]:
    rungs.append(rung)
    return evaluation.evaluate(task, State(), train_split(digits))[0]


@pytest.mark.parametrize("most", [100, 0])
def test_a_search_does_not_take_it_for_lack_of_memory_in_training(most: int, digits: Path, tmp_path: Path) -> None:
    """A rung is run once, whether the halves fit or not even a single example does."""
    rungs: list[Rung] = []
    objective = Objective(partial(score_rung, digits, Hungry(most), rungs), {"a": {}}, 1, ("accuracy", "max"))
    worker = Attempt(objective, tmp_path, "search", {"arm": "a", "number": 0, "values": "{}", "until": 1})
    if most:
        assert worker.step() == {"accuracy": 1.0, "done": True}
    else:
        with pytest.raises(Refusal, match=r"^evaluation: .*predict 1 example at once"):
            worker.step()
    assert [rung.accumulate for rung in rungs] == [1]


def test_lack_of_memory_for_the_scores_is_refused(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(*_: Any) -> dict[str, float]:
        raise MemoryError

    task = Hungry(1000)
    monkeypatch.setattr(task, "score", score)
    with pytest.raises(Refusal, match=r"^evaluation: there is too little memory for the examples or their scores"):
        evaluation.evaluate(task, State(), train_split(digits))
