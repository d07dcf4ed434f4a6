"""Remove what ended runs no longer need: old checkpoints, and copies that the tracker has received.

Checkpoints are nine tenths of what a nightly run adds. An ended run needs none: its weights are the stage's output and
its curves are in its journal. The newest NEWEST runs of a stage or a recipe keep their checkpoints, so that forcing one
ends at once (see docs/decisions.md). A run that has not ended always keeps them.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from components.errors import Refusal
from components.runs import journal
from components.runs.description import read_description
from components.runs.journal import COPIES, STAGE_LOG
from components.tracking.mirror import find_unsent_runs

NEWEST = 2
# Fixing the length tells the stage `pretrain-0123456789abcdef` from the recipe `pretrain-bert-0123456789abcdef`.
KEY_LENGTH = 16


def remove_old_checkpoints(runs: Path, name: str, experiment: str) -> list[Path]:
    """Remove checkpoints and sent copies of all but the newest ended runs of a stage or a recipe in the folder `runs`.

    experiment: tells apart a recipe and a stage, or recipes of two families, that share `name`. Return the folders.
    """
    alike = [folder for folder in runs.glob(f"{name}-{'?' * KEY_LENGTH}") if _experiment(folder) == experiment]
    ended = [folder for folder in alike if _has_finished(folder)]
    ended.sort(key=lambda folder: (folder / STAGE_LOG).stat().st_mtime_ns)
    old = ended[:-NEWEST]
    removed = [checkpoint for folder in old for checkpoint in sorted(folder.rglob("checkpoint-*"))]
    removed += [folder / COPIES for folder in old if (folder / COPIES).is_dir() and not find_unsent_runs(folder)]
    for folder in removed:
        shutil.rmtree(folder, ignore_errors=True)
    return removed


def _experiment(folder: Path) -> str | None:
    """Return the experiment of the run in `folder`, or None if it was not described, or its description is damaged."""
    with suppress(FileNotFoundError, Refusal):
        return str(read_description(folder)["experiment"])
    return None


def _has_finished(folder: Path) -> bool:
    """Return whether the run's last record of begin and end is that it finished; a run may begin again."""
    records = journal.read_records(folder / STAGE_LOG, "begin", "end")
    return bool(records) and records[-1].kind == "end" and records[-1].payload["status"] == "FINISHED"
