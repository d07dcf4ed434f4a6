"""Read the headers of recipes, and write the tables of RESULTS.md, from records made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from components.errors import Refusal
from pipelines.commands.results import page, record
from pipelines.commands.results.expectation import Expectation, read_expectation, suggest_line


def expect(tmp_path: Path, line: str) -> Expectation | None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"# What:   something\n# Expect: {line}\ndata: {{}}\n")
    return read_expectation(path)


def test_headers_are_read(tmp_path: Path) -> None:
    several = expect(tmp_path, "mse 1.1 to 1.2, error_4 -2e-3 to 3 over 3 seeds of data; below x; published 7 (notes)")
    assert several == Expectation({"mse": ("1.1", "1.2"), "error_4": ("-2e-3", "3")}, 3, True, "7 (notes)")
    assert expect(tmp_path, "accuracy 0.97 to 0.98 over 1 seed") == Expectation(
        {"accuracy": ("0.97", "0.98")}, 1, False, ""
    )
    assert expect(tmp_path, "test accuracy 0.97") is None


@pytest.mark.parametrize(
    ("value", "covered"), [(0.9695, True), (0.9694, False), (0.97, True), (0.9804, True), (0.9806, False)]
)
def test_intervals_end_with_their_rounding(tmp_path: Path, value: float, covered: bool) -> None:
    expectation = expect(tmp_path, "accuracy 0.970 to 0.980 over 5 seeds")
    assert expectation is not None
    assert expectation.covers("accuracy", value) == covered


def test_a_study_shows_the_values_that_differ() -> None:
    trials = [
        {
            "task.optimizer.lr": rate,
            "fit.epochs": 3.0,
            "accuracy": 0.5 + rate,
            "accuracy_std": 0.01,
            "train_accuracy": 1,
            "train_loss": 2 * rate,
        }
        for rate in (0.1, 0.01)
    ]
    measured = record.Record("", [""], "", "test", "accuracy", "max", [0], [1.0], {"accuracy": [0.7]}, {}, trials)
    lines = page.format_trials("rates", None, measured, {"show": "train_loss"})
    assert [line for line in lines if line.startswith("|")] == [
        "| lr | accuracy | accuracy on training examples | train_loss |",
        "|---|---|---|---|",
        "| 0.1 | 0.6 ± 0.01 | 1 | 0.2 |",
        "| 0.01 | 0.51 ± 0.01 | 1 | 0.02 |",
    ]


def test_a_study_shows_the_columns_that_it_names() -> None:
    common = {"accuracy": 0.5, "accuracy_std": 0.1}
    trials = [
        {"fit.batch": 4, "noise_scale": math.inf, "noise_scale_std": math.nan, "seconds": 0.25, **common},
        {"fit.batch": 8, "noise_scale": 60.0, "noise_scale_std": 5.0, "seconds": 0.125, **common},
    ]
    measured = record.Record("", [""], "", "test", "accuracy", "max", [0], [1.0], {"accuracy": [0.7]}, {}, trials)
    lines = page.format_trials("batches", None, measured, {"folds": 3, "columns": ["noise_scale", "seconds"]})
    assert [line for line in lines if line.startswith("|")] == [
        "| batch | accuracy | accuracy on training examples | noise_scale | seconds per fold |",
        "|---|---|---|---|---|",
        "| 4 | 0.5 ± 0.1 |  | - | 0.25 |",
        "| 8 | 0.5 ± 0.1 |  | 60 ± 5 | 0.125 |",
    ]
    with pytest.raises(Refusal, match=r"batches: tune.columns: .* no 'secods' \(did you mean 'seconds'\?\)"):
        page.format_trials("batches", None, measured, {"folds": 3, "columns": ["secods"]})
    with pytest.raises(Refusal, match=r"batches: tune.show: the trials have no 'mse'; they have"):
        page.format_trials("batches", None, measured, {"folds": 3, "show": "mse"})


def test_a_suggested_line_covers_the_values_that_it_was_made_from(tmp_path: Path) -> None:
    scores = {"accuracy": [0.97251, 0.98], "loss": [-0.1234, 1.5], "largest": [67238.4], "fid": [44.48, 50.0]}
    line = suggest_line(scores, 2)
    assert line == (
        "# Expect: accuracy 0.972 to 0.980, loss -0.124 to 1.500, largest 67238 to 67239, fid 44.4 to 50.0 over 2 seeds"
    )
    expectation = expect(tmp_path, line.removeprefix("# Expect: "))
    assert expectation is not None
    assert all(expectation.covers(name, value) for name, values in scores.items() for value in values)
