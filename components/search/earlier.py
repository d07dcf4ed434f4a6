"""Find the trials of earlier searches with the same objective, so that a search that changed runs only what is new.

search.json    in a search's folder: its space, its options, and the identity of its objective
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import Refusal
from ..files import read_object, write_json
from .trials import RECORD, Trial, read_trial

SEARCH = "search.json"
Key = tuple[str, str]  # (arm, values as JSON)
log = logging.getLogger(__name__)


def find_searches(folder: Path, identity: str) -> list[Path]:
    """Return the folders beside `folder` of searches whose objective has this identity, oldest first."""
    folders = []
    for file in folder.parent.glob(f"*/{SEARCH}") if identity else ():
        with suppress(Refusal, FileNotFoundError):  # a damaged file has nothing to offer
            if file.parent.name != folder.name and read_object(file).get("identity") == identity:
                folders.append(file.parent)
    return sorted(folders, key=lambda path: (path / SEARCH).stat().st_mtime_ns)


def index_trials(folders: list[Path]) -> dict[Key, Trial]:
    """Return the trials of earlier searches by arm and values; of equal ones, that with the most rungs."""
    trials: dict[Key, Trial] = {}
    for folder in folders:
        for file in folder.glob(f"*/*/{RECORD}"):
            trial = read_trial(file.parent)
            if trial is None or trial.lost:
                continue
            key = trial.arm, _values_key(trial.values)
            if key not in trials or len(trial.parts) > len(trials[key].parts):
                trials[key] = trial
    return trials


def adopt_trial(trials: dict[Key, Trial], arm: str, number: int, values: dict[str, Any], folder: Path) -> bool:
    """Write the record of an earlier trial with these values into `folder`, and return whether there was one to write.

    A record that is there already stays.
    """
    trial = trials.get((arm, _values_key(values)))
    if trial is None or read_trial(folder) is not None:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD, asdict(trial) | {"number": number, "values": values})
    return True


def _values_key(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
