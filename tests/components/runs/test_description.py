"""The description of a run: what it keeps when the run starts again, and that damaged ones are noticed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from components.errors import Refusal
from components.runs.description import describe_run, read_description


def test_a_run_that_starts_again_keeps_its_id(tmp_path: Path) -> None:
    for name in ("first", "second"):
        describe_run(tmp_path / "run", name, "experiment", parent=tmp_path / "above", params={"lr": 0.1})
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["attempts"] == []
    describe_run(tmp_path / "other", "first", "experiment")
    assert facts["name"] == "second"
    assert facts["parent"] == "../above"
    assert facts["id"] != json.loads((tmp_path / "other" / "run.json").read_text())["id"]


def test_changed_params_are_recorded_as_further_attempts(tmp_path: Path) -> None:
    """One that repeats the attempt before it is none, and one that repeats an earlier attempt is."""
    for rate in (0.1, 0.2, 0.2, 0.1, 0.1, 0.2):
        describe_run(tmp_path / "run", "pretrain", "experiment", params={"lr": rate, "epochs": 3})
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["params"] == {"lr": 0.1, "epochs": 3}
    assert facts["attempts"] == [{"lr": [0.1, 0.2]}, {}, {"lr": [0.1, 0.2]}]


def test_the_time_of_creation_is_given_kept_or_now(tmp_path: Path) -> None:
    describe_run(tmp_path, "run", "experiment", created=5)
    assert read_description(tmp_path)["created"] == 5
    describe_run(tmp_path, "run", "experiment", created=7)
    assert read_description(tmp_path)["created"] == 5
    describe_run(tmp_path / "other", "run", "experiment")
    assert abs(read_description(tmp_path / "other")["created"] / 1000 - time.time()) < 60
    assert read_description(tmp_path)["parent"] is None


@pytest.mark.parametrize("change", [{"parent": 1}, {"attempts": {}}, {"id": 3}, {"inputs": None}])
def test_a_description_of_other_types_is_refused(tmp_path: Path, change: dict) -> None:
    describe_run(tmp_path, "run", "experiment")
    facts = read_description(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(facts | change))
    with pytest.raises(Refusal, match="damaged"):
        read_description(tmp_path)
    del facts["parent"]
    (tmp_path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(Refusal, match="damaged"):
        read_description(tmp_path)


def test_a_damaged_description_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    describe_run(tmp_path, "run", "experiment", params={"lr": 0.1})
    (tmp_path / "run.json").write_text("{")
    describe_run(tmp_path, "run", "experiment", params={"lr": 0.2})
    assert read_description(tmp_path)["params"] == {"lr": 0.2}
    assert "described again, under a new id" in caplog.text
