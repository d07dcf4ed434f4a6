"""A temporary copy in which DVC runs an experiment reads the repository's raw data (with real DVC and git)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.workspace import link_raw_data, repository_root

ROOT = Path(__file__).parent.parent.parent
DVC = str(Path(sys.executable).parent / "dvc")
STAGES = """
stages:
  prepare:
    cmd: python read.py ${scale}
    deps: [data/raw]
    params: [scale]
    outs: [out.txt]
"""
READ = """
import sys
from pathlib import Path
from components.workspace import link_raw_data
link_raw_data()
Path("out.txt").write_text(str(float(Path("data/raw/mine/number").read_text()) * int(sys.argv[1])))
"""


def test_an_experiment_in_a_copy_reads_raw_data(tmp_path: Path) -> None:
    bin_folder = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1", "PATH": bin_folder}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for name, text in (("dvc.yaml", STAGES), ("read.py", READ), ("params.yaml", "scale: 2\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "data/raw/mine").mkdir(parents=True)
    (tmp_path / "data/raw/mine/number").write_text("21")
    (tmp_path / "data/raw/.gitignore").write_text("*\n!.gitignore\n")
    run("git", "init", "-q")
    run(DVC, "init", "-q")
    run("git", "add", "-A")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "first")
    run(DVC, "exp", "run", "--temp", "-n", "tried", "-S", "scale=3")
    run(DVC, "exp", "apply", "tried")
    assert (tmp_path / "out.txt").read_text() == "63.0"
    assert "up to date" in run(DVC, "status"), "the copy read the repository's raw data"
    assert (tmp_path / "data/raw/mine/number").read_text() == "21", "deleting the copy deletes its links alone"


def test_links_do_not_replace_existing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / ".dvc/tmp/exps/abc"
    for folder, name in ((tmp_path, "a"), (tmp_path, "b"), (copy, "b")):
        (folder / "data/raw" / name).mkdir(parents=True)
        (folder / "data/raw" / name / "file").write_text(f"of {folder.name}")
    monkeypatch.chdir(copy)
    assert repository_root() == tmp_path
    link_raw_data()
    link_raw_data()
    assert (copy / "data/raw/a/file").resolve() == tmp_path / "data/raw/a/file"
    assert (copy / "data/raw/b/file").read_text() == "of abc"
    monkeypatch.chdir(tmp_path)
    link_raw_data()
    assert not any(path.is_symlink() for path in (tmp_path / "data/raw").rglob("*"))
