"""Changes as real DVC and git report them: new raw files, changed params, imported sources with a newer version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from components.errors import Refusal, TryLater
from pipelines.commands.dvc import repro, status

ROOT = Path(__file__).parents[4]
BIN = Path(sys.executable).parent


def run(folder: Path, *command: str) -> None:
    identity = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DVC")} | identity
    path = f"{BIN}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(command, cwd=folder, env=environment | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def repository(folder: Path) -> Path:
    folder.mkdir()
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    return folder


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a stage `prepare` with our own dependencies on data, and a stage that reads its output."""
    folder = repository(tmp_path / "pipeline")
    ours = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["prepare"]
    deps = [path for path in ours["deps"] if path.startswith("data/")]
    assert deps == ["data/raw"]
    stages = {
        "prepare": {"cmd": "mkdir -p out && ls data/raw > out/list", "deps": deps, "outs": ["out"]},
        "train": {"cmd": "cp out/list model", "deps": ["out"], "params": ["rate"], "outs": ["model"]},
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (folder / "params.yaml").write_text("rate: 1\nretrain: {level: 0.9}\n")
    raw = folder / "data" / "raw"
    raw.mkdir(parents=True)
    (raw / ".gitignore").write_text((ROOT / "data/raw/.gitignore").read_text())
    (folder / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "start")
    monkeypatch.chdir(folder)
    return folder


def test_new_files_and_params_are_changes(pipeline: Path) -> None:
    assert status.list_changes() == ["prepare: never run", "train: never run"]
    repro.reproduce_or_refuse()
    assert status.list_changes() == []
    (pipeline / "data/raw/cats").mkdir()
    (pipeline / "data/raw/cats/tom.png").write_bytes(b"tom")
    assert status.list_changes() == ["prepare: changed deps: data/raw (modified)"]
    repro.reproduce_or_refuse()
    assert status.list_changes() == []
    (pipeline / "params.yaml").write_text("rate: 1\nretrain: {level: 0.8}\n")
    assert status.list_changes() == []  # no stage depends on the gate's settings
    (pipeline / "params.yaml").write_text("rate: 2\nretrain: {level: 0.8}\n")
    assert status.list_changes() == ["train: changed deps: params.yaml (rate)"]
    (pipeline / "out/list").unlink()
    (pipeline / "out").rmdir()
    (pipeline / "model").unlink()
    changes = [line for line in status.list_changes() if "outs" in line]
    assert changes == ["prepare: changed outs: out (missing)", "train: changed outs: model (missing)"]


@pytest.mark.parametrize("patience", [60.0, 2.0])
def test_another_dvc_is_waited_for(patience: float, pipeline: Path, monkeypatch, capsys) -> None:
    """A dvc that outlived a killed retraining may still save and end."""
    repro.reproduce_or_refuse()
    content = yaml.safe_load((pipeline / "dvc.yaml").read_text())
    content["stages"]["train"]["cmd"] = "touch begun; sleep 6; cp out/list model"
    (pipeline / "dvc.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(status, "PATIENCE", patience)
    other = subprocess.Popen([BIN / "dvc", "repro"], cwd=pipeline, stdout=subprocess.DEVNULL)
    try:
        while not (pipeline / "begun").is_file():
            assert other.poll() is None
            time.sleep(0.05)
        if patience < 6:
            with pytest.raises(TryLater, match="another dvc is at work"):
                status.list_changes()
        else:
            assert status.list_changes() == []
            assert capsys.readouterr().out.count("waiting for another dvc") == 1
    finally:
        other.wait()


def test_an_imported_source_is_brought_up_to_date(pipeline: Path, tmp_path: Path) -> None:
    source = repository(tmp_path / "source")
    (source / "pictures").mkdir()

    def publish(name: str) -> None:
        (source / "pictures" / name).write_text(name)
        run(source, "dvc", "add", "-q", "pictures")
        run(source, "git", "add", "-A")
        run(source, "git", "commit", "-qm", name)

    publish("tom.png")
    run(pipeline, "dvc", "import", "-q", str(source), "pictures", "-o", "data/raw/pictures")
    run(pipeline, "dvc", "import", "-q", str(source), "pictures", "-o", "data/raw/Bücher 1")
    assert status.update_imports() == ["data/raw/Bücher 1.dvc", "data/raw/pictures.dvc"], "git quotes such names"
    (pipeline / "data/raw/Bücher 1.dvc").unlink()
    shutil.rmtree(pipeline / "data/raw/Bücher 1")
    repro.reproduce_or_refuse()
    assert (pipeline / "data/raw/pictures/tom.png").read_text() == "tom.png"
    publish("felix.png")
    assert status.list_changes() == []
    assert status.update_imports() == ["data/raw/pictures.dvc"]
    assert (pipeline / "data/raw/pictures/felix.png").is_file()
    assert status.list_changes() == ["prepare: changed deps: data/raw (modified)"]
    source.rename(tmp_path / "away")
    with pytest.raises(TryLater, match=r"dvc update failed: .*; the data stay as they are"):
        status.update_imports()
    assert (pipeline / "data/raw/pictures/felix.png").is_file()


def test_a_failure_of_git_is_quoted(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git refuses to list files in a checkout that belongs to another user."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(Refusal, match=r"git ls-files: fatal: detected dubious ownership in .*; git must"):
        status.update_imports()


@pytest.mark.parametrize("content", ["<<<<<<< HEAD\nouts: []\n", "outs: {", "[1]"])
def test_a_damaged_file_of_dvc_is_reported(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    Path("raw.dvc").write_text(content)
    with pytest.raises(Refusal, match=r"raw\.dvc: is not a file of dvc"):
        status.update_imports()


def test_a_failure_of_dvc_is_reported(pipeline: Path) -> None:
    (pipeline / "dvc.yaml").write_text("stages: {prepare: {cmd: 'false', deps: [data/raw], outs: [out]}}")
    with pytest.raises(Refusal, match="dvc repro ended with exit code"):
        repro.reproduce_or_refuse()
    (pipeline / "dvc.yaml").write_text("stages: [")
    with pytest.raises(Refusal, match="dvc status failed"):
        status.list_changes()
