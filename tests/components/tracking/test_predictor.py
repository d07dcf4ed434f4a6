"""A served model answers requests that do not fit into memory at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.errors import Refusal
from components.storage.dataset import prepare_dataset
from components.storage.store import Store
from components.tracking.predictor import Predictor
from components.training.task import State
from tests.components.tasks.test_finetuning import Toys, start
from tests.components.training.test_memory import Hungry


def test_a_request_out_of_memory_is_answered_in_halves() -> None:
    predictor = Predictor()
    predictor.task, predictor.state = Hungry(3), State()
    rows = np.arange(8)
    assert np.array_equal(predictor.predict(None, {"row": rows, "label": rows})["label"], rows)
    assert [len(batch) for batch in predictor.task.batches] == [8, 4, 2, 2, 4, 2, 2]


def test_a_model_of_texts_takes_texts(tmp_path: Path) -> None:
    """Check arrays of texts of both kinds, as MLflow passes them on."""
    prepare_dataset(Toys("sentences", 8), tmp_path)
    predictor = Predictor()
    predictor.task, predictor.state = start("sentences", Store(tmp_path))
    predictor.state.modules["net"].eval()
    texts = {"text": np.array(["the red dog", "a cow"]), "pair": np.array(["red dog", "a cow"], dtype=object)}
    answer = predictor.predict(None, texts)
    assert answer["label"].shape == (2,)
    assert answer["probability"].sum(1) == pytest.approx([1, 1])
    with pytest.raises(Refusal, match="text: text 1 is empty"):
        predictor.predict(None, texts | {"text": np.array(["the red dog", ""])})
    with pytest.raises(Refusal, match="input: has no 'pair'; send the columns text, pair"):
        predictor.predict(None, {"text": texts["text"]})
