"""Where unfinished work, the local tracking store and raw data live: the repository itself.

`dvc exp run --queue` and `--temp` run a copy of the repository in its `.dvc/tmp/exps`, which is deleted afterwards.
"""

from __future__ import annotations

from pathlib import Path


def home() -> Path:
    """The current directory, or the repository that it is a temporary copy of."""
    here = Path.cwd()
    parts = here.parts
    for index in range(len(parts) - 3):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:index])
    return here
