"""The origin of a run in a checkout that is a sub-folder of its repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipelines.stage.provenance import provenance


@pytest.mark.parametrize("name", [".", "projects/yard", "pröjects/my yard"])
def test_changes_are_those_of_the_checkout_with_paths_relative_to_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / name
    (checkout / "components").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for file in ("params.yaml", "old name.yaml"):
        (checkout / file).write_text(f"{file}: 1\n")
    (tmp_path / "neighbour.txt").write_text("1")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command], check=True)
    monkeypatch.chdir(checkout)
    assert provenance()["git.changed"] == "nothing"
    (tmp_path / "neighbour.txt").write_text("2")
    (checkout / "params.yaml").write_text("seed: 9\n")
    (checkout / "components/größe.py").write_text("new")
    subprocess.run(["git", "mv", "old name.yaml", "new name.yaml"], check=True)
    lines = provenance()["git.changed"].splitlines()
    neighbour = ["M neighbour.txt"] if name == "." else []
    expected = [*neighbour, "M params.yaml", "R  new name.yaml", "?? components/größe.py"]
    assert sorted(line.strip() for line in lines) == sorted(expected)
