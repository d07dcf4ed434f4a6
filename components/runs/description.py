"""Describe a run in `run.json`: its name, experiment, parent, parameters, tags and inputs."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

from ..errors import Refusal, first_line
from ..files import check_fields, read_object, write_json

RUN = "run.json"
FIELDS = {
    "id": str,
    "created": int,
    "name": str,
    "experiment": str,
    "params": dict,
    "tags": dict,
    "inputs": list,
}
log = logging.getLogger(__name__)


def describe_run(
    folder: Path,
    name: str,
    experiment: str,
    parent: Path | None = None,
    params: dict[str, Any] | None = None,
    tags: dict[str, str] | None = None,
    inputs: list[dict[str, Any]] | None = None,
    created: int = 0,
) -> None:
    """Write run.json; a run that starts again in its folder keeps its id.

    parent: folder of the run above it. inputs: {name, digest, profile} each. params: flat.
    created: in milliseconds since 1970 (0: now).
    MLflow's parameters are immutable: if some differ from those of the first attempt, run.json keeps the first ones
    and records the others as a further attempt.
    """
    file = folder / RUN
    old: dict[str, Any] = {}
    if file.exists():
        try:
            old = read_description(folder)
        except Refusal as refusal:
            log.warning("%s: the run is described again, under a new id", refusal)
    attempts = old.get("attempts", [])
    params = json.loads(json.dumps(params or {}, default=str))
    if old and (changes := _find_changes(old["params"], params)) != (attempts[-1] if attempts else {}):
        attempts.append(changes)
    facts = {
        "id": old.get("id") or uuid.uuid4().hex,
        "created": old.get("created") or created or time.time_ns() // 1_000_000,
        "name": name,
        "experiment": experiment,
        "parent": os.path.relpath(parent, folder) if parent else None,
        "params": old.get("params", params),
        "attempts": attempts,  # per attempt after the first: {key: [first value, its value]}
        "tags": tags or {},
        "inputs": inputs or [],
    }
    write_json(file, facts)


def read_description(folder: Path) -> dict[str, Any]:
    """Return the content of run.json; refuse a damaged one."""
    file = folder / RUN
    try:
        facts = read_object(file)
        check_fields(facts, FIELDS)
        if (
            "parent" not in facts
            or not isinstance(facts["parent"], str | None)
            or not isinstance(facts.setdefault("attempts", []), list)
        ):
            raise ValueError("'parent' or 'attempts' is of another type")
        return facts
    except ValueError as error:
        raise Refusal(f"{file}: damaged ({first_line(error)}); run the stage again, or delete the folder") from None


def _find_changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        key: [old.get(key), new.get(key)] for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }
