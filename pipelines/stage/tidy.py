"""Runs that ended keep their journals; their checkpoints, nine tenths of what a nightly run adds, go after a while.

An ended run needs none: its weights are the stage's output, its curves are in its journal. The newest `NEWEST` of a
stage or a recipe keep theirs, so that forcing it ends at once (see docs/decisions.md); one that has not ended always
does. Copies of models and pictures for the tracker go with them, if it has them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from components.runs import journal
from components.runs.journal import COPIES, RUN, STAGE_LOG
from components.tracking.mirror import find_unsent_runs

NEWEST = 2
KEY = 16  # letters of a run's key: `pretrain-0123456789abcdef`, but not the recipe `pretrain-bert-0123456789abcdef`


def remove_old_checkpoints(runs: Path, name: str, experiment: str) -> list[Path]:
    """Removes checkpoints, and sent copies, below all but the newest ended runs of a stage or recipe; the folders.

    experiment: tells the recipe transfer/finetune from the stage, and two families' systems of one name.
    """
    alike = [folder for folder in runs.glob(f"{name}-{'?' * KEY}") if _experiment(folder) == experiment]
    ended = [folder for folder in alike if _ended(folder)]
    ended.sort(key=lambda folder: (folder / STAGE_LOG).stat().st_mtime_ns)
    old = [found for folder in ended[:-NEWEST] for found in sorted(folder.rglob("checkpoint-*"))]
    old += [
        folder / COPIES for folder in ended[:-NEWEST] if (folder / COPIES).is_dir() and not find_unsent_runs(folder)
    ]
    for found in old:
        shutil.rmtree(found, ignore_errors=True)
    return old


def _experiment(folder: Path) -> str | None:
    file = folder / RUN
    return json.loads(file.read_text())["experiment"] if file.is_file() else None


def _ended(folder: Path) -> bool:
    """Whether the run's last word is that it finished (one begun again since has a `begin` behind it)."""
    records = journal.read_records(folder / STAGE_LOG, "begin", "end")
    return bool(records) and records[-1].kind == "end" and records[-1].payload["status"] == "FINISHED"
