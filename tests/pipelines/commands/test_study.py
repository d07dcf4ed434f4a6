"""Test that Optuna reads an exported search from SQLite and from its journal, with the same best trial."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from components.errors import Refusal
from components.files import write_json
from components.runs.description import describe_run
from components.search.earlier import SEARCH
from components.search.trials import RECORD, Trial, best_trial, trial_name
from pipelines.commands import study

SECTION = {"use": "optimizers.adam", "lr": 0.003}
SPACE = {
    "task.optimizer": {
        "choices": [
            {"use": "optimizers.adam", "lr": {"low": 1e-4, "high": 0.1, "log": True}},
            {"use": "optimizers.sgd"},
        ]
    },
    "fit.batch": {"choices": [8, 16]},
}


def trials(arm: str) -> list[Trial]:
    sgd = {"task.optimizer": {"use": "optimizers.sgd"}, "fit.batch": 8}
    parts = [{"accuracy": 0.5, "loss": 1.0}, {"accuracy": 0.7, "loss": 0.5}]
    return [
        Trial(arm, 0, {"task.optimizer": SECTION, "fit.batch": 16}, parts, True, 3.0, began=1000, ended=4000),
        Trial(arm, 1, sgd, parts[:1], began=1000, ended=2000),
        Trial(arm, 2, sgd, [], diverged="step 3: the loss became nan"),
        Trial(arm, 3, sgd | {"fit.batch": 16}, parts[:1] * 2, True, 2.0),
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / ".trainyard" / "runs" / "search-0123456789abcdef"
    describe_run(run, "search", "studies")
    arms = ["finetuned", "scratch"]
    write_json(run / SEARCH, {"space": SPACE, "monitor": ["accuracy", "max"], "arms": arms})
    for trial in (trial for arm in arms for trial in trials(arm)):
        write_json(run / trial.arm / trial_name(trial.number) / RECORD, asdict(trial))
    return run


@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_optuna_reads_an_exported_search(folder: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert study.main(str(folder), file) == 0
    name = "studies search-0123456789abcdef finetuned"
    assert f"{file}: 4 trials in the study '{name}'" in capsys.readouterr().out
    storage = f"sqlite:///{file}" if file.endswith("db") else JournalStorage(JournalFileBackend(file))
    loaded = optuna.load_study(study_name=name, storage=storage)
    assert [trial.state for trial in loaded.trials] == [
        *(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE),
    ]
    best = best_trial(trials("finetuned"), ("accuracy", "max"))
    assert loaded.best_trial.number == best.number
    assert loaded.best_value == best.scores["accuracy"]
    assert loaded.best_params == {"task.optimizer": "adam", "task.optimizer.adam.lr": 0.003, "fit.batch": 16}
    assert loaded.trials[0].intermediate_values == {1: 0.5, 2: 0.6}
    assert loaded.trials[0].duration.total_seconds() == 3
    assert loaded.trials[2].user_attrs["reason"] == "step 3: the loss became nan"
    assert loaded.metric_names == ["accuracy"]
    assert optuna.get_all_study_names(storage) == [name, name.replace("finetuned", "scratch")]
    with pytest.raises(Refusal, match="exists already"):
        study.main(str(folder), file)


def test_a_recipe_names_its_newest_search(folder: Path, tmp_path: Path) -> None:
    family = tmp_path / "pipelines" / "studies"
    family.mkdir(parents=True)
    (family / "search.yaml").write_text("data: {use: data.digits.Digits}\n")
    assert study.newest_search("pipelines/studies/search.yaml").samefile(folder)
    (family / "lenet.yaml").write_text("data: {use: data.digits.Digits}\n")
    for source, file, message in [
        ("pipelines/studies/lenet.yaml", "x.db", "no search of it was run here"),
        (str(folder), "x.txt", "must end in .db"),
        (str(folder), "no/x.db", "its folder does not exist"),
        (str(family), "x.db", "is not the folder of a search"),
        (str(folder), "what?.db", "takes no \\? in a path"),
    ]:
        with pytest.raises(Refusal, match=message):
            study.main(source, file)
