"""A served model answers requests that do not fit into memory at once."""

from __future__ import annotations

import numpy as np

from components.tracking.predictor import Predictor
from components.training.task import State
from tests.components.training.test_memory import Hungry


def test_a_request_out_of_memory_is_answered_in_halves() -> None:
    predictor = Predictor()
    predictor.task, predictor.state = Hungry(3), State()
    rows = np.arange(8)
    assert np.array_equal(predictor.predict(None, {"row": rows, "label": rows})["label"], rows)
    assert [len(batch) for batch in predictor.task.batches] == [8, 4, 2, 2, 4, 2, 2]
