"""The starting point and the comparison of `trainyard verify`; a complete run is in tests/test_flagship.py (slow)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import Refusal
from components.recipes import recipe
from components.tracking.registry import Registry
from pipelines.commands import verify
from tests.pipelines.yard import NAME, Yard

PARAMS = {"seed": 0, "fit": {"lr": 0.1, "clip": None}, "augment": [{"use": "flip", "p": 0.5}], "note": "a: b"}


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Provide the commit of a repository that is the test's current folder."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    Path("data/raw/mine").mkdir(parents=True)
    Path(".gitignore").write_text("data/\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command], check=True)
    Path("data/raw/mine/file").write_text("raw")
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("changed", ["nothing", " M params.yaml\n M dvc.lock", " M metrics/evaluate.json"])
def test_a_commit_is_enough_if_its_code_was_not_changed(commit: str, changed: str) -> None:
    assert verify.find_commit({"mlflow.source.git.commit": commit, "git.changed": changed}, "3") == commit


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        (
            {"git.changed": "M components/training/engine.py"},
            "changes that no commit has \\(components/training/engine.py\\)",
        ),
        ({"mlflow.source.git.commit": "0" * 40}, "its commit 0{40} is not in this repository"),
        ({"mlflow.source.git.commit": ""}, "its commit \\(none recorded\\)"),
    ],
)
def test_a_version_without_its_code_is_refused(commit: str, tags: dict[str, str], says: str) -> None:
    with pytest.raises(Refusal, match=f"^version 3.*{says}"):
        verify.find_commit({"mlflow.source.git.commit": commit} | tags, "3")


@pytest.mark.parametrize("new", ["components/models/wide.py", "pipelines/vision/wide.yaml"])
def test_untracked_code_is_a_change(new: str, commit: str) -> None:
    """Untracked lock files and notes are not."""
    for path in (new, "pipelines/vision/dvc.lock", "notes.txt"):
        assert verify.find_commit(verify.provenance(), "3") == commit
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("new")
        if path == new:
            with pytest.raises(Refusal, match=new):
                verify.find_commit(verify.provenance(), "3")
            Path(path).unlink()
    Path(new).write_text("new")
    Path("params.yaml").write_text("seed: 9")
    assert verify.provenance()["git.changed"] == f"M params.yaml\n?? {new}"


def test_the_copy_has_the_runs_params_and_the_raw_data(commit: str, tmp_path: Path) -> None:
    params: dict[str, Any] = recipe.overlay(PARAMS, {"fit.lr": 1e-05, "fit.clip": 1.0, "augment": [{"use": "crop"}]})
    texts = {name: str(value) for name, value in recipe.flatten(params).items()}
    (tmp_path / "params.yaml").write_text("seed: 9\n")
    place = verify.check_out(tmp_path / "copy", commit, texts)
    assert recipe.load(place / "params.yaml") == params
    assert (place / "data/raw/mine/file").read_text() == "raw"


def test_every_difference_is_printed(commit: str, capsys: pytest.CaptureFixture) -> None:
    then = verify.Outcome("a" * 64, "b" * 32, {"accuracy": 0.98, "seeds": 5.0})
    tags = verify.provenance() | {"version.torch": "2.11.0"}
    assert (
        verify.print_differences(then, verify.Outcome("a" * 64, "b" * 32, {"accuracy": 0.98, "seeds": 5}), tags) == []
    )
    assert "torch: 2.11.0 then," in capsys.readouterr().out
    now = verify.Outcome("c" * 64, "b" * 32, {"accuracy": 0.9800001, "seeds": 5})
    assert verify.print_differences(then, now, tags) == ["weights", "accuracy"]
    assert capsys.readouterr().out.count("DIFFERENT") == 2


def test_a_version_has_an_origin(yard: Yard) -> None:
    digest = yard.train()
    from pipelines.commands import sync

    sync.main()
    registry = Registry(NAME)
    assert registry.newest().digest == digest
    assert registry.origin(registry.newest()).tags["trainyard.stage"] == "evaluate"


def test_without_a_version_there_is_nothing_to_verify(yard: Yard) -> None:
    with pytest.raises(Refusal, match="has no version yet"):
        verify.main()
