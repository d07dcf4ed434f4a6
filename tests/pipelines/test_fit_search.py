"""Test `fit` with a stub in place of its workers; tests/test_families.py has real ones."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from components.errors import Refusal
from components.runs.journal import LOG, Journal
from components.search.trials import Trial
from components.verdicts.diagnosis import Measurements
from pipelines import fit
from pipelines.stage import diagnoses
from pipelines.workers.records import FitResult

RECIPE = """
data: {use: data.digits.Digits}
task: {use: tasks.classification.Classification, model: {use: models.softmax.Softmax}}
fit: {epochs: 1, batch: 64}
tune: {folds: 2, search: {samples: 1, space: {fit.batch: {choices: [16]}}}}
"""


def test_speed_is_computed_with_the_batch_that_the_search_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("family/system.yaml")
    path.parent.mkdir()
    path.write_text(RECIPE)
    run = MagicMock(folder=tmp_path / "run")
    measurements = Measurements({}, ("accuracy", "max"), parameters=1, data="", trivial=None)
    run.spread.return_value = FitResult("test", {"accuracy": 0.9}, 160, None, measurements, {}, (), None, {}, "", ())
    monkeypatch.setattr(fit, "stage", lambda *_, **__: nullcontext(run))
    monkeypatch.setattr(fit, "search_values", lambda *_: {"fit.batch": 16})
    monkeypatch.setattr(diagnoses, "diagnose_fit", lambda *_: None)
    monkeypatch.setattr(fit, "_log_caveats", lambda *_: None)  # nothing was prepared
    lines = Journal(run.folder / LOG)
    for step in range(10, 101, 10):
        lines.write("progress", step=step, steps=100, values={}, speed=160.0)
    fit.main(str(path))
    cost = json.loads(Path("results/family/system/cost.json").read_text())
    assert cost == {"train_seconds": pytest.approx(10), "samples_per_second": pytest.approx(160)}


def test_a_misspelt_score_to_show_is_refused_at_the_first_trial() -> None:
    row = fit.trial_row(Trial("trials", 0, {"fit.batch": 16}, [{"accuracy": 0.5}, {"accuracy": 0.6}], True))
    fit.check_shown({"show": "accuracy", "columns": ["seconds", "accuracy_std"]}, row)
    fit.check_shown({}, row)
    with pytest.raises(
        Refusal, match=r"tune.columns: the trials have no 'secods' \(did you mean 'seconds'\?\); they have"
    ):
        fit.check_shown({"columns": ["secods"]}, row)
    with pytest.raises(Refusal, match=r"tune.show: the trials have no 'mse'; they have trial, fit.batch, accuracy"):
        fit.check_shown({"show": "mse"}, row)


def test_a_trial_s_line_has_no_deviation_of_a_score_that_a_single_fold_has() -> None:
    parts = [{"mean_iou": 0.5, "iou/dog": 0.2}, {"mean_iou": 0.7, "iou/dog": 0.4, "iou/cat": 0.8}]
    row = fit.trial_row(Trial("trials", 0, {}, parts, True))
    assert row["iou/cat"] == 0.8
    assert row["iou/dog_std"] == pytest.approx(0.2 / 2**0.5)
    assert "iou/cat_std" not in row
