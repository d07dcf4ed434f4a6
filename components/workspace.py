"""Where unfinished work, the local tracking store and raw data live: the repository itself.

`dvc exp run --queue` and `--temp` run a copy of the repository in its `.dvc/tmp/exps`, which is deleted afterwards; git
knows nothing of raw data, so neither does the copy.
"""

from __future__ import annotations

from pathlib import Path

RAW = Path("data/raw")


def repository_root() -> Path:
    """The current directory, or the repository that it is a temporary copy of."""
    here = Path.cwd()
    parts = here.parts
    for index in range(len(parts) - 3):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:index])
    return here


def link_raw_data() -> None:
    """In such a copy: links to the repository's raw data."""
    if repository_root() != Path.cwd():
        link_missing_files(repository_root() / RAW, RAW)


def link_missing_files(kept: Path, folder: Path) -> None:
    """Links in `folder` to the files in `kept` that it lacks; no linked folders, which DVC does not read."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in kept.rglob("*"):
        lent = folder / path.relative_to(kept)
        if path.is_dir() and not path.is_symlink():
            lent.mkdir(exist_ok=True)
        elif not lent.exists():
            lent.symlink_to(path.resolve())
