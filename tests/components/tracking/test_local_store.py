"""The store beside a checkout: in folders with any name, and after the checkout was moved or copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest

from components.errors import Refusal
from components.runs.description import describe_run
from components.runs.journal import STAGE_LOG, Journal
from components.tracking import local_store, mirror, server
from components.tracking.registry import Registry
from pipelines.commands import sync
from pipelines.stage.context import Stage
from tests.components.tracking.sent_runs import exported_model

ODD = "a b#c?d% &é ü"


def write_run(name: str = "evaluate-1") -> Stage:
    """Write a run of the checkout in the current folder, with a model and a picture, as a stage does."""
    run = Path.cwd() / ".trainyard" / "runs" / name
    describe_run(run, "evaluate", "digits", tags={"trainyard.stage": "evaluate"})
    lines = Journal(run / STAGE_LOG)
    stage = Stage("evaluate", {"name": "digits"}, run, lines, lines)
    Path("picture.txt").write_text("picture")
    stage.log_artifact("picture.txt", "pictures")
    stage.log_model(
        "digits",
        exported_model(Path("model")),
        {"image": np.zeros((2, 8, 8, 1), np.uint8)},
        {"label": np.zeros(2, np.int64)},
    )
    lines.write("end", status="FINISHED")
    return stage


@pytest.fixture
def checkout(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a checkout below a folder with an unusual name, as the current folder."""
    folder = tmp_path / ODD / "yard"
    folder.mkdir(parents=True)
    shutil.copy(empty_store, folder / local_store.DATABASE)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `folder` the current one, as for a new process: MLflow sets its variable in this one."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def assert_usable(folder: Path) -> None:
    """Check that the registered model loads, and that all files of the run are below `folder`."""
    registry = Registry("digits")
    version = registry.newest()
    registry.check_bytes(version)
    mlflow.set_tracking_uri(server.tracking_uri())
    predictions = mlflow.pyfunc.load_model("models:/digits/1").predict({"image": np.zeros((2, 8, 8, 1), np.uint8)})
    assert predictions["label"].shape == (2,)
    run = registry.client.get_run(version.run)
    assert run.info.artifact_uri.startswith((folder / "mlartifacts" / "digits").as_uri())
    assert [file.path for file in registry.client.list_artifacts(version.run, "pictures")] == ["pictures/picture.txt"]


def test_database_and_files_stay_below_a_folder_with_any_name(checkout: Path, tmp_path: Path) -> None:
    write_run()
    assert sync.main() == 0
    assert_usable(checkout)
    assert {path.name for path in tmp_path.iterdir()} == {ODD}
    assert local_store.sqlite_file(server.tracking_uri()) == checkout / "mlflow.db"


def test_a_folder_that_mlflow_reads_as_another_is_refused(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run()
    place = tmp_path / "a%20b"
    checkout.rename(place)
    enter(place, monkeypatch)
    with pytest.raises(Refusal, match="rename the folder, or set MLFLOW_TRACKING_URI"):
        sync.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a%20b", ODD])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert server.tracking_uri() == "http://127.0.0.1:5000"


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_checkout_can_move(
    how: str, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Sent models stay usable, unsent ones arrive, and nothing is written to the old folder."""
    write_run("evaluate-1")
    assert sync.main() == 0
    write_run("evaluate-2")
    place = tmp_path / "elsewhere"
    if how == "moved":
        checkout.rename(place)
    else:
        shutil.copytree(checkout, place)
    enter(place, monkeypatch)
    capsys.readouterr()
    assert sync.main() == 0
    assert "sent " in capsys.readouterr().out
    assert_usable(place)
    assert checkout.exists() == (how == "copied")
    assert [version.number for version in Registry("digits").versions()] == ["1", "2"]
    assert sync.main() == 0
    assert capsys.readouterr().out == "the tracker has everything\n"


def test_a_run_of_a_moved_checkout_is_not_sent_again(checkout: Path, tmp_path: Path, monkeypatch) -> None:
    write_run()
    count = mirror.Mirror(Path(".trainyard/runs")).send()
    assert count == 3
    place = tmp_path / "elsewhere"
    checkout.rename(place)
    enter(place, monkeypatch)
    assert mirror.Mirror(Path(".trainyard/runs")).send() == 0


def test_absolute_paths_of_older_journals_are_found_after_a_move(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checkout / ".trainyard/runs/evaluate-1"
    describe_run(run, "evaluate", "digits")
    (run / "kept").mkdir()
    (run / "kept" / "picture.txt").write_text("picture")
    Journal(run / STAGE_LOG).write("artifact", path=str(run / "kept" / "picture.txt"), folder="")
    place = tmp_path / "elsewhere"
    checkout.rename(place)
    enter(place, monkeypatch)
    assert sync.main() == 0
    client = server.make_client(server.tracking_uri())
    (sent,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert [file.path for file in client.list_artifacts(sent.info.run_id)] == ["picture.txt"]


def test_files_that_are_gone_are_counted(checkout: Path, capsys: pytest.CaptureFixture) -> None:
    stage = write_run()
    shutil.rmtree(stage.folder / "kept")
    for _ in range(2):
        assert sync.main() == 1
        output = capsys.readouterr().out
        assert "2 files of the runs disappeared before being sent, such as " in output
        assert "mirror.json" in output


def test_copies_that_were_deleted_after_they_were_sent_are_not_missing(checkout: Path) -> None:
    """The run is sent again to the same store, because its note is lost."""
    stage = write_run()
    assert sync.main() == 0
    shutil.rmtree(stage.folder / "kept")
    (stage.folder / "mirror.json").unlink()
    assert sync.main() == 0


def test_files_of_another_store_are_left_alone(checkout: Path, tmp_path: Path, monkeypatch) -> None:
    """Two checkouts share a database outside of both."""
    write_run()
    shared = tmp_path / "shared.db"
    shutil.copy("mlflow.db", shared)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", local_store.sqlite_address(shared))
    assert sync.main() == 0
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    client = server.make_client(server.tracking_uri())
    assert client.get_experiment_by_name("digits").artifact_location == (checkout / "mlartifacts" / "digits").as_uri()
