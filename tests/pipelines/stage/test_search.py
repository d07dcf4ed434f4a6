"""Test what is said about a search, where it starts, and which earlier trials it may take over."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from components.errors import Refusal
from components.files import write_json
from components.recipes import recipe
from components.runs.description import describe_run
from components.runs.journal import Journal
from components.search.earlier import SEARCH
from components.search.objective import Objective
from components.search.trials import RECORD, Trial
from pipelines.stage.check import check_tune
from pipelines.stage.context import Stage
from pipelines.stage.search import _identify, describe_edges, describe_memory
from pipelines.stage.starting_points import read_starting_points
from pipelines.workers.records import TrialSetup

RATE = {"low": 0.01, "high": 1.0, "log": True}
SECTION = {
    "task": {
        "use": "tasks.classification.Classification",
        "model": {"use": "models.softmax.Softmax"},
        "optimizer": {"use": "optimizers.sgd", "lr": 0.1},
    },
    "fit": {"epochs": 2, "batch": 16},
}


@pytest.mark.parametrize(
    ("entry", "value", "edge"),
    [
        (RATE, 0.011, "lower"),
        (RATE, 0.02, None),
        (RATE, 0.95, "upper"),
        ({"low": 0.0, "high": 1.0}, 0.04, "lower"),
        ({"low": 0.0, "high": 1.0}, 0.9, None),
        ({"low": 1, "high": 9}, 9, "upper"),
        ({"choices": [16, 8, 32]}, 32, "upper"),
        ({"choices": [16, 8, 32]}, 16, None),
        ({"choices": [8, 16]}, 8, None),
        ({"choices": ["a", "b", "c"]}, "a", None),
        ({"choices": [True, False]}, True, None),
    ],
)
def test_a_best_value_at_the_edge_of_the_search_is_reported(entry: dict, value: object, edge: str | None) -> None:
    sentences = describe_edges({"lr": entry}, {"lr": value})
    assert len(sentences) == (edge is not None)
    if edge:
        assert f"lies at the {edge} edge of what was searched" in sentences[0]


def test_an_edge_inside_the_winning_section_is_reported() -> None:
    space = {
        "optimizer": {"choices": [{"use": "a.sgd", "lr": RATE}, {"use": "a.adam", "lr": {"low": 0.1, "high": 9.0}}]}
    }
    (sentence,) = describe_edges(space, {"optimizer": {"use": "a.sgd", "lr": 0.99}})
    assert (
        sentence == "the best optimizer.sgd.lr 0.99 lies at the upper edge of what was searched (0.01 to 1); widen it"
    )


def test_more_trials_per_gpu_are_suggested_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(memory: float) -> Trial:
        return Trial("a", 0, {}, memory=memory)

    assert describe_memory([trial(0), trial(0)]) is None
    assert "TRAINYARD_TRIALS_PER_GPU=8" in str(describe_memory([trial(0.02), trial(0.1)]))
    assert describe_memory([trial(0.6)]) is None
    monkeypatch.setenv("TRAINYARD_TRIALS_PER_GPU", "8")
    assert describe_memory([trial(0.1)]) is None
    monkeypatch.setenv("TRAINYARD_TRIALS_PER_GPU", "half")
    with pytest.raises(Refusal, match="whole number from 1 to 99"):
        describe_memory([trial(0.01)])


def test_trials_are_taken_over_exactly_if_nothing_but_the_search_changed(tmp_path: Path) -> None:
    def identity(section: dict, origin: str = "code and data", seed: int = 0, rungs: int = 3, curves: str = "") -> str:
        run = Stage("tune", {}, tmp_path, Journal(tmp_path / "a"), Journal(tmp_path / "a"), origin)
        arms = {"a": {"setup": TrialSetup(section, "data", "augmented", seed, curves), "count": rungs}}
        return _identify(run, Objective("f", arms, rungs, ("accuracy", "max")), {"task.optimizer.lr": RATE})

    same = identity(SECTION)
    assert same == identity(recipe.overlay(SECTION, {"task.optimizer.lr": 0.3}), curves="elsewhere")
    others = [
        identity(recipe.overlay(SECTION, {"fit.epochs": 3})),
        identity(SECTION, origin="other data"),
        identity(SECTION, seed=1),
        identity(SECTION, rungs=4),
    ]
    assert len({same, *others}) == 5


def test_a_search_starts_from_earlier_runs(tmp_path: Path) -> None:
    fit, search = tmp_path / "lenet-1", tmp_path / "tune-1"
    describe_run(fit, "lenet", "vision", params=recipe.flatten(SECTION))
    write_json(search / SEARCH, {"monitor": ["accuracy", "max"]})
    for number, accuracy in enumerate((0.5, 0.9, 0.7)):
        trial = Trial("a", number, {"fit.batch": 8 << number, "fit.clip": 1.0}, [{"accuracy": accuracy}], True)
        write_json(search / "a" / f"trial-{number:03d}" / RECORD, asdict(trial))
    optimizer = SECTION["task"]["optimizer"]
    options = {
        "space": {
            "task.optimizer": {"choices": [optimizer, {"use": "optimizers.adam"}]},
            "fit.batch": {"low": 1, "high": 64},
        },
        "start": [{"fit.batch": 3}, str(fit), str(search)],
    }
    points = [{"fit.batch": 3}, {"task.optimizer": optimizer, "fit.batch": 16}, {"fit.batch": 16}]
    assert read_starting_points(options)["start"] == points
    check_tune({"folds": 2, "search": options}, SECTION)
    for start, message in [
        ([str(tmp_path / "none")], r"tune.search.start\[0\]: .* is not the folder of a run"),
        ([{"fit.batch": 65}], r"tune.search.start\[0\]: fit.batch = 65 is outside"),
    ]:
        with pytest.raises(Refusal, match=message):
            check_tune({"folds": 2, "search": options | {"start": start}}, SECTION)
