"""Test that invalid search spaces are refused, and that a grid has every combination."""

from __future__ import annotations

import math

import pytest

from components.errors import Refusal
from components.search.parameters import compose, decompose, list_parameters, sample_ends
from components.search.space import check_space, check_start, grid_combinations

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
        (
            {"task.optimizer": {"choices": [{"use": "optimizers.sgd", "lr": {"low": 1, "high": 2}}]}},
            "tune.space.task.optimizer.lr: between whole bounds only whole numbers",
        ),
        (
            {"task.optimizer": {"choices": [{"use": "optimizers.sgd", "lr": {"low": 0.2, "high": 0.1}}]}},
            "tune.space.task.optimizer.lr: low must be below high",
        ),
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


SECTIONS = {
    "optimizer": {
        "choices": [
            {"use": "a.sgd", "lr": {"low": 0.1, "high": 0.5}, "parts": [{"size": {"choices": [1, 2, 3]}}]},
            {"use": "b.sgd"},
            None,
        ]
    }
}


def test_a_space_is_broken_into_parameters_and_put_together_again() -> None:
    assert list_parameters(SECTIONS) == {
        "optimizer": {"choices": ["sgd", "sgd-2", "None"]},
        "optimizer.sgd.lr": {"low": 0.1, "high": 0.5},
        "optimizer.sgd.parts.0.size": {"choices": [1, 2, 3]},
    }
    chosen = {"optimizer": "sgd", "optimizer.sgd.lr": 0.3, "optimizer.sgd.parts.0.size": 2}
    value = compose("optimizer", SECTIONS["optimizer"], lambda name, entry: chosen[name])
    assert value == {"use": "a.sgd", "lr": 0.3, "parts": [{"size": 2}]}
    assert decompose("optimizer", SECTIONS["optimizer"], value) == chosen
    assert decompose("optimizer", SECTIONS["optimizer"], {"use": "b.sgd"}) == {"optimizer": "sgd-2"}
    for outside in ({"use": "c.sgd"}, value | {"lr": 0.6}, value | {"lr": True}, {"use": "b.sgd", "lr": 1}, 7):
        assert decompose("optimizer", SECTIONS["optimizer"], outside) is None
    ends = sample_ends(SECTIONS["optimizer"])
    assert {end["lr"] for end in ends if end and "lr" in end} == {0.1, 0.5}
    assert {end["parts"][0]["size"] for end in ends if end and "lr" in end} == {1, 2, 3}
    assert ends[-2:] == [{"use": "b.sgd"}, None]


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ([{"x": 1}, {"x": 2}, {"x": 3}], "has 3 starting points, but there are only 2 samples"),
        ([{}], r"\[0\]: must map keys"),
        ([{"y": 1}], r"\[0\]: 'y' is not searched"),
        ([{"x": 5}, {"x": 11}], r"\[1\]: x = 11 is outside the searched space; widen the space"),
    ],
)
def test_a_starting_point_outside_the_space_is_refused(start: list, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        check_start(start, {"x": {"low": 1, "high": 10}}, 2, "search.start")


def test_sections_of_a_grid_have_choices_of_their_own() -> None:
    space = {"optimizer": {"choices": [{"use": "a", "lr": {"choices": [1, 2]}}, {"use": "b"}]}}
    assert grid_combinations(space) == [
        {"optimizer": {"use": "a", "lr": 1}},
        {"optimizer": {"use": "a", "lr": 2}},
        {"optimizer": {"use": "b"}},
    ]
    with pytest.raises(Refusal, match=r"optimizer.lr: a grid needs"):
        check_space(
            {"task.optimizer": {"choices": [{"use": "optimizers.sgd", "lr": {"low": 0.1, "high": 0.2}}]}},
            VALUES,
            sampler="grid",
        )


def test_the_last_key_of_a_grid_changes_fastest() -> None:
    assert grid_combinations({"a": {"choices": [1, 2]}, "b": {"choices": ["x", "y"]}}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
