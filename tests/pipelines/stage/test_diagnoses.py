"""Run the flagship's stages in this process, and check that its runs have verdicts in a real MLflow.

The trials of the search are made up, and described as Ray's search does.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.cluster import connection, plan, prestart
from components.recipes import recipe
from components.search import ray_tune
from components.search.objective import Objective
from components.search.trials import Trial, trial_name
from components.storage.store import Store
from components.tracking import server
from components.training.peers import Peers
from pipelines import evaluate, finetune, pretrain, tune
from pipelines.reports import report
from pipelines.stage import context
from pipelines.workers import augmentation
from tests.pipelines.yard import NAME, ROOT, Yard, in_this_process

CHANGES: dict[str, Any] = {
    "model": {"use": "models.softmax.Softmax"},
    "pretrain.task.augment": [],
    "pretrain.fit.epochs": 2,
    "pretrain.fit.batch": 20,
    "finetune.task.augment": [],
    "finetune.fit.epochs": 2,
    "finetune.seeds": 1,
    "evaluate.draws": 50,
}
SCORES = {  # verdict: the scores of a trial that gets it
    "fine": {"accuracy": 0.97, "loss": 0.1, "train_accuracy": 0.99, "train_loss": 0.05, "parameters": 650.0},
    "over-fitting": {"accuracy": 0.7, "loss": 1.5, "train_accuracy": 1.0, "train_loss": 0.01, "parameters": 650.0},
}


def fake_search(objective: Objective, folder: Path, on_trial: Any, **options: Any) -> dict[str, Any]:
    """Return two finished trials per arm, one for each verdict in SCORES."""
    trials = {
        arm: [Trial(arm, n, {"fit.batch": 8 + n}, [scores], True) for n, scores in enumerate(SCORES.values())]
        for arm in objective.arms
    }
    for trial in (trial for arm in trials for trial in trials[arm]):
        on_trial(trial, folder / trial.arm / trial_name(trial.number))
    return trials


def test_every_trial_and_fit_of_the_flagship_has_a_verdict(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, tmp_path)}")
    in_this_process(monkeypatch.setattr)
    for owner, name, value in (
        (connection, "connect", lambda: None),
        (plan, "plan_workers", lambda *_: SimpleNamespace(workers=1, gpu=False)),
        (prestart, "prestart_workers", lambda *_: None),
        (ray_tune, "search", fake_search),
        (report, "write_report", list),
        (context.Stage, "log_model", lambda *_, **__: None),
    ):
        monkeypatch.setattr(owner, name, value)
    Yard(tmp_path).prepare(labels=100)
    augmentation.write_statistics(Peers(), Store("data/prepared/source"), Path("data/augmented/source"))
    params = recipe.overlay(recipe.load(ROOT / "params.yaml"), CHANGES)
    for module in (pretrain, tune, finetune, evaluate):
        module.main(params)
    client = server.make_client(server.tracking_uri())
    runs = client.search_runs([client.get_experiment_by_name(NAME).experiment_id])
    verdicts: dict[str, list[str]] = {}
    for run in runs:
        kind = run.data.tags["trainyard.stage"]
        if kind in ("pretrain", "trial", "fit"):
            verdict = run.data.tags["trainyard.diagnosis"]
            assert run.data.tags["mlflow.note.content"].startswith(f"**{verdict}**: "), run.info.run_name
            verdicts.setdefault(kind, []).append(verdict)
    assert sorted(verdicts.pop("trial")) == ["fine"] * 2 + ["over-fitting"] * 2
    assert {kind: len(names) for kind, names in verdicts.items()} == {"pretrain": 1, "fit": 2}
