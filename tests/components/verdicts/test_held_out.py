"""Held-out examples that a model was trained on are left out and counted."""

from __future__ import annotations

import numpy as np

from components.verdicts.gate import Gate
from components.verdicts.held_out import leave_out_training_examples

CONTENTS = np.array([10, 20, 30, 40, 50], np.uint64)


def record(*digests: int) -> np.ndarray:
    return np.array(digests, np.uint64)


def test_rows_that_either_model_was_trained_on_are_left_out() -> None:
    records = {"challenger": record(20, 99), "champion": record(20, 40)}
    held_out = leave_out_training_examples(CONTENTS, 5, records)
    assert held_out.rows.tolist() == [0, 2, 4]
    assert held_out.trained_on == {"challenger": 1, "champion": 2}
    assert held_out.describe() == [
        "2 of 5 held-out examples are left out: the challenger was trained on 1, the champion was trained on 2"
    ]


def test_rows_of_a_model_without_a_record_remain_and_a_line_names_it() -> None:
    held_out = leave_out_training_examples(CONTENTS, 5, {"challenger": record(10), "champion": None})
    assert held_out.rows.tolist() == [1, 2, 3, 4]
    assert held_out.describe()[1].startswith("not recorded: what the champion was trained on")
    without = leave_out_training_examples(None, 5, {"challenger": record(10)})
    assert without.rows.tolist() == [0, 1, 2, 3, 4]
    assert len(without.describe()) == 1


def test_a_line_says_that_nothing_had_to_be_left_out() -> None:
    held_out = leave_out_training_examples(CONTENTS, 5, {"challenger": record(1), "champion": record(2)})
    assert held_out.describe() == ["all 5 held-out examples are new to the challenger and the champion"]


def test_the_gate_needs_as_many_examples_as_it_says() -> None:
    gate = Gate(examples=7)
    assert gate.refuses(7) is None
    assert "6 held-out examples remain, at least 7 are needed (retrain.gate.examples)" in str(gate.refuses(6))
