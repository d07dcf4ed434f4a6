"""Locate the repository, its raw data and the folder of unfinished work.

`dvc exp run --queue` and `--temp` run a copy of the repository in `.dvc/tmp/exps` and delete it afterwards. Unfinished
work, the local tracking store and raw data therefore live in the repository itself: git does not copy them.
"""

from __future__ import annotations

from pathlib import Path

RAW = Path("data/raw")
WORK = ".trainyard"


def repository_root() -> Path:
    """Return the current directory, or the repository of which it is a temporary copy."""
    here = Path.cwd()
    parts = here.parts
    for index in range(len(parts) - 3):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:index])
    return here


def work_folder() -> Path:
    """Return the folder of everything that is not an output: unfinished runs, timings, caches.

    It is safe to delete. It outlives a stage's outs, which DVC deletes before it runs the stage again.
    """
    return repository_root() / WORK


def runs_folder() -> Path:
    """Return the folder that holds the folder of every run."""
    return work_folder() / "runs"


def link_raw_data() -> None:
    """Link to the repository's raw data if the current directory is a temporary copy of it."""
    if repository_root() != Path.cwd():
        link_missing_files(repository_root() / RAW, RAW)


def link_missing_files(source: Path, folder: Path) -> None:
    """Link in `folder` to each file of `source` that it lacks.

    Folders are created, not linked: DVC does not read through linked folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.rglob("*"):
        target = folder / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            target.mkdir(exist_ok=True)
        elif not target.exists():
            target.symlink_to(path.resolve())
