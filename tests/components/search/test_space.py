"""Test that invalid search spaces are refused, and that a grid has every combination."""

from __future__ import annotations

import math

import pytest

from components.errors import Refusal
from components.search.space import check_space, grid_combinations

VALUES = {
    "fit.batch": 16,
    "fit.clip": 1.0,
    "task.optimizer.use": "optimizers.adam",
    "task.optimizer.lr": 0.1,
    "task.model.use": "models.resnet.ResNet",
    "task.model.blocks": 1,
}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "must map"),
        ({"fit.bach": {"choices": [1]}}, "did you mean 'fit.batch'"),
        ({"fit.batch": {"low": 1}}, "needs {low, high}"),
        ({"fit.batch": {"choices": []}}, "needs {low, high}"),
        ({"fit.batch": {"low": 4, "high": 2}}, "low must be below high"),
        ({"fit.batch": {"low": 0, "high": 2, "log": True}}, "above 0 on a log scale"),
        ({"fit.batch": {"low": "a", "high": "b"}}, "numbers"),
        ({"fit.batch": {"low": 1, "high": math.inf}}, "finite numbers"),
        ({"fit.clip": {"low": 1, "high": 4}}, "but this argument takes fractions; write {low: 1.0, high: 4.0}"),
        ({"task.optimizer.lr": {"low": 1, "high": 2}}, "or {choices: [...]}"),
        ({"fit.batch": 4}, "needs {low, high}"),
        ({"task.optimizer": {"choices": [{"use": "optimizers.sgd"}]}}, "only search.sampler: grid can try"),
    ],
)
def test_an_invalid_space_is_refused(space: dict, message: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_space(space, VALUES)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "space",
    [
        {"fit.batch": {"low": 1, "high": 4}},
        {"task.model.blocks": {"low": 1, "high": 4}},
        {"fit.clip": {"low": 1.0, "high": 4.0}},
        {"task.optimizer.lr": {"low": 0.5, "high": 2}},
    ],
)
def test_integer_bounds_are_accepted_for_integer_arguments(space: dict) -> None:
    check_space(space, VALUES)


def test_a_grid_takes_choices_only_and_may_try_whole_sections() -> None:
    sections = [{"use": "optimizers.sgd"}, {"use": "optimizers.adam"}]
    check_space({"task.optimizer": {"choices": sections}}, VALUES, sampler="grid")
    with pytest.raises(Refusal, match="a grid needs"):
        check_space({"fit.batch": {"low": 1, "high": 9}}, VALUES, sampler="grid")


def test_the_last_key_of_a_grid_changes_fastest() -> None:
    assert grid_combinations({"a": {"choices": [1, 2]}, "b": {"choices": ["x", "y"]}}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
