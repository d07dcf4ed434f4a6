"""Identify what a decision is about: the trained model, its data and the settings of `retrain`."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from components.errors import Refusal, TryLater
from components.files import bytes_digest
from components.recipes import recipe
from components.storage.store import Store
from components.tracking import mirror, server
from components.tracking.registry import Registry, Version
from components.workspace import runs_folder
from pipelines.commands.promotion.ledger import Ledger
from pipelines.flagship import TARGET_AUGMENTED, TARGET_PREPARED, list_models, served_model

SPLIT = "test"  # the held-out examples
PATIENCE = 60.0  # seconds until the registry must show a model that the mirror sent

Params = dict[str, Any]  # content of params.yaml


def decision_key(params: Params, ledger: Ledger) -> str:
    """Return the id of the decision on model, held-out examples and gate as they are now; "" if there is no model."""
    if not list_models("finetuned") or not Path(TARGET_PREPARED, "manifest.json").is_file():
        return ""
    content = recipe.digest([bytes_digest(served_model()), held_out_digest(), settings(params, "gate")])
    return ledger.own_id(content[:12], params["name"])


def held_out_digest() -> str:
    """Return a digest of the held-out examples."""
    return recipe.digest([part["sha256"] for part in Store(TARGET_PREPARED).manifest["splits"][SPLIT]["parts"]])


def wait_for_version(registry: Registry, digest: str) -> Version:
    """Send the runs to the tracking server and return the version whose model has this digest.

    Failures of other runs are ignored. Another process may be sending this run, so wait up to PATIENCE seconds.
    """
    deadline = monotonic() + PATIENCE
    while True:
        failure = None
        try:
            mirror.Mirror(runs_folder()).send()
        except Exception as error:
            failure = server.explain_failure(error)
        version = registry.find_by_digest(digest)
        if version is not None:
            return version
        if monotonic() > deadline:
            if failure is not None:
                raise TryLater(f"the tracker did not take the new model ({failure}); the champion stays as it is")
            raise Refusal(f"{registry.name}: no version with the bytes of {served_model()}; dvc repro --force evaluate")
        sleep(1)


def training_statistics() -> dict[str, Any]:
    """Return the statistics of the training split as it is prepared now."""
    statistics: dict[str, Any] = json.loads((Path(TARGET_AUGMENTED) / "statistics.json").read_text())
    return statistics


def settings(params: Params, name: str) -> dict[str, Any]:
    """Return the section `retrain.NAME` of params.yaml."""
    section: dict[str, Any] = params.get("retrain", {}).get(name, {})
    return section
